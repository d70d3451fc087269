"""Write docs/ablations/README.md: every table there is or should be, its outcomes, and what it lacks."""

from videores.ablation import changes, plan, provenance, tables
from videores.runtime.tables import format_markdown_table

MOST_NAMES = 4  # rows that the index names; of more it gives the number

HEAD = """# Ablation tables

Each table asks one question and answers it with rows that differ in one thing. A table is the file
`configs/ablations/<table>.yaml`: rows, assertions about the result, and three scales. `smoke` tests the set-up, `cpu`
takes half an hour to two hours of a core on the embedded data sets (c06, c10 and c20 also on UT-Interaction), and
`full` uses UCF101, HMDB51 and Kinetics on GPUs. [Format of ablation tables](../reference/ablation-tables.md) describes
the file.

## Tables

{TABLES}

`python tools/ablate.py --docs` writes these pages from the cells that are committed beside them.

## Run a table

```sh
python tools/ablate.py --table c01_conv_type --scale cpu          # results/c01_conv_type/cpu/
python tools/ablate.py --table c01_conv_type --scale cpu --rows "R3D motion8" --seeds 0,1,2
python tools/ablate.py --table c01_conv_type --scale full --dry-run
```

* **Cells.** A cell is a row with a seed: an ordinary run (`train`), another test of a run (`test`), what
  `tools/probe.py` finds in it (`probe`), the cost of a network (`measure`), the reading of clips (`decode`), a network
  made smaller (`compress`), or the fused scores of several runs (`fuse`). It is computed once, whichever tables need
  it, in `results/runs/<key>/`, with its output in `<key>.log`. An interrupted sweep continues. A failed cell is shown
  as failed, does not stop others, and is tried again the next time.
* **Code changes.** Cells computed by another version of the code are rejected. `--fresh` computes them again, `--reuse`
  accepts them.
* **SLURM.** `--launcher slurm` runs each cell as a job of one array (`pip install 'videores[slurm]'`).
  `--slurm key=value` sets parameters of submitit. `--slurm cluster=local` runs the jobs on this machine. Only the local
  executor was run, never a cluster.
* **Exit codes.** 0: done. 1: a cell has no result or, with `--assert`, an assertion fails. 2: wrong input. Others are
  those of all tools.
* **Forecast.** The time is measured on 20 training steps of the cheapest and of the most expensive cell, and follows
  for the others from counted multiply-adds. There is no forecast for `--launcher slurm`, whose jobs run elsewhere.

## How assertions are judged

The scale `cpu` can show an order of rows, not absolute numbers. An assertion **holds** if its difference exceeds the
margin significantly, with the error over seeds and over groups of test videos together. It **fails** if it falls short
of it significantly. Everything else is **inconclusive**, as is everything with one seed. An assertion that can be
proved (`hard`) must hold for every seed.

* [The rule](rule.md): its formulae and sources.
* [The rule on equal rows](null.md): how often it is wrong, and how many seeds it needs. `--null` writes it.
* [Before and after](before-after.md): the outcomes that this rule, or new runs, changed.

A row has not learnt if a seed's training accuracy is below `learnt` (90 % by default). Pages mark such rows, and the
claims that rest on them.

A failed assertion stays in the table: tables are not tuned until they agree. A table is run again with another recipe
only if its control row (`control`, by default the first) has not learnt. `--docs` refuses all else, keeps the former
result in `former/` and links it.

## What is missing

The last column of the list above names rows and seeds without a result, and results of **other code**: the code that
can change a result differs from the present one, so numbers may change when the table is run again.
[Results](../results.md) has them all. The tables do not ask for these rows and columns:

Rows: a projection without a norm (c03); frozen norms at each batch size, SyncBN at scale `cpu` (c08); a batch of 256
(c13); 4 and 8 processes at scale `cpu` (c14); whole blocks pruned, temperatures and weights of distillation (c15);
H.264 at several rates (c17: JPEG in its place); medical volumes and gestures (c19; [volumes](../guide/volumes.md) has
the former). Columns: steps or epochs until an accuracy is reached (c02, c06); milliseconds of training, of bf16 or of a
GPU (c07), of a shortcut (c03), of decoding (c12) and of views (c10); hours (c09: clips/s).
"""


def build_index(read: dict, there: dict, scale: str) -> str:
    """Return the page of the tables {name: table}, of which `there` has the committed cells of some."""
    header = ("table", "question", "assertions", "rows not learnt", "run", "missing")
    rows = [_format_table(name, about, there.get(name, ()), scale) for name, about in read.items()]
    return HEAD.replace("{TABLES}", format_markdown_table(header, rows))


def _format_table(name, about, cells, scale):
    if not cells:
        return name, about.question, "", "", "", "**not run yet**"
    days = ", ".join(provenance.list_days(cells))
    missing = [*list_missing_rows(about, cells, scale), *name_other_code(cells)]
    link, (unlearnt, rows) = f"[{name}]({name}/README.md)", count_unlearnt(about, cells)
    return link, about.question, format_outcomes(about, cells, scale), f"{unlearnt} of {rows}", days, "; ".join(missing)


def format_outcomes(about, cells, scale: str) -> str:
    """Format how many assertions of a table hold, are inconclusive and fail."""
    return changes.format_counts(one["outcome"] for one in tables.judge_table(about, scale, cells))


def count_unlearnt(about, cells) -> tuple[int, int]:
    """Count the rows of a table that have not learnt, and all that it has."""
    rows = tables.summarize_rows(about, cells)
    return sum(bool(row["unlearnt"]) for row in rows), len(rows)


def list_missing_rows(about, cells, scale: str) -> list[str]:
    """List the rows of a table that have no result, or none with some of the seeds."""
    done = {(cell["row"], cell["seed"]) for cell in tables.select_done(cells)}
    wanted: dict[str, list[int]] = {}
    for planned in plan.plan_cells(about, scale):
        wanted.setdefault(planned.row, []).append(planned.seed)
    lacking = {row: [seed for seed in seeds if (row, seed) not in done] for row, seeds in wanted.items()}
    found = [
        row if len(seeds) == len(wanted[row]) else f"{row} (seed {', '.join(map(str, seeds))})"
        for row, seeds in lacking.items()
        if seeds
    ]
    return found if len(found) <= MOST_NAMES else [f"{len(found)} rows"]


def name_other_code(cells) -> list[str]:
    """Say how many rows are of other code than the present one, in a list that is empty if none is."""
    others = provenance.list_rows_of_other_code(cells)
    rows = len(tables.collect_rows(cells))
    which = "all rows" if len(others) == rows else f"{len(others)} of {rows} rows"
    return [f"{which}: other code"] if others else []
