"""What the measurements of loading share: arguments, videos, one core, the files that are written."""

import tempfile
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import held
from benchmarks.material import Plan
from benchmarks.videos import find_sets
from videores.config import parse
from videores.runtime import cli


def add_arguments(parser):
    parser.add_argument("--videos", nargs="+", default=[], metavar="PATH", help="files, a row each, and folders")
    parser.add_argument("--cfg", help="clips, sizes and, without --videos, training videos of this configuration")
    parser.add_argument("--rounds", type=cli.positive, default=5, help="the median is over these (default: 5)")
    parser.add_argument(
        "--cores",
        choices=("one", "all"),
        default="one",
        help="one (default): the process stays on one core, where every library runs one thread; all: torch alone is "
        "held to one thread, as in a DataLoader's worker, and others' decoders start as many as they do by themselves",
    )
    parser.add_argument("--prepared", action="store_true", help="measure prepared copies of the given videos too")
    parser.add_argument("--quick", action="store_true", help="small videos and two rounds: to see that it works")
    parser.add_argument("--out", type=Path, help="folder of the results (default: results/benchmark/<what>)")


def rounds_of(args):
    return 2 if args.quick else args.rounds


def run(args, name, measure):
    """Measures each row, prints it and writes the results. `measure(video set, plan, scratch folder)` returns a Row."""
    cfg = parse.load_config(args.cfg) if args.cfg else None
    plan = Plan.of(cfg) if cfg else Plan()
    rows = []
    with tempfile.TemporaryDirectory(prefix="videores-benchmark-") as scratch, held(args.cores == "one"):
        for found in find_sets(name, args.videos, cfg, Path(scratch), prepared=args.prepared, quick=args.quick):
            rows.append(measure(found, plan, Path(scratch)))
            print(f"measured {found.name}", flush=True)
    settings = {"protocol": plan.protocol(name), "cores": args.cores, "rounds": rounds_of(args), "seed": plan.seed}
    report.save(args.out or Path("results", "benchmark", name), name, settings, rows)
    return 0
