"""Tests a run's best checkpoint under any protocol and writes <run>/test/<protocol>/.

python tools/evaluate.py --run runs/r2plus1d_motion
python tools/evaluate.py --run runs/r2plus1d_ucf101 test.clips=10 test.crops=3
"""

import argparse
from pathlib import Path

from videores import cli, config
from videores.errors import UserError


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="the run folder")
    parser.add_argument("--checkpoint", type=Path, help="test this checkpoint instead of the run's best")
    cli.add_overrides(parser)
    args = parser.parse_intermixed_args()
    if not (args.run / "config.yaml").is_file():
        raise UserError(f"{args.run} is not a run folder: it has no config.yaml")
    cfg = config.load(args.run / "config.yaml", args.overrides)
    from videores import experiment  # here, so that helper processes, which import this file, need not import Lightning

    return experiment.evaluate(cfg, args.run, args.checkpoint)


if __name__ == "__main__":
    cli.run(main)
