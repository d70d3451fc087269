"""Train a network, test its best checkpoint, and write a run folder.

    python tools/train.py --cfg r2plus1d_motion.yaml
    python tools/train.py --cfg r3d_ucf101.yaml data.root=/data/UCF-101 trainer.devices=8
    python tools/train.py --cfg r3d_ucf101.yaml data.split=all --seeds 0,1,2     # all splits and seeds, and their table

The same command runs on one CPU, several processes or GPUs (trainer.devices=N), and under torchrun and SLURM's srun:
docs/guide/distributed.md.
"""

import argparse

from videores.config.parse import load_config
from videores.config.schema import Config
from videores.data import index
from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--cfg", required=True, help="a YAML file: a path, or a name in configs/")
    parser.add_argument(
        "--seeds", type=cli.numbers, default=(), help="one run for each, e.g. 0,1,2 (default: run.seed)"
    )
    cli.add_overrides(parser)
    args = parser.parse_intermixed_args()
    cfg = load_config(args.cfg, args.overrides)
    index.check_folders_exist(cfg.data)  # before the seconds that importing Lightning takes
    if args.seeds or cfg.data.split == "all":
        return train_repeats(args, cfg)
    with cli.import_quickly():
        from videores import run  # here, so that helper processes, which import this file, need not import Lightning

    return run.train(cfg, args.cfg)


def train_repeats(args: argparse.Namespace, cfg: Config) -> int:
    """Train and test each split and seed by a process of its own, then write their table."""
    with cli.import_quickly():
        from videores.ablation import executors
        from videores.evaluation.protocol import format_protocol, slugify
        from videores.reporting import paper
        from videores.training import repeats, run_folder

    planned, codes = repeats.plan_repeats(args.cfg, args.overrides, args.seeds), list[int]()
    for repeat, code in zip(planned, [repeats.find_exit_status(repeat) for repeat in planned], strict=True):
        print(f"run     {repeat.folder}{'' if code is None else ': finished before'}", flush=True)
        codes.append(executors.run_tool([__file__, "--cfg", args.cfg, *repeat.overrides]) if code is None else code)
        if codes[-1] not in (0, 1):
            return codes[-1]
    folder = paper.TABLE_FOLDER / run_folder.resolve_run_folder(cfg, args.cfg).name
    tests = [repeat.folder / "test" / slugify(format_protocol(repeat.cfg)) for repeat in planned]
    paper.print_table(paper.write_table(tests, folder), folder)
    return max(codes)


if __name__ == "__main__":
    cli.run(main)
