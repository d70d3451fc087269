"""Check the videos of a data set, report bad ones, and write copies that load fast, or optical flow.

    python tools/prepare.py ucf101 --root UCF-101 --splits ucfTrainTestlist
    python tools/prepare.py ucf101 --root UCF-101 --splits ucfTrainTestlist --out UCF-101-128
    python tools/prepare.py ucf101 --root UCF-101 --splits ucfTrainTestlist --out UCF-101-flow --flow dis
    python tools/prepare.py kinetics --root videos --splits lists --out videos-128 --slurm 32 slurm_partition=cpu
    python tools/prepare.py kinetics --root videos-128 --splits lists --shards kinetics-shards

Then train with data.root=UCF-101-128; the copies have the names of their sources. The same command continues an
interrupted run. Shards are tar files; train with data.root=kinetics-shards or its URL, and data.splits=null. See
docs/guide/own-videos.md.
"""

import argparse
import re
from pathlib import Path

from videores.data.prepare import commands
from videores.data.video.reencode import EncodingSettings
from videores.runtime import cli

SETTINGS = EncodingSettings()


def main() -> int:
    args = vars(parse_args())
    if args["crf"] is None:
        args["crf"] = SETTINGS.crf if args["flow"] == "none" else 0
    settings = EncodingSettings(*(args.pop(name) for name in ("short_side", "keyframes", "crf", "audio", "flow")))
    return commands.prepare(commands.Options(settings=settings, **args))


def parse_args() -> argparse.Namespace:
    p = cli.make_parser(__doc__)
    p.add_argument("format", choices=commands.FORMATS, help="format of the lists (data.format)")
    p.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the videos, to which paths in lists are relative; of npz the file",
    )
    p.add_argument("--splits", type=Path, metavar="DIR", help="folder of the lists (default: the same folder)")
    p.add_argument(
        "--split", choices=[*"12345", "all"], default="all", help="of the formats that have several (default: all)"
    )
    p.add_argument("--duplicates", action="store_true", help="look for equal videos and for copies")
    p.add_argument("--out", type=Path, metavar="DIR", help="write re-encoded copies here")
    add = lambda name, **how: p.add_argument(f"--{name}", default=getattr(SETTINGS, name.replace("-", "_")), **how)
    add(
        "short-side",
        type=even,
        metavar="PIXELS",
        help="short side of the copies, never enlarged (default: %(default)s)",
    )
    add("keyframes", type=cli.positive, metavar="FRAMES", help="distance of keyframes (default: %(default)s)")
    p.add_argument(
        "--crf", type=quality, help=f"quality of x264, from 0 (lossless) to 51 (default: {SETTINGS.crf}, of flow 0)"
    )
    add("audio", choices=["keep", "drop"], help="(default: %(default)s)")
    add(
        "flow", choices=["none", "dis", "farneback"], help="write optical flow instead of copies (default: %(default)s)"
    )
    p.add_argument("--shards", type=Path, metavar="DIR", help="pack the videos and lists into tar files here")
    p.add_argument("--workers", type=cli.positive, metavar="N", help="number of processes (default: all CPUs)")
    p.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="only the I-th of N parts")
    slurm = dict(nargs="+", default=(), metavar=("N", "key=value"))
    p.add_argument("--slurm", **slurm, help="submit N shards; submitit's parameters follow")
    return p.parse_args()


def even(text: str) -> int:
    if cli.positive(text) % 2:
        raise argparse.ArgumentTypeError(f"must be even, as H.264 asks, got {text}")
    return int(text)


def quality(text: str) -> float:
    if not 0 <= float(text) <= 51:
        raise argparse.ArgumentTypeError(f"must be from 0 to 51, got {text}")
    return float(text)


def shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, got {text}")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    cli.run(main)
