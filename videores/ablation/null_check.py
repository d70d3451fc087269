"""Write docs/ablations/null.md: how often the rule of assertions is wrong, and how many seeds it needs."""

from pathlib import Path

from videores.ablation import docs, plots, spec, tables
from videores.ablation.null_rows import MARGIN, SHAPES, SIMULATIONS, compare_seeds, list_row_pairs, simulate_nulls
from videores.errors import UserError

TABLE = "c00_null"  # one row of many seeds
LEAST_SEEDS = 24
SEEDS = (2, 3, 4, 5, 6, 8, 10, 12)  # of a row
MORE_SEEDS = (16, 24, 32, 48)  # of simulated rows, of which there are a fifth as many
WIDE = 10  # points: the spread over seeds from which rows are simulated apart
DIFFERENCES = (3, 5, 10)  # points
POWER = 80  # per cent, of the number of seeds that a difference needs


def write_null_check(folder: Path = docs.DOCS, simulations: int = SIMULATIONS) -> int:
    """Write null.md and its figure from the committed cells, and print it."""
    cells = tables.load_cells(folder / TABLE)
    if len(cells) < LEAST_SEEDS:
        raise UserError(
            f"{folder / TABLE}/cells must have at least {LEAST_SEEDS} seeds, got {len(cells)}: run --table {TABLE}"
        )
    names = [name for name in spec.list_tables() if name != TABLE]
    pairs = list_row_pairs({name: tables.load_cells(folder / name) for name in names})
    real = {column: {n: compare_seeds(cells, n, column) for n in SEEDS} for column in ("video", "gap", "train_loss")}
    made = {shape: {n: simulate_nulls(pairs, n, shape, simulations) for n in SEEDS} for shape in SHAPES}
    wide = [pair for pair in pairs if max(row_SG.mean(1).std(ddof=1) for row_SG in pair) >= WIDE]
    widest = {shape: {n: simulate_nulls(wide, n, shape, simulations) for n in SEEDS} for shape in SHAPES}
    more = {n: simulate_nulls(pairs, n, "normal", simulations // 5) for n in MORE_SEEDS}
    panels = {f"{len(cells)} seeds of one row": real["video"], "spreads of the committed cells": made["normal"] | more}
    powers = {title: _compute_powers(nulls) for title, nulls in panels.items()}
    plots.plot_power(folder / "power.png", powers, POWER)
    text = _build_page(real, made, widest, powers, {"seeds": len(cells), "pairs": len(pairs), "wide": len(wide)})
    (folder / "null.md").write_text(text)
    print(text)
    return 0


# The page


def _compute_powers(nulls):
    """Return {difference: share (%) of claims that hold, for each number of seeds}."""
    return {d: {n: null.count_outcomes(d)[0] for n, null in nulls.items()} for d in DIFFERENCES}


PAGE = """# The rule on equal rows

How often [the rule](rule.md) says `holds` or `fails` of rows that are equal, and how many seeds it needs to find a
difference. The largest share of false outcomes is {WORST:.1f} %; the bound is 5 %. Among rows that spread much over
seeds alone, it is {WIDE_WORST:.1f} % ([below](#where-it-is-wrong-more-often)).

* **{CELLS} seeds** of the row of [{TABLE}]({TABLE}/README.md). Two disjoint groups of its seeds are compared as if they
  were rows: all pairs of groups of 2 and 3 seeds, random ones of more (seeds: pairs; {COUNTS}).
* **Simulated** rows, {SIMULATIONS:,} pairs for each number of seeds, with the spreads over seeds, groups and both of
  {PAIRS} pairs of committed rows. Spreads over seeds are normal or of two values: seeds that learn and seeds that do
  not.

## False outcomes

Share of false `holds` / false `fails` / false `holds` of `within` (%), the last for rows that differ by exactly the
margin of {MARGIN} points. Training losses have no error over groups, and no such margin.

{SHARES}

## Where it is wrong more often

The same for the {WIDE} pairs of which a row spreads by {SPREAD} points or more over its seeds. If such a row has seeds
that learn and seeds that do not, two or three seeds are often of one kind by chance, and no rule can see it from them.
So pages mark rows that have not learnt.

{WIDE_SHARES}

## Seeds that a difference needs

[![share of true differences that hold, by the number of seeds](power.png)](power.svg)

Fewest seeds a row with which {POWER} % of the claims hold if rows differ by so much, and the margin is 0:

{NEED}

More seeds do not reduce the error over groups of test videos, so small differences also need larger test lists.

`python tools/ablate.py --null` writes this page.
"""


def _build_page(real, made, widest, powers, counted):
    find_worst = lambda tables: max(max(null.count_outcomes()[:2]) for nulls in tables for null in nulls.values())
    of_seeds = [_format_shares(f"{counted['seeds']} seeds, {column}", nulls) for column, nulls in real.items()]
    of_simulated, of_wide = (
        [_format_shares(f"simulated, {shape}", nulls) for shape, nulls in simulated.items()]
        for simulated in (made, widest)
    )
    need = [[title, *map(_find_needed_seeds, by_difference.values())] for title, by_difference in powers.items()]
    seeds = [f"{n} seeds" for n in SEEDS]
    return PAGE.format(
        WORST=find_worst([*real.values(), *made.values()]),
        WIDE_WORST=find_worst(widest.values()),
        CELLS=counted["seeds"],
        TABLE=TABLE,
        COUNTS=", ".join(f"{n}: {len(null.value_P):,}" for n, null in real["video"].items()),
        SIMULATIONS=len(made["normal"][SEEDS[0]].value_P),
        PAIRS=counted["pairs"],
        MARGIN=MARGIN,
        SHARES=_format_table(seeds, [*of_seeds, *of_simulated]),
        WIDE=counted["wide"],
        SPREAD=WIDE,
        WIDE_SHARES=_format_table(seeds, of_wide),
        POWER=POWER,
        NEED=_format_table([f"{d} points" for d in DIFFERENCES], need),
    )


def _format_table(headings, lines):
    lines = [["rows", *headings], ["---"] * (1 + len(headings)), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _format_shares(name, nulls):
    texts = []
    for null in nulls.values():
        shares = [*null.count_outcomes()[:2], null.count_outcomes(MARGIN)[2]]
        texts.append(" / ".join(f"{share:.1f}" for share in shares[: 2 if "loss" in name else 3]))
    return [name, *texts]


def _find_needed_seeds(power):
    return next((str(n) for n, share in power.items() if share >= POWER), f"more than {max(power)}")
