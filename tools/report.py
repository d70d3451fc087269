"""Write a self-contained HTML page of a run: accuracies, curves, worst mistakes.

python tools/report.py --run runs/r2plus1d_motion
python tools/report.py --run runs/r2plus1d_ucf101 --out page.html data.root=/data/UCF-101     # videos that moved
python tools/report.py --run runs/r2plus1d_motion --csv                # metrics.jsonl as a table too: metrics.csv
"""

from pathlib import Path

from videores.runtime import cli


def main() -> None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--run", required=True, type=Path, help="the run folder")
    parser.add_argument("--out", type=Path, help="output file (default: report.html in the run folder)")
    parser.add_argument("--csv", action="store_true", help="also write metrics.csv")
    cli.add_overrides(parser, "data.root=...")
    args = parser.parse_intermixed_args()
    from videores.reporting import page, plots

    print(f"wrote   {page.write_page(args.run, args.out, args.overrides)}")
    if args.csv:
        print(f"wrote   {plots.write_metrics_csv(args.run)}")


if __name__ == "__main__":
    cli.run(main)
