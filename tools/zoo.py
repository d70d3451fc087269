"""Write a page of trained networks: accuracy with interval and floor, cost, and the command of each run.

python tools/zoo.py runs/a runs/b --out zoo.md     # of your runs; zoo.csv and the records in zoo/ are beside it
python tools/zoo.py --out zoo.md                   # again, from the records: runs that are gone are marked
python tools/zoo.py --docs runs/r3d_motion         # docs/zoo.md of this repository

A run of a name that is there already replaces it. With any run, the networks of all rows are timed in turns.
"""

from pathlib import Path

from videores.errors import UserError
from videores.runtime import cli


def main() -> None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders that are new or newer")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="FILE.md", help="the page")
    where.add_argument("--docs", action="store_true", help="docs/zoo.md, whose rows do not name run folders")
    args = parser.parse_args()
    if args.out and args.out.suffix != ".md":
        raise UserError(f"--out {args.out} must end with .md: the CSV file and the records are beside it")
    from videores.reporting import zoo

    for path in zoo.write_zoo(args.out or zoo.PAGE, args.runs, is_kept=not args.docs):
        print(f"wrote   {path}")


if __name__ == "__main__":
    cli.run(main)
