"""Write a self-contained HTML page of a run, put runs into a table, or compare the accuracy and speed of several.

python tools/report.py --run runs/r2plus1d_motion
python tools/report.py --run runs/r2plus1d_ucf101 --out page.html data.root=/data/UCF-101     # videos that moved
python tools/report.py --run runs/r2plus1d_motion --csv                # metrics.jsonl as a table too: metrics.csv
python tools/report.py --table runs/a-split1 runs/a-split2 runs/b-split1 runs/b-split2      # for a paper
python tools/report.py --pareto runs/a runs/b runs/a/int8.onnx         # tested runs and files, timed in turns

--table writes a row for each configuration, with its splits, the mean over seeds and the floors, as Markdown, CSV and
LaTeX into results/tables/<rows>/. --pareto writes the accuracy of each test and the measured time of a video, into
results/pareto/.
"""

import argparse
from pathlib import Path

from videores.errors import UserError
from videores.runtime import cli


def main() -> None:
    parser = cli.make_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="the run folder")
    what.add_argument("--table", nargs="+", type=Path, metavar="RUN", help="run folders, or test folders of runs")
    what.add_argument("--pareto", nargs="+", type=Path, metavar="RUN", help="run folders and exported files")
    parser.add_argument("--out", type=Path, help="output file (default: report.html in the run folder), or folder")
    parser.add_argument("--csv", action="store_true", help="also write metrics.csv")
    cli.add_overrides(parser, "data.root=...")
    args = parser.parse_intermixed_args()
    if not args.run and (args.csv or args.overrides):
        raise UserError("--table and --pareto do not go with --csv and key=value: drop them")
    if args.table:
        return write_table(args)
    if args.pareto:
        return compare_speed(args)
    from videores.reporting import page, plots

    print(f"wrote   {page.write_page(args.run, args.out, args.overrides)}")
    if args.csv:
        print(f"wrote   {plots.write_metrics_csv(args.run)}")


def write_table(args: argparse.Namespace) -> None:
    from videores.reporting import paper

    folder = args.out or paper.TABLE_FOLDER / paper.name_table(args.table)
    paper.print_table(paper.write_table(args.table, folder), folder)


def compare_speed(args: argparse.Namespace) -> None:
    from videores.reporting import pareto

    folder = args.out or Path("results", "pareto")
    for row in pareto.write_pareto(args.pareto, folder):
        print(f"{row['video_top1']:6.2f} video top-1  {row['video_ms']:9.1f} ms a video  {row['source']}")
    print(f"wrote   {folder}/pareto.csv, pareto.png, pareto.svg")


if __name__ == "__main__":
    cli.run(main)
