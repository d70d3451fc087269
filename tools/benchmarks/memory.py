"""Resident memory over many reads in one process: it must not grow."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.material import Material, Plan
from benchmarks.videos import find_sets
from videores.errors import UserError
from videores.runtime import cli, environment, machine

SAMPLES = 100  # of the memory, evenly over the reads
WARM_UP = 0.1  # share of the reads before which memory may still grow: caches fill, the allocator settles


def add_arguments(parser):
    parser.add_argument("--videos", nargs="+", default=[], metavar="PATH", help="files and folders")
    parser.add_argument("--reads", type=cli.positive, default=10_000, help="training clips (default: 10,000)")
    parser.add_argument("--quick", action="store_true", help="small videos and 200 reads: to see that it works")
    parser.add_argument("--out", type=Path, help="folder of the results (default: results/benchmark/memory)")


def main(args):
    reads = 200 if args.quick else args.reads
    with tempfile.TemporaryDirectory(prefix="videores-benchmark-") as scratch:
        found = find_sets("memory", args.videos, None, Path(scratch), quick=args.quick)
        paths = [path for one in found for path in one.paths]
        at, resident = watch(Material(paths).data_set(Plan()), reads)
    result = {"videos": [path.name for path in paths], **summary(at, resident)}
    save(args.out or Path("results", "benchmark", "memory"), result)
    return 0


def watch(clips, reads):
    """Reads clips of all videos in turn. Returns at how many reads the memory was looked at, and the bytes."""
    at, resident = [0], [resident_bytes()]
    for k in range(reads):
        clips[divmod(k, len(clips))]
        if (k + 1) * SAMPLES // reads > k * SAMPLES // reads:
            at.append(k + 1)
            resident.append(resident_bytes())
    return np.array(at), np.array(resident)


def resident_bytes():
    found = machine.read_resident_memory()
    if found is None:
        raise UserError("benchmark memory reads /proc/self/statm, which this system does not have")
    return found


def summary(at, resident):
    """Mebibytes; the slope is that of a straight line after the warm-up, in KiB per 1,000 reads."""
    settled = at >= at[-1] * WARM_UP
    slope = np.polyfit(at[settled], resident[settled], 1)[0] * 1000 / 2**10
    mebi = resident / 2**20
    named = {"before": mebi[0], "after_warm_up": mebi[settled][0], "after": mebi[-1], "peak": mebi.max()}
    rounded = {f"{name}_MiB": round(float(value), 1) for name, value in named.items()}
    return {"reads": int(at[-1]), **rounded, "slope_KiB_per_1000_reads": round(float(slope), 1)}


def save(folder, result):
    """Writes table.md and results.json, prints the table."""
    about = {"measurement": "memory", "date": environment.format_utc_now(), **report.environment()}
    header, values = (" | ".join(map(str, column)) for column in zip(*list(result.items())[1:], strict=True))
    caption = f"Training clips of {', '.join(result['videos'])} in one process, {report.where(about)}."
    text = f"{caption}\n\n| {header.replace('_', ' ')} |\n|{'---:|' * (len(result) - 1)}\n| {values} |\n"
    report.write(folder, text, {**about, **result})
