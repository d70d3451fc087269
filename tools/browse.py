"""Write sheets and short videos of the model's input: training clips, test views.

    python tools/browse.py --cfg r2plus1d_motion.yaml
    python tools/browse.py --cfg r2plus1d_ucf101.yaml data.augment.randaugment=[2,9] data.augment.mixup=0.8 --videos 8

Training clips are those of the first epoch, with their labels and the numbers of their frames, after augmentation.
"""

from pathlib import Path

from videores.config.parse import load_config
from videores.data import index
from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--cfg", required=True, help="a YAML file: a path, or a name in configs/")
    parser.add_argument(
        "--videos", type=int, default=6, metavar="N", help="number of videos from each list (default: 6)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results/browse/<name of the configuration>")
    cli.add_overrides(parser)
    args = parser.parse_intermixed_args()
    if args.videos < 1:
        parser.error("--videos must be at least 1")
    cfg = load_config(args.cfg, args.overrides)
    index.check_folders_exist(cfg.data)  # before the seconds that importing Lightning takes
    from videores.diagnostics import browse

    return browse.collect_rows(cfg, args.out or Path("results", "browse", Path(args.cfg).stem), args.videos)


if __name__ == "__main__":
    cli.run(main)
