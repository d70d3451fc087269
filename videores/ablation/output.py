"""results/<table>/<scale>/: cells/*.json, and table.md, table.csv, table.tex, curves.png, pareto.png made of them."""

import json
from pathlib import Path

from videores.ablation import pictures, render, targets
from videores.ablation.columns import COLUMNS
from videores.evaluation.protocol import slug
from videores.reporting.results import as_json

RESULTS = Path("results")


def folder_of(name, scale):
    return RESULTS / name / scale


def save_cells(folder, found, places):
    """Writes cells/*.json; `places` gives the place of each row. Cells that this sweep did not ask for stay."""
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    for cell in found:
        name = f"{slug(cell['row']).strip('_')}-s{cell['seed']}.json"
        (folder / "cells" / name).write_text(as_json({**cell, "place": places.index(cell["row"])}))


def forget(folder, is_current):
    """Deletes the cells that the table no longer has as they are: rows that are gone, or configured otherwise."""
    for path in (folder / "cells").glob("*.json"):
        if not is_current(json.loads(path.read_text())):
            path.unlink()


def load_cells(folder):
    """In the order of the table, as the sweep had it."""
    found = [json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")]
    return sorted(found, key=lambda cell: (cell["place"], cell["row"], cell["seed"]))


def write(folder, name, table, scale, found):
    """Everything but the cells. Returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    published = targets.read(name)
    (folder / "table.md").write_text(render.markdown(name, table, scale, found, published))
    (folder / "table.csv").write_text(render.comma_separated(table, found))
    (folder / "table.tex").write_text(render.latex(table, found))
    return ["table.md", "table.csv", "table.tex", *draw(folder, table, found)]


def draw(folder, table, found):
    costs = [column for column in table.columns if COLUMNS[column].cost]
    drawn = {
        "curves.png": pictures.draw_curves(folder / "curves.png", render.rows_of(found)),
        "pareto.png": pictures.draw_pareto(folder / "pareto.png", render.summaries(table, found), costs),
    }
    for name, done in drawn.items():
        if not done:
            (folder / name).unlink(missing_ok=True)  # an earlier one, of cells that are gone
    return [name for name, done in drawn.items() if done]
