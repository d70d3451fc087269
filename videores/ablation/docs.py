"""Write docs/ablations/: a page a table from its committed cells and notes, and the index.

`write` first takes over what results/ has at scale cpu. Without results it rebuilds the pages from what is committed.
"""

import shutil
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from videores.ablation import columns, published, spec, tables
from videores.ablation.assertions import OUTCOMES

DOCS = Path("docs", "ablations")
PAGE_SCALE = "cpu"
NOTES = "notes.md"  # written by hand: what was looked at where something else came out than was claimed


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
        f"![{title}]({file})"
        for file, title in (
            ("curves.png", "training loss and validation accuracy"),
            ("pareto.png", "accuracy and cost"),
        )
        if _has_figure(file, about, cells)
    ]
    lines = [body[0], "", about.question, "", about.shows.strip(), "", "## Result", "", *body[4:], ""]
    lines += [line for picture in pictures for line in (picture, "")]
    lines += ["## What was looked at", "", notes.strip(), ""] if notes else []
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
        f"[The table](../../../configs/ablations/{name}.yaml) has every row's configuration, `cells/` what each seed",
        "gave.",
        "",
        "## At full scale",
        "",
        "```sh",
        f"python tools/ablate.py --table {name} --scale full --dry-run",
        f"python tools/ablate.py --table {name} --scale full --launcher slurm \\",
        "    --slurm timeout_min=2880 gpus_per_node=8 tasks_per_node=8  # a process a GPU, in every cell",
        "```",
        "",
        f"Based on `configs/{about.scales['full'].base}`. Checked by the dry run alone: there was no GPU, and the",
        "data was not here.",
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
    return f" {len(ends)} trainings took {sum((b - a for a, b in ends), timedelta())} in sum." if ends else ""


def _format_machine(cell):
    hardware, versions = cell["hardware"], cell["versions"]
    gpus = f" {', '.join(hardware['gpus'])}" if hardware["gpus"] else " no GPU"
    threads = f"{hardware['threads']} thread(s) a process on {hardware['cores']} cores"
    model = f" {hardware['model']}," if "model" in hardware else ""  # older runs do not say it
    what = f"{threads} of {hardware['machine']} ({hardware['cpu']}),{model}{gpus}"
    return f"{what}; torch {versions['torch']}, lightning {versions['lightning']}, {cell['precision']}"


# The index

HEAD = """# Ablation tables

Each table asks one question of rows that differ in one thing. `configs/ablations/<table>.yaml` has its rows, what
should come out, and three scales: `smoke` (is it wired up?), `cpu` (minutes on two cores, on the embedded data sets),
`full` (UCF101, HMDB51, Kinetics on GPUs). These pages are written by `python tools/ablate.py --docs` from the cells
that are committed beside them.

```sh
python tools/ablate.py --table c01_conv_type --scale cpu          # results/c01_conv_type/cpu/
python tools/ablate.py --table c01_conv_type --scale cpu --rows "R3D motion8" --seeds 0,1,2
python tools/ablate.py --table c01_conv_type --scale full --dry-run
```

* A cell is a row with a seed: an ordinary run (`train`), another test of one (`test`), or a network's cost (`measure`).
  It is computed once, whichever tables ask for it, into `results/runs/<key>/`; `<key>.log` beside it is its output. An
  interrupted sweep continues; a failed cell is shown as failed, stops no other, and is tried again the next time.
* Cells of another state of the code are refused: `--fresh` computes them again, `--reuse` takes them as they are.
* `--launcher slurm` makes every cell a job of one array (`pip install 'videores[slurm]'`), `--slurm key=value` are
  submitit's parameters, `--slurm cluster=local` runs the jobs here. It ran with the local executor, never on a cluster.
* Exit codes: 0 done; 1 a cell has no result or, with `--assert`, an assertion fails; 2 wrong input; the rest as for
  all tools.
* The forecast is of 20 measured training steps of the cheapest cell and of the dearest; the rest follows from counted
  multiply-adds. There is none for `--launcher slurm`, whose jobs run elsewhere.

## What no table has

Rows: full pre-activation (c02); rotation alone, dropout of 0.8, several weight decays (c05); frozen norms at each batch
size, SyncBN at scale `cpu` (c08); 4 and 8 processes at scale `cpu` (c14). Columns: steps or epochs until an accuracy is
reached (c02, c06), milliseconds of training, of bf16 or of a GPU (c07), hours (c09: clips/s).

## How an assertion is judged

What the `cpu` scale can show is an order, not a number. A difference counts when it is 3 points, or 2 standard errors
over seeds, and when the paired bootstrap interval over test videos (95 %, groups of videos together, each video's
answers averaged over seeds) does not hold 0. An assertion **holds** when the difference reaches what is claimed and
counts; it **fails** when what is missing counts; all else is **inconclusive**, as is everything with one seed. What can
be proved must hold for every seed. An assertion that fails stays as it is: tables are not tuned until they agree.

## Tables

"""


def _build_index(read, there):
    lines = ["| table | question | assertions | run |", "| --- | --- | --- | --- |"]
    for name, about in read.items():
        if name in there:
            link, ran = f"[{name}]({name}/README.md)", ", ".join(_format_days(there[name]))
            lines.append(f"| {link} | {about.question} | {_count_outcomes(about, there[name])} | {ran} |")
        else:
            lines.append(f"| {name} | {about.question} | | not run |")
    return HEAD + "\n".join(lines) + "\n"


def _count_outcomes(about, cells):
    counts = Counter(one["outcome"] for one in tables.judge_table(about, PAGE_SCALE, cells))
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in reversed(OUTCOMES) if counts[outcome])
