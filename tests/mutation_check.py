"""Inject 20 small faults into core code, one at a time, and run the owning package's tests against each.

    python tests/mutation_check.py [--only NAME ...] [--json FILE]

A fault is caught where a test of tests/<package> fails; the run stops at the first that does. What must not fall from
one commit to the next is the number of faults that are caught. It works on a clone, with the files as they are here.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Fault(NamedTuple):
    name: str
    package: str  # whose tests should notice
    pattern: str  # matches once in the package's sources
    replacement: str


FAULTS = [
    Fault(
        "clip span one frame short", "data", r"\(frames - 1\) \* step \+ 0\.5\)\) \+ 1", r"(frames - 1) * step + 0.5))"
    ),
    Fault("segment centers not mirrored", "data", r"(\w+) = twice > moments", r"\1 = twice >= moments"),
    Fault(
        "height and width swapped in test crops",
        "data",
        r"round\((\w+) \* \(height - crop\)\), round\((\w+) \* \(width - crop\)\)",
        r"round(\1 * (width - crop)), round(\2 * (height - crop))",
    ),
    Fault("one validation group too few", "data", r"share \* len\((\w+)\) \+ 0\.5", r"share * len(\1) - 0.5"),
    Fault("seed lost in the order of an epoch", "data", r"(\w+)\((\w+), self\.seed, epoch\)", r"\1(\2, 0, epoch)"),
    Fault("rank dropped by the training sampler", "data", r"\[:, :, self\.rank\]", "[:, :, 0]"),
    Fault("resume one batch late", "data", r"(\w+)\[done:\]", r"\1[done + 1 :]"),
    Fault(
        "last crop not mirrored",
        "data",
        r"if (\w+) >= len\((\w+)\):\n            view.copy_",
        r"if \1 > len(\2):\n            view.copy_",
    ),
    Fault("top-k counts one more", "evaluation", r"\((\w+) < k\)", r"(\1 <= k)"),
    Fault(
        "ties count as right", "evaluation", r"\(scores_XN >= right_X1\)\.sum\(1\) - 1", "(scores_XN > right_X1).sum(1)"
    ),
    Fault("mean over padded views", "evaluation", r", 0\)\.sum\(1\) / views_V\[\w+, None\]", ", 0).mean(1)"),
    Fault("bootstrap over videos, not groups", "evaluation", r"None if group else number", "number"),
    Fault("weight decay on norms and biases", "training", r'"weight_decay": 0\.0\}', '"weight_decay": weight_decay}'),
    Fault("warm-up one step late", "training", r"return \(step \+ 1\) / \(warmup \+ 1\)", "return step / (warmup + 1)"),
    Fault(
        "average and weights swapped in checkpoints",
        "training",
        r"pair if self\.(\w+) else pair\[::-1\]",
        r"pair[::-1] if self.\1 else pair",
    ),
    Fault("best checkpoint by the lowest score", "training", r"score > self\.best", "score < self.best"),
    Fault(
        "time strides in the first stage too",
        "models",
        r"(\w+)\.time_stride\(i\), 1 if i == 0 else 2",
        r"\1.time_stride(i), 1 if i == 1 else 2",
    ),
    Fault(
        "inner width of (2+1)D",
        "models",
        r"27 \* cin \* cout // \(9 \* cin \+ 3 \* cout\)",
        "27 * cin * cout // (9 * cout + 3 * cin)",
    ),
    Fault("padding of two bf16 frames left to oneDNN", "models", r"\[t == 2 for t in time\]", "[t == 1 for t in time]"),
    Fault("margin ignored where a claim holds", "ablation", r"value >= margin and", "value >= 0 and"),
]


def find_source(root, fault):
    """(path, text with the fault) of the only place that the pattern matches."""
    hits = [
        (path, re.subn(fault.pattern, fault.replacement, path.read_text()))
        for path in sorted((root / "videores").rglob("*.py"))
    ]
    hits = [(path, text, count) for path, (text, count) in hits if count]
    if [count for *_, count in hits] != [1]:
        raise SystemExit(f"{fault.name}: matches {[(str(path), count) for path, _, count in hits]}, expected one place")
    return hits[0][:2]


def run_tests(root, fault):
    """(the first test that failed, or None; seconds)"""
    path, faulty = find_source(root, fault)
    sound, start = path.read_text(), time.monotonic()
    path.write_text(faulty)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{fault.package}"]
    try:
        process = subprocess.run(
            command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True
        )
    finally:
        path.write_text(sound)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{fault.name}: pytest ended with {process.returncode}\n{process.stdout[-2000:]}")
    failed = re.search(r"^FAILED (\S+)", process.stdout, re.M)
    return (failed[1] if failed else None), time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="faults whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes there too")
    args = parser.parse_args()
    chosen = [fault for fault in FAULTS if not args.only or any(word in fault.name for word in args.only)]
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        # a repository, without which some tests would fail for another reason
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        for fault in chosen:
            test, seconds = run_tests(Path(folder), fault)
            outcomes[fault.name] = {"caught": test is not None, "test": test, "seconds": round(seconds)}
            print(f"{'caught' if test else 'MISSED'}  {fault.name}  {test or ''}  {seconds:.0f} s", flush=True)
    print(f"caught {sum(outcome['caught'] for outcome in outcomes.values())} of {len(outcomes)}")
    if args.json:
        args.json.write_text(json.dumps(outcomes, indent=1) + "\n")


if __name__ == "__main__":
    main()
