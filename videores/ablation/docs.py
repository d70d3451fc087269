"""Write docs/ablations/: an index, and a page for each table from its committed cells and notes.

`write_docs` first copies the results at scale cpu from results/. Without results, it rebuilds the pages from the
committed cells. A result that is replaced by one of another recipe stays in former/, and its page is linked.
"""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from videores.ablation import changes, columns, index_page, provenance, published, spec, tables
from videores.ablation.assertions import find_unlearnt_seeds
from videores.errors import UserError

DOCS = Path("docs", "ablations")
PAGE_SCALE = "cpu"
NOTES = "notes.md"  # written by hand: explains results that differ from the claims
FORMER = "former"  # results of former recipes, each in a folder of its day
FORMER_OUTCOMES = "former_outcomes.json"  # of the tables and the rule of a former day


def write_docs(docs: Path = DOCS) -> None:
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
    (docs / "README.md").write_text(index_page.build_index(read, there, PAGE_SCALE))
    if (docs / FORMER_OUTCOMES).exists():
        judged = {name: tables.judge_table(read[name], PAGE_SCALE, cells) for name, cells in there.items()}
        former = json.loads((docs / FORMER_OUTCOMES).read_text())
        days = {name: max(provenance.list_days(cells), default="") for name, cells in there.items()}
        (docs / "before-after.md").write_text(changes.build_page(former, judged, days))
    print(f"wrote {docs}/README.md and {len(there)} pages")


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
    place = folder / FORMER / max(provenance.list_days(former))
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns(FORMER), dirs_exist_ok=True)
    page = place / "README.md"
    page.write_text(page.read_text().replace("](../", "](../../../"))  # it lies two folders deeper


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
    machines = provenance.list_machines(cells)
    return [
        "## How it was run",
        "",
        "```sh",
        provenance.format_command(name, about, cells, PAGE_SCALE),
        "```",
        "",
        f"{', '.join(provenance.list_days(cells)) or 'No training'}; {'; '.join(machines) or 'counted only'}."
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


def _format_duration_of(cells):
    """Format how long the trainings took from their last start on, with tests."""
    ends = [[datetime.fromisoformat(cell[end]) for end in ("start", "end")] for cell in cells if cell.get("end")]
    return f" {len(ends)} trainings took {sum((b - a for a, b in ends), timedelta())} in total." if ends else ""
