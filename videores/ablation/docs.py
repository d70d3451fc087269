"""Write docs/ablations/: an index, and a page for each table from its committed cells and notes.

`write_docs` first copies the results at scale cpu from results/. Without results, it rebuilds the pages from the
committed cells.
"""

import shutil
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from videores.ablation import columns, published, spec, tables
from videores.ablation.assertions import OUTCOMES

DOCS = Path("docs", "ablations")
PAGE_SCALE = "cpu"
NOTES = "notes.md"  # written by hand: explains results that differ from the claims


def write_docs(docs: Path = DOCS) -> int:
    """Write the pages of all tables from committed and computed results."""
    read = {name: spec.read_table(name) for name in spec.list_tables()}
    for name in read:
        _copy_results(tables.table_folder(name, PAGE_SCALE), docs / name)
    there = {name: cells for name in read if (cells := tables.load_cells(docs / name))}
    for name, cells in there.items():
        path = docs / name / NOTES
        notes = path.read_text() if path.exists() else ""
        (docs / name / "README.md").write_text(_build_page(name, read[name], cells, notes))
        tables.plot_table(docs / name, read[name], cells)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "README.md").write_text(_build_index(read, there))
    print(f"wrote {docs}/README.md and {len(there)} pages")
    return 0


def _copy_results(results, folder):
    """Replace the committed cells by the results there are."""
    if any((results / "cells").glob("*.json")):
        shutil.rmtree(folder / "cells", ignore_errors=True)
        shutil.copytree(results / "cells", folder / "cells")


def _build_page(name, about, cells, notes=""):
    body = tables.format_markdown(name, about, PAGE_SCALE, cells, published.read_published(name)).split("\n")
    pictures = [
        f"[![{title}]({file})]({Path(file).with_suffix('.svg')})"  # a click shows the vector version
        for file, title in (
            ("curves.png", "training loss and validation accuracy"),
            ("pareto.png", "accuracy and cost"),
        )
        if _has_figure(file, about, cells)
    ]
    lines = [body[0], "", about.question, "", about.shows.strip(), "", "## Result", "", *body[4:], ""]
    lines += [line for picture in pictures for line in (picture, "")]
    lines += ["## Notes", "", notes.strip(), ""] if notes else []
    return "\n".join([*lines, *_format_commands(name, about, cells)]) + "\n"


def _has_figure(file, about, cells):
    if file == "curves.png":
        return any(cell.get("curves") for cell in cells)
    costs = [column for column in about.columns if columns.COLUMNS[column].cost]
    return bool(costs) and any(cell["values"].get("video") is not None for cell in cells)


def _format_commands(name, about, cells):
    """Format the commands, the day and the machine."""
    machines = sorted({_format_machine(cell) for cell in cells if cell.get("hardware")})
    return [
        "## How it was run",
        "",
        "```sh",
        f"python tools/ablate.py --table {name} --scale {PAGE_SCALE}{_format_seeds_option(about, cells)}",
        "```",
        "",
        f"{', '.join(_format_days(cells)) or 'No training'}; {'; '.join(machines) or 'counted only'}."
        f"{_format_duration_of(cells)}",
        f"[The table](../../../configs/ablations/{name}.yaml) has the configuration of every row; `cells/` has the",
        "results of every seed.",
        "",
        "## At full scale",
        "",
        "```sh",
        f"python tools/ablate.py --table {name} --scale full --dry-run",
        f"python tools/ablate.py --table {name} --scale full --launcher slurm \\",
        "    --slurm timeout_min=2880 gpus_per_node=8 tasks_per_node=8  # one process per GPU, in every cell",
        "```",
        "",
        f"Based on `configs/{about.scales['full'].base}`. Only the dry run was checked, because neither a GPU nor the",
        "data was available.",
    ]


def _format_seeds_option(about, cells):
    seeds = sorted({cell["seed"] for cell in cells})
    usual = sorted(about.scales[PAGE_SCALE].seeds or about.seeds)
    return "" if seeds == usual else f" --seeds {','.join(map(str, seeds))}"


def _format_days(cells):
    return sorted({cell["start"][:10] for cell in cells if cell.get("start")})


def _format_duration_of(cells):
    """Format how long the trainings took from their last start on, with tests."""
    ends = [[datetime.fromisoformat(cell[end]) for end in ("start", "end")] for cell in cells if cell.get("end")]
    return f" {len(ends)} trainings took {sum((b - a for a, b in ends), timedelta())} in total." if ends else ""


def _format_machine(cell):
    hardware, versions = cell["hardware"], cell["versions"]
    gpus = f" {', '.join(hardware['gpus'])}" if hardware["gpus"] else " no GPU"
    threads = f"{hardware['threads']} thread(s) a process on {hardware['cores']} cores"
    model = f" {hardware['model']}," if "model" in hardware else ""  # older runs do not say it
    what = f"{threads} of {hardware['machine']} ({hardware['cpu']}),{model}{gpus}"
    return f"{what}; torch {versions['torch']}, lightning {versions['lightning']}, {cell['precision']}"


# The index

HEAD = """# Ablation tables

Each table asks one question and answers it with rows that differ in one thing. A table is the file
`configs/ablations/<table>.yaml`: rows, assertions about the result, and three scales. `smoke` tests the set-up, `cpu`
takes minutes on two cores with the embedded data sets, and `full` uses UCF101, HMDB51 and Kinetics on GPUs. [Format of
ablation tables](../reference/ablation-tables.md) describes the file.

## Tables

{TABLES}

`python tools/ablate.py --docs` writes these pages from the cells that are committed beside them.

## Run a table

```sh
python tools/ablate.py --table c01_conv_type --scale cpu          # results/c01_conv_type/cpu/
python tools/ablate.py --table c01_conv_type --scale cpu --rows "R3D motion8" --seeds 0,1,2
python tools/ablate.py --table c01_conv_type --scale full --dry-run
```

* **Cells.** A cell is a row with a seed: an ordinary run (`train`), another test of a run (`test`), the cost of a
  network (`measure`), or the reading of clips (`decode`). It is computed once, whichever tables need it, in
  `results/runs/<key>/`, with its output in `<key>.log`. An interrupted sweep continues. A failed cell is shown as
  failed, does not stop others, and is tried again the next time.
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

The scale `cpu` can show an order of rows, not absolute numbers. A difference counts if it is at least 3 points or 2
standard errors over seeds, and if 0 is outside the paired bootstrap interval over test videos (95 %, resampling groups
of videos, with the answers for each video averaged over seeds).

* An assertion that compares rows **holds** if the difference reaches the margin and counts.
* An assertion that bounds rows (`within`, `at_least`, `at_most`) holds if the means meet the bound.
* An assertion **fails** if the shortfall itself counts.
* Everything else is **inconclusive**, as is everything with one seed.
* An assertion that can be proved (`hard`) must hold for every seed.

A failed assertion stays in the table: tables are not tuned until they agree.

## What is missing

Rows: full pre-activation (c02); rotation alone, dropout of 0.8, several weight decays (c05); frozen norms at each batch
size, SyncBN at scale `cpu` (c08); 4 and 8 processes at scale `cpu` (c14). Columns: steps or epochs until an accuracy is
reached (c02, c06); milliseconds of training, of bf16 or of a GPU (c07); hours (c09: clips/s).
"""


def _build_index(read, there):
    lines = ["| table | question | assertions | run |", "| --- | --- | --- | --- |"]
    for name, about in read.items():
        if name in there:
            link, ran = f"[{name}]({name}/README.md)", ", ".join(_format_days(there[name]))
            lines.append(f"| {link} | {about.question} | {_count_outcomes(about, there[name])} | {ran} |")
        else:
            lines.append(f"| {name} | {about.question} | | not run |")
    return HEAD.replace("{TABLES}", "\n".join(lines))


def _count_outcomes(about, cells):
    counts = Counter(one["outcome"] for one in tables.judge_table(about, PAGE_SCALE, cells))
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in reversed(OUTCOMES) if counts[outcome])
