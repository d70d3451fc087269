"""Write docs/ablations/: an index, and a page for each table from its committed cells and notes.

`write_docs` first copies the results at scale cpu from results/. Without results, it rebuilds the pages from the
committed cells. A result that is replaced by one of another recipe stays in former/, and its page is linked.
"""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from videores.ablation import changes, columns, published, spec, tables
from videores.ablation.assertions import find_unlearnt_seeds
from videores.errors import UserError

DOCS = Path("docs", "ablations")
PAGE_SCALE = "cpu"
NOTES = "notes.md"  # written by hand: explains results that differ from the claims
FORMER = "former"  # results of former recipes, each in a folder of its day
FORMER_OUTCOMES = "former_outcomes.json"  # of the rule that rule.md replaced, by its code


def write_docs(docs: Path = DOCS) -> int:
    """Write the pages of all tables from committed and computed results."""
    read = {name: spec.read_table(name) for name in spec.list_tables()}
    for name in read:
        _copy_results(tables.table_folder(name, PAGE_SCALE), docs / name, read[name])
    there = {name: cells for name in read if (cells := tables.load_cells(docs / name))}
    for name, cells in there.items():
        path = docs / name / NOTES
        notes = path.read_text() if path.exists() else ""
        former = sorted(page.parent.name for page in (docs / name / FORMER).glob("*/README.md"))
        (docs / name / "README.md").write_text(_build_page(name, read[name], cells, notes, former))
        tables.plot_table(docs / name, read[name], cells)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "README.md").write_text(_build_index(read, there))
    if (docs / FORMER_OUTCOMES).exists():
        judged = {name: tables.judge_table(read[name], PAGE_SCALE, cells) for name, cells in there.items()}
        former = json.loads((docs / FORMER_OUTCOMES).read_text())
        (docs / "before-after.md").write_text(changes.build_page(former, judged))
    print(f"wrote {docs}/README.md and {len(there)} pages")
    return 0


def _copy_results(results, folder, table):
    """Replace the committed cells by the results there are."""
    if any((results / "cells").glob("*.json")):
        _keep_former_result(folder, table, tables.load_cells(results))
        shutil.rmtree(folder / "cells", ignore_errors=True)
        shutil.copytree(results / "cells", folder / "cells")


def _keep_former_result(folder, table, found):
    """Copy the page and cells whose recipe `found` changes into former/.

    Raises UserError if the control row had learnt: a table is not tuned until its claims hold.
    """
    former, keys = tables.load_cells(folder), {(cell["row"], cell["seed"]): cell["key"] for cell in found}
    changed = [cell for cell in former if keys.get((cell["row"], cell["seed"]), cell["key"]) != cell["key"]]
    if not changed:
        return
    control = table.control or former[0]["row"]
    if not find_unlearnt_seeds([cell for cell in former if cell["row"] == control], table.learnt):
        raise UserError(
            f"{folder.name}: a table is run again with another recipe only if its control row has not learnt, and "
            f"{control} has, or is not there: restore the recipe of {changed[0]['row']}, or make a table of another "
            "name"
        )
    place = folder / FORMER / max(_format_days(former))
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns(FORMER), dirs_exist_ok=True)


def _build_page(name, about, cells, notes="", former=()):
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
    links = ", ".join(f"[{day}]({FORMER}/{day}/README.md)" for day in former)
    lines += [f"Former results, of other recipes whose control row had not learnt: {links}.", ""] if former else []
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
* [Before and after](before-after.md): the outcomes that this rule changed.

A row has not learnt if a seed's training accuracy is below `learnt` (90 % by default). Pages mark such rows, and the
claims that rest on them.

A failed assertion stays in the table: tables are not tuned until they agree. A table is run again with another recipe
only if its control row (`control`, by default the first) has not learnt. `--docs` refuses all else, keeps the former
result in `former/` and links it.

## What is missing

Rows: full pre-activation (c02); rotation alone, dropout of 0.8, several weight decays (c05); frozen norms at each batch
size, SyncBN at scale `cpu` (c08); 4 and 8 processes at scale `cpu` (c14). Columns: steps or epochs until an accuracy is
reached (c02, c06); milliseconds of training, of bf16 or of a GPU (c07); hours (c09: clips/s).
"""


def _build_index(read, there):
    lines = ["| table | question | assertions | rows not learnt | run |", "| --- | --- | --- | --- | --- |"]
    for name, about in read.items():
        if name in there:
            link, ran = f"[{name}]({name}/README.md)", ", ".join(_format_days(there[name]))
            outcomes, learnt = _count_outcomes(about, there[name]), _count_unlearnt(about, there[name])
            lines.append(f"| {link} | {about.question} | {outcomes} | {learnt} | {ran} |")
        else:
            lines.append(f"| {name} | {about.question} | | | not run |")
    return HEAD.replace("{TABLES}", "\n".join(lines))


def _count_outcomes(about, cells):
    return changes.format_counts(one["outcome"] for one in tables.judge_table(about, PAGE_SCALE, cells))


def _count_unlearnt(about, cells):
    rows = tables.summarize_rows(about, cells)
    return f"{sum(bool(row['unlearnt']) for row in rows)} of {len(rows)}"
