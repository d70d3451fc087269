"""Write an ablation table as text, CSV and JSON."""

import csv
import io
import statistics
from pathlib import Path

from videores.ablation import plots
from videores.ablation.assertions import judge_assertion
from videores.ablation.collect import read_saved_cell
from videores.ablation.columns import COLUMNS, format_cell
from videores.ablation.published import find_target, has_same_protocol, read_published
from videores.evaluation.protocol import slugify
from videores.reporting.results import format_json

RESULTS_DIR = Path("results")


def table_folder(name, scale):
    return RESULTS_DIR / name / scale


def save_cells(folder, found, places):
    """Write cells/*.json; `places` gives the place of each row.

    Cells that this sweep did not ask for stay.
    """
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    for cell in found:
        name = f"{slugify(cell['row']).strip('_')}-s{cell['seed']}.json"
        (folder / "cells" / name).write_text(format_json({**cell, "place": places.index(cell["row"])}))


def delete_stale_cells(folder, is_current):
    """Delete the cells of rows that are gone from the table, or configured otherwise."""
    for path in (folder / "cells").glob("*.json"):
        if not is_current(read_saved_cell(path)):
            path.unlink()


def load_cells(folder):
    """Load the cells in the order of the table."""
    found = [read_saved_cell(path) for path in (folder / "cells").glob("*.json")]
    return sorted(found, key=lambda cell: (cell["place"], cell["row"], cell["seed"]))


def write_table(folder, name, table, scale, found):
    """Write everything but the cells; return the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    published = read_published(name)
    (folder / "table.md").write_text(format_markdown(name, table, scale, found, published))
    (folder / "table.csv").write_text(format_csv(table, found))
    (folder / "table.tex").write_text(format_latex(table, found))
    return ["table.md", "table.csv", "table.tex", *plot_table(folder, table, found)]


def plot_table(folder, table, found):
    costs = [column for column in table.columns if COLUMNS[column].cost]
    drawn = {
        "curves.png": plots.plot_curves(folder / "curves.png", collect_rows(found)),
        "pareto.png": plots.plot_pareto(folder / "pareto.png", summarize_rows(table, found), costs),
    }
    for name, done in drawn.items():
        for old in () if done else (folder / name, (folder / name).with_suffix(".svg")):
            old.unlink(missing_ok=True)  # of cells that are gone
    return [name for name, done in drawn.items() if done]


def collect_rows(found):
    """Return {row: [cell of each seed, ...]} in the order of the table."""
    rows = {}
    for cell in found:
        rows.setdefault(cell["row"], []).append(cell)
    return rows


def judge_table(table, scale, found):
    """Judge every assertion of this scale."""
    rows = {row: select_done(cells) for row, cells in collect_rows(found).items()}
    rows = {row: cells for row, cells in rows.items() if cells}
    return [judge_assertion(assertion, rows) for assertion in table.assertions if scale in assertion.scales]


def select_done(cells):
    return [cell for cell in cells if cell["status"] == "done"]


def summarize_rows(table, found):
    """Return a dict a row: numbers {column: (mean, sd)}, seeds, trouble and more."""
    return [_summarize_row(table, name, cells) for name, cells in collect_rows(found).items()]


def _summarize_row(table, name, cells):
    finished = select_done(cells) or cells
    numbers = {column: _compute_spread([cell["values"].get(column) for cell in finished]) for column in table.columns}
    troubles = [
        f"seed {c['seed']} {c['status']}: {c['error']}" if c["error"] else f"seed {c['seed']} {c['status']}"
        for c in cells
        if c["status"] != "done"
    ]
    return {
        "row": name,
        "numbers": numbers,
        "seeds": [cell["seed"] for cell in finished],
        "protocol": finished[0]["protocol"],
        "commit": ", ".join(sorted({_format_commit(cell) for cell in finished})),
        "trouble": "; ".join(troubles),
    }


def _compute_spread(values):
    """Return (mean, standard deviation or None) over seeds.

    It is (None, None) where a seed has no value.
    """
    if None in values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _format_commit(cell):
    return f"{(cell['commit'] or 'unknown')[:9]}{' (changed)' if cell['dirty'] else ''}"


# Markdown


def format_markdown(name, table, scale, found, published):
    """Format table.md: rows, outcomes of the assertions, published numbers."""
    rows = summarize_rows(table, found)
    return "\n".join(
        [
            f"# {name}: {table.title}",
            "",
            f"{table.question} Scale: {scale}.",
            "",
            *format_numbers(table, rows, published),
            "",
            *_format_troubles(rows),
            *_list_protocols(rows),
            "",
            *_format_assertions(judge_table(table, scale, found)),
            *_format_other_targets(rows, published),
        ]
    )


def format_numbers(table, rows, published):
    headings = ["row", *(COLUMNS[column].heading for column in table.columns), "seeds"]
    lines = [headings, ["---"] * len(headings)]
    for row in rows:
        values = [_format_value(row, column, published) for column in table.columns]
        lines.append([row["row"], *values, ", ".join(map(str, row["seeds"]))])
    return [f"| {' | '.join(line)} |" for line in lines]


def _format_value(row, column, published):
    text = format_cell(column, *row["numbers"][column])
    target = find_target(published, row["row"], column, row["protocol"])
    return text if target is None else f"{text} (published {format_cell(column, target * COLUMNS[column].unit)})"


def _format_troubles(rows):
    lines = [f"* {row['row']}: {row['trouble']}" for row in rows if row["trouble"]]
    return ["Without result:", "", *lines, ""] if lines else []


def _list_protocols(rows):
    """List the protocols of the accuracies, each with its rows."""
    by_protocol = {}
    for row in rows:
        if row["protocol"]:
            by_protocol.setdefault(row["protocol"], []).append(row["row"])
    alone = len(by_protocol) == 1
    lines = [f"* `{protocol}`" + ("" if alone else f": {', '.join(names)}") for protocol, names in by_protocol.items()]
    commits = ", ".join(sorted({row["commit"] for row in rows if row["protocol"] or not row["trouble"]}))
    return ["Mean ± standard deviation over seeds. Protocol:", "", *lines, "", f"Commit {commits}."] if lines else []


def _format_assertions(found):
    if not found:
        return []
    lines = [["claim", "outcome", "numbers"], ["---"] * 3]
    for one in found:
        claim = one["claim"] + (" (must hold: it can be proved)" if one["hard"] else "")
        lines.append([claim, f"**{one['outcome']}**", "; ".join(one["numbers"])])
    return [f"| {' | '.join(line)} |" for line in lines]


def _format_other_targets(rows, published):
    """Format what is published under other protocols, which does not compare."""
    ours = [row["protocol"] for row in rows]
    others = [p for p in published if not any(has_same_protocol(p, protocol) for protocol in ours)]
    lines = []
    for p in others:
        lines += ["", f"{p.paper}, {p.table} ({p.protocol}; {p.source}; status {p.status}):", "", *_format_published(p)]
    return ["", "Published under other protocols, not to be compared number by number.", *lines] if lines else []


def _format_published(p):
    names = [name for name in COLUMNS if any(name in row for row in p.values.values())]
    lines = [["row", *(COLUMNS[name].heading for name in names)], ["---"] * (1 + len(names))]
    for row, values in p.values.items():
        lines.append([row, *(f"{values[name]:g}" if name in values else "-" for name in names)])
    return [f"| {' | '.join(line)} |" for line in lines]


# CSV and LaTeX


def format_csv(table, found):
    """Format one line a cell, with everything that identifies it."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["row", "seed", "kind", "status", *table.columns, "protocol", "commit", "key", "error"])
    for cell in found:
        values = [cell["values"].get(column) for column in table.columns]
        about = [cell["protocol"], _format_commit(cell), cell["key"], cell.get("error")]
        rows.writerow([cell["row"], cell["seed"], cell["kind"], cell["status"], *values, *about])
    return file.getvalue()


def format_latex(table, found):
    rows = summarize_rows(table, found)
    lines = [["row", *(COLUMNS[column].heading for column in table.columns)]]
    lines += [[row["row"], *(format_cell(column, *row["numbers"][column]) for column in table.columns)] for row in rows]
    body = [" & ".join(map(_escape_latex, line)) + r" \\" for line in lines]
    columns = "l" + "r" * len(table.columns)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}", ""]
    )


def _escape_latex(text):
    special = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "±": r"$\pm$", "\\": r"\textbackslash{}"}
    return "".join(special.get(letter, letter) for letter in text)
