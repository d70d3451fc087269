"""Looks at a data set, reports what is bad, and re-encodes it, on request, to be small and quick to read.

    python tools/prepare.py ucf101 --root UCF-101 --splits ucfTrainTestlist
    python tools/prepare.py ucf101 --root UCF-101 --splits ucfTrainTestlist --out UCF-101-128
    python tools/prepare.py kinetics --root videos --splits lists --out videos-128 --slurm 32 slurm_partition=cpu

Then train with data.root=UCF-101-128: the copies have their sources' names. An interrupted run is continued by the same
command. See docs/preparation.md.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from videores.config import parse
from videores.data import formats, index, manifest
from videores.data.prepare import copies as prepare
from videores.data.prepare import survey
from videores.data.synthetic import datasets
from videores.data.video import reencode
from videores.errors import UserError
from videores.runtime import cli, machine, slurm

FORMATS = [name for name in formats.READERS if name not in datasets.SETS]
DEFAULT_SETTINGS = reencode.EncodingSettings()
BAD_VIDEO_COLUMNS = ("file", "what is wrong")
MAX_PRINTED_ROWS = 20  # bad files that are printed


def main():
    args = build_parser().parse_args()
    check_args(args)
    lists = survey.read_all_lists(args.format, args.root, args.splits, args.split)
    paths = [
        p
        for p in survey.count_listed(lists)
        if args.format not in index.INCOMPLETE_FORMATS or (args.root / p).is_file()
    ]
    if args.out:
        prepare.check_target(args.root, args.out, paths)
    if args.slurm:
        return submit_shards(args)
    mine = prepare.select_shard(paths, args.shard)
    infos, bad = manifest.probe_all(args.root, mine, cache=make_shard_cache_path(args), workers=args.workers)
    print_survey(args, lists, infos)
    if args.out:
        bad |= copy_dataset(args, lists, paths, infos, bad)
    wrong = [*bad.items(), *find_duplicates(args, lists, infos)]
    report_bad_videos(args, wrong)
    return 1 if wrong else 0


def build_parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("format", choices=FORMATS, help="the format of its lists (data.format)")
    p.add_argument("--root", type=Path, required=True, metavar="DIR", help="the videos: the lists' paths begin here")
    p.add_argument("--splits", type=Path, metavar="DIR", help="the lists (default: the same folder)")
    p.add_argument("--split", choices=["1", "2", "3", "all"], default="all", help="of ucf101 and hmdb51 (default: all)")
    p.add_argument("--duplicates", action="store_true", help="look for equal videos in two lists of a split")
    p.add_argument("--out", type=Path, metavar="DIR", help="write re-encoded copies here")
    p.add_argument(
        "--short-side", type=even, default=DEFAULT_SETTINGS.short_side, metavar="PIXELS", help="%(default)s; never up"
    )
    p.add_argument(
        "--keyframes", type=positive, default=DEFAULT_SETTINGS.keyframes, metavar="FRAMES", help="apart: %(default)s"
    )
    p.add_argument("--crf", type=quality, default=DEFAULT_SETTINGS.crf, help="x264's, 0 (lossless) to 51: %(default)s")
    p.add_argument("--audio", choices=["keep", "drop"], default=DEFAULT_SETTINGS.audio, help="(default: %(default)s)")
    p.add_argument("--workers", type=positive, metavar="N", help="processes at work (default: all processors)")
    p.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="the I-th of N parts only")
    p.add_argument(
        "--slurm", nargs="+", metavar=("N", "key=value"), help="submit N shards; submitit's parameters follow"
    )
    return p


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def even(text):
    if positive(text) % 2:
        raise argparse.ArgumentTypeError(f"{text} is odd, and H.264 needs even sizes")
    return int(text)


def quality(text):
    if not 0 <= float(text) <= 51:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 51")
    return float(text)


def shard(text):
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N")
    return int(match[1]), int(match[2])


def check_args(args):
    for name, folder in (("--root", args.root), ("--splits", args.splits or args.root)):
        if not folder.is_dir():
            raise UserError(f"{name}: there is no folder {folder}")
    sharded = args.slurm or args.shard != (1, 1)
    if sharded and not args.out:
        raise UserError("--shard and --slurm are about copies: give --out too")
    if sharded and args.duplicates:
        raise UserError("--duplicates compares all videos: ask for it without --shard and --slurm")
    if args.slurm and args.shard != (1, 1):
        raise UserError("--slurm makes the shards: leave --shard out")


def build_settings(args):
    return reencode.EncodingSettings(args.short_side, args.keyframes, args.crf, args.audio)


def make_shard_cache_path(args):
    """Shards have a cache each: probing locks it."""
    return args.out / prepare.LEDGER_DIR / prepare.format_shard(args.shard) if args.shard != (1, 1) else None


# -- what it says -----------------------------------------------------------------------------------------------------


def print_survey(args, lists, infos):
    if args.shard == (1, 1):
        print(
            *survey.format_table(survey.count_readable(lists, infos), ("split", "list", "listed", "there", "readable")),
            "",
            sep="\n",
        )
    if infos:
        print(*survey.format_table(survey.count_traits(infos), ("readable videos", f"{len(infos):,}")), "", sep="\n")


def find_duplicates(args, lists, infos):
    if not args.duplicates:
        return []
    rows = survey.find_duplicates(lists, infos)
    print(f"{len(rows):,} pair{'s' * (len(rows) != 1)} of videos with equal frames in two lists of a split")
    return [(a, f"equals {b}, in {part} and {other} of split {n}") for n, part, a, other, b in rows]


def report_bad_videos(args, wrong):
    if args.shard != (1, 1):
        path = args.out / prepare.LEDGER_DIR / f"{prepare.format_shard(args.shard)}.bad.csv"
    else:
        path = args.out / "bad.csv" if args.out else manifest.find_manifest_path(args.root).with_suffix(".bad.csv")
    survey.write_csv(path, wrong, BAD_VIDEO_COLUMNS)
    if wrong:
        more = [f"... and {len(wrong) - MAX_PRINTED_ROWS:,} more"] if len(wrong) > MAX_PRINTED_ROWS else []
        print(
            *survey.format_table(wrong, BAD_VIDEO_COLUMNS)[: MAX_PRINTED_ROWS + 1],
            *more,
            f"wrote {path}: {len(wrong):,} rows",
            sep="\n",
        )


# -- copies -----------------------------------------------------------------------------------------------------------


def copy_dataset(args, lists, paths, infos, bad):
    """Makes the copies. Returns {path: reason} of the videos that have none."""
    settings = build_settings(args)
    workers = args.workers or machine.count_cpus()
    failed = prepare.prepare_copies(args.root, args.out, infos, bad, settings, shard=args.shard, workers=workers)
    if args.format != "folder":
        prepare.copy_lists(args.root, args.splits, args.out)
    found = prepare.summarize_copies(args.root, args.out, paths, settings)
    if found is None:
        print(f"shard {'{}/{}'.format(*args.shard)} is done; the last one to end writes {args.out}/prepared.json")
    else:
        found["videos"] = {"expected": survey.count_expected(lists), **found["videos"]}
        report_preparation(args, {"format": args.format, **found})
    return failed


def report_preparation(args, found):
    path = prepare.save_summary(args.out, found)
    if args.shard != (1, 1):
        survey.write_csv(args.out / "bad.csv", sorted(found["bad"].items()), BAD_VIDEO_COLUMNS)
    n, size = found["videos"], found["bytes"]
    before, after = (f"{size[what] / 1e6:,.1f} MB" for what in ("sources", "copies"))
    print(f"prepared {n['prepared']:,} of {n['expected']:,} videos, {found['frames']:,} frames: {before} -> {after}")
    print(f"wrote {args.out} (train with data.root={args.out}) and {path}")


def submit_shards(args):
    count, *options = args.slurm
    values = {"cpus_per_task": args.workers} if args.workers else {}
    for option in options:
        parse.apply_override(values, option)
    commands = [build_shard_command(args, f"{number}/{count}") for number in range(1, parse_shard_count(count) + 1)]
    logs = args.out.resolve() / prepare.LEDGER_DIR / "slurm"
    logs.mkdir(parents=True, exist_ok=True)
    jobs = slurm.submit(commands, logs, values)
    print(f"submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs[:8])}{', ...' * (len(jobs) > 8)}")
    print(f"wrote their logs to {logs}; the last one to end writes {args.out}/prepared.json")
    return 0


def parse_shard_count(count):
    try:
        return positive(count)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--slurm: {error}") from None


def build_shard_command(args, part):
    names = ("root", "splits", "split", "out", "short_side", "keyframes", "crf", "audio", "workers")
    values = {name: getattr(args, name) for name in names}
    given = {k: v.resolve() if isinstance(v, Path) else v for k, v in values.items() if v is not None}
    options = [text for k, v in given.items() for text in (f"--{k.replace('_', '-')}", str(v))]
    return [sys.executable, os.path.abspath(__file__), args.format, *options, "--shard", part]


if __name__ == "__main__":
    cli.run(main)
