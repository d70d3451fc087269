"""Find a learning rate: raise it step by step and plot the loss.

    python tools/find_lr.py --cfg r2plus1d_motion.yaml
    python tools/find_lr.py --cfg r3d_ucf101.yaml --steps 300 --highest 1 data.root=/data/UCF-101

Uses the configuration's videos, network and optimizer, with its seed and the next one, and says how far the two are
apart. Writes results/find_lr/<name>/lr.png, lr.svg and lr.csv, and no run folder. The learning rate is for the batch
size of the configuration.
"""

from pathlib import Path

from videores.config.parse import load_config
from videores.data import index
from videores.errors import UserError
from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--cfg", required=True, help="a YAML file: a path, or a name in configs/")
    parser.add_argument("--lowest", type=float, default=1e-6, help="first learning rate (default: 1e-6)")
    parser.add_argument("--highest", type=float, default=10.0, help="last learning rate (default: 10)")
    parser.add_argument("--steps", type=int, default=100, help="number of steps, at least 20 (default: 100)")
    cli.add_overrides(parser)
    args = parser.parse_intermixed_args()
    if not 0 < args.lowest < args.highest or args.steps < 20:
        raise UserError("--lowest must be > 0 and < --highest, and --steps >= 20")
    cfg = load_config(args.cfg, args.overrides)
    index.check_folders_exist(cfg.data)
    with cli.import_quickly():
        from videores.diagnostics import lr_finder

    folder = Path("results", "find_lr", Path(args.cfg).stem)
    return lr_finder.find_lr(cfg, folder, args.lowest, args.highest, args.steps)


if __name__ == "__main__":
    cli.run(main)
