"""Run an ablation table: train, test or measure its rows, and judge its assertions.

    python tools/ablate.py --table c01_conv_type --scale cpu
    python tools/ablate.py --table c01_conv_type --scale cpu --rows "R3D motion8" --seeds 0
    python tools/ablate.py --table c01_conv_type --scale full --dry-run          # needs no data
    python tools/ablate.py --table c01_conv_type --scale full --launcher slurm --slurm timeout_min=600
    python tools/ablate.py --table all --scale smoke                              # test the set-up
    python tools/ablate.py --docs                                                 # docs/ablations, results and claims
    python tools/ablate.py --null                                                 # how often claims hold by chance

A table is a file of configs/ablations/. Rows with a result are not computed again, so an interrupted sweep continues.
Writes results/<table>/<scale>/; docs/ablations/README.md explains the result.
"""

import argparse
from pathlib import Path
from typing import Any

from videores.ablation.spec import SCALES, list_tables, read_table
from videores.config import parse
from videores.errors import UserError
from videores.runtime import cli


def main() -> int:
    args = parse_args()
    if args.docs:
        from videores.ablation import claims_page, docs, results_page

        docs.write_docs()
        results_page.write_results()
        claims_page.write_claims()
        return 0
    if args.null:
        from videores.ablation import null_check

        return null_check.write_null_check()
    names = list_tables() if args.table == "all" else [args.table]
    by_name = {Path(name).stem: read_table(name) for name in names}
    from videores.ablation import commands  # torch takes seconds to import

    options = dict(rows=args.rows, seeds=args.seeds)
    if args.dry_run:
        for name, table in by_name.items():
            commands.dry_run(name, table, args.scale, **options)
        return 0
    options |= dict(fresh=args.fresh, reuse=args.reuse, slurm=parse_slurm_options(args))
    return max(
        commands.run_table(name, table, args.scale, judge=args.judge, **options) for name, table in by_name.items()
    )


def parse_args() -> argparse.Namespace:
    parser = cli.make_parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", help="a name in configs/ablations/, a path, or all")
    which.add_argument("--docs", action="store_true", help="write docs/ablations/, results.md, claims.md from results")
    which.add_argument("--null", action="store_true", help="write docs/ablations/null.md: the rule on equal rows")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="(default: cpu)")
    parser.add_argument("--seeds", type=cli.numbers, help="for example 0,1,2 (default: those of the table)")
    parser.add_argument(
        "--rows", type=cli.words, help="only these rows, separated by commas, and the rows that they need"
    )
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local")
    parser.add_argument(
        "--slurm",
        nargs="+",
        metavar="key=value",
        help="parameters of submitit; cluster=local runs jobs on this machine",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and list the rows, compute nothing")
    parser.add_argument("--assert", dest="judge", action="store_true", help="exit with 1 if an assertion fails")
    before = parser.add_mutually_exclusive_group()
    before.add_argument("--fresh", action="store_true", help="compute everything again")
    before.add_argument("--reuse", action="store_true", help="accept results of other versions of the code")
    return parser.parse_args()


def parse_slurm_options(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return submitit's parameters; None for the local launcher."""
    if args.launcher == "local":
        if args.slurm:
            raise UserError("--slurm needs --launcher slurm: give both or neither")
        return None
    values: dict[str, Any] = {}
    for option in args.slurm or ():
        parse.apply_override(values, option)
    return values


if __name__ == "__main__":
    cli.run(main)
