"""Measure clips, test views, the probe and memory anew, and write the tables into the page of the documentation.

For an idle machine, on a clean commit: the page names it.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

from videores.errors import UserError
from videores.runtime import files

TOOL = Path(__file__).parents[1] / "benchmark.py"
PAGE = Path(__file__).parents[2] / "docs" / "background" / "benchmark-loader.md"
MEASUREMENTS = {  # part of the page -> options, with which all take some 8 minutes
    "loader": ["--clips", "8", "--rounds", "3"],
    "test": ["--rounds", "3"],
    "probe": [],
    "memory": [],
}
WIDTH = 120  # columns of a line of text


def add_arguments(parser):
    parser.add_argument("--quick", action="store_true", help="small videos and few rounds: to see that it works")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page (default: the one of the documentation)")
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark"), help="folder of the results")


def main(args):
    """Each measurement runs in a process of its own, and what it found is on the page before the next one begins."""
    for name, options in MEASUREMENTS.items():
        more = ["--quick"] if args.quick else options
        subprocess.run([sys.executable, TOOL, name, *more, "--out", args.out / name], check=True)
        write_part(args.page, name, (args.out / name / "table.md").read_text())
    print(f"wrote the tables into {args.page}")
    return 0


def write_part(page, name, text):
    """Puts the paragraphs of a table.md between the marks of their part; raises UserError where there are none."""
    before, start, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    if not end:
        raise UserError(f"{page}: it needs the lines <!-- {name} --> and <!-- end of {name} -->; write them")
    files.write_text(page, f"{before}{start}\n{wrap(text)}\n\n{end}{after}")


def wrap(text):
    """The same paragraphs in lines of at most WIDTH characters; tables stay as they are."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(part if part.startswith("|") else textwrap.fill(part, WIDTH) for part in paragraphs)
