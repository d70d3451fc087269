"""Probe a trained run: does it use the order of frames, how robust is it, can its heat maps be trusted?

python tools/probe.py --run runs/r2plus1d_motion                       # all parts
python tools/probe.py --run runs/r2plus1d_ucf101 --only orders         # frames shuffled, reversed, frozen, ...
python tools/probe.py --run runs/r2plus1d_ucf101 --only corruptions --severities 1,3,5 test.clips=1

Writes <run>/probe/<protocol>/, which the run's report shows. Tests are ordinary ones, under <run>/test/.
docs/guide/probes.md defines every number.
"""

import argparse
from pathlib import Path

from videores.config.parse import load_config
from videores.errors import UserError
from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--run", required=True, type=Path, help="the run folder")
    parser.add_argument("--only", type=words, metavar="PARTS", help="of orders, corruptions, responses, maps")
    parser.add_argument("--severities", type=severities, default=(1, 2, 3, 4, 5), help="(default: 1,2,3,4,5)")
    parser.add_argument("--methods", type=words, help="whose maps are checked (default: gradcam,layercam)")
    parser.add_argument("--videos", type=cli.positive, default=64, help="for responses and maps (default: 64)")
    parser.add_argument("--out", type=Path, help="output folder (default: in the run folder)")
    cli.add_overrides(parser, "test.clips=1")
    args = parser.parse_intermixed_args()
    if not (args.run / "config.yaml").is_file():
        raise UserError(f"--run {args.run} must be a run folder, it has no config.yaml: give runs/<name>")
    cfg = load_config(args.run / "config.yaml", args.overrides)
    with cli.import_quickly():
        from videores.diagnostics import probes

    options = dict(severities=args.severities, videos=args.videos, out=args.out)
    return probes.probe_run(cfg, args.run, args.only or probes.PARTS, methods=args.methods or probes.METHODS, **options)


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def severities(text: str) -> tuple[int, ...]:
    numbers = tuple(map(int, words(text)))
    if not numbers or not set(numbers) <= {1, 2, 3, 4, 5}:
        raise argparse.ArgumentTypeError(f"must be of 1,2,3,4,5, got {text}")
    return numbers


if __name__ == "__main__":
    cli.run(main)
