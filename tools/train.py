"""Train a network, test its best checkpoint, and write a run folder.

    python tools/train.py --cfg r2plus1d_motion.yaml
    python tools/train.py --cfg r3d_ucf101.yaml data.root=/data/UCF-101 trainer.devices=8

The same command runs on one CPU, several processes or GPUs (trainer.devices=N), and under torchrun and SLURM's srun:
docs/guide/distributed.md.
"""

from videores.config.parse import load_config
from videores.data import index
from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--cfg", required=True, help="a YAML file: a path, or a name in configs/")
    cli.add_overrides(parser)
    args = parser.parse_intermixed_args()
    cfg = load_config(args.cfg, args.overrides)
    index.check_folders_exist(cfg.data)  # before the seconds that importing Lightning takes
    with cli.import_quickly():
        from videores import run  # here, so that helper processes, which import this file, need not import Lightning

    return run.train(cfg, args.cfg)


if __name__ == "__main__":
    cli.run(main)
