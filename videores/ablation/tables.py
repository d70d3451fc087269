"""Write an ablation table as text, CSV and JSON."""

import statistics
from pathlib import Path

from videores.ablation import exports, plots
from videores.ablation.assertions import compute_interval, find_unlearnt_seeds, judge_assertion
from videores.ablation.collect import read_saved_cell
from videores.ablation.columns import COLUMNS, format_cell, read_values
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
    (folder / "table.csv").write_text(exports.format_csv(table, found))
    (folder / "table.tex").write_text(exports.format_latex(table, summarize_rows(table, found)))
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
    asserted = [assertion for assertion in table.assertions if scale in assertion.scales]
    return [judge_assertion(assertion, rows, table.learnt) for assertion in asserted]


def select_done(cells):
    return [cell for cell in cells if cell["status"] == "done"]


def summarize_rows(table, found):
    """Return a dict a row: numbers {column: (mean, sd)}, seeds, trouble and more."""
    return [_summarize_row(table, name, cells) for name, cells in collect_rows(found).items()]


def _summarize_row(table, name, cells):
    finished = select_done(cells) or cells
    values = [read_values(cell) for cell in finished]
    numbers = {column: _compute_spread([value[column] for value in values]) for column in table.columns}
    troubles = [
        f"seed {c['seed']} {c['status']}: {c['error']}" if c["error"] else f"seed {c['seed']} {c['status']}"
        for c in cells
        if c["status"] != "done"
    ]
    return {
        "row": name,
        "numbers": numbers,
        "interval": compute_interval(finished),
        "train_videos": sorted({n for cell in finished if (n := cell["values"].get("train_videos")) is not None}),
        "unlearnt": find_unlearnt_seeds(finished, table.learnt),
        "seeds": [cell["seed"] for cell in finished],
        "protocol": finished[0]["protocol"],
        "commit": ", ".join(sorted({exports.format_commit(cell) for cell in finished})),
        "trouble": "; ".join(troubles),
    }


def _compute_spread(values):
    """Return (mean, standard deviation or None) over seeds.

    It is (None, None) where a seed has no value.
    """
    if None in values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


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
            *_explain_numbers(table, rows, found),
            *_list_protocols(rows),
            "",
            *_format_assertions(judge_table(table, scale, found)),
            *_format_other_targets(rows, published),
        ]
    )


def format_numbers(table, rows, published):
    columns = [column for column in table.columns if column not in _list_empty_columns(table, rows)]
    headings = ["row", *(COLUMNS[column].heading for column in columns), "seeds"]
    lines = [headings, ["---"] * len(headings)]
    for row in rows:
        values = [_format_value(row, column, published) for column in columns]
        name = row["row"] + (" (not learnt)" if row["unlearnt"] else "")
        lines.append([name, *values, ", ".join(map(str, row["seeds"]))])
    return [f"| {' | '.join(line)} |" for line in lines]


def _list_empty_columns(table, rows):
    return [column for column in table.columns if all(row["numbers"][column][0] is None for row in rows)]


def _format_value(row, column, published):
    text = format_cell(column, *row["numbers"][column])
    if column == "video" and row["interval"] and row["numbers"][column][0] is not None:
        text += " [{:.1f}, {:.1f}]".format(*row["interval"])
    if column == "train" and row["train_videos"]:
        text += f" of {' or '.join(map(str, row['train_videos']))}"
    target = find_target(published, row["row"], column, row["protocol"])
    return text if target is None else f"{text} (published {format_cell(column, target * COLUMNS[column].unit)})"


def _format_troubles(rows):
    lines = [f"* {row['row']}: {row['trouble']}" for row in rows if row["trouble"]]
    return ["Without result:", "", *lines, ""] if lines else []


def _explain_numbers(table, rows, found):
    """Say what spreads and intervals are, what no cell has, and which rows have not learnt."""
    lines = ["Mean ± standard deviation over seeds; in brackets the 95 % interval over groups of test videos."]
    trained = [cell for cell in select_done(found) if cell["kind"] == "train"]
    if "train" in table.columns and trained:
        lines.append("Training accuracy is measured in evaluation mode, `of` so many training videos.")
        if any(cell["values"].get("train_videos") is None for cell in trained):
            lines.append("Where the number is missing, it was not kept: it is that of the validation videos.")
    if any(cell["values"].get("loss_steps") is None for cell in trained):
        lines.append("Training losses and curves are of single batches: cells before means over all steps were logged.")
    if empty := _list_empty_columns(table, rows):
        names = ", ".join(COLUMNS[column].heading for column in empty)
        lines.append(f"Not known of these cells: {names}.")
    unlearnt = [
        f"* {row['row']}: {', '.join(f'{train:.1f} % with seed {seed}' for seed, train in row['unlearnt'].items())}"
        for row in rows
        if row["unlearnt"]
    ]
    if unlearnt:
        unlearnt = [f"Not learnt (training accuracy below {table.learnt:g} %):", "", *unlearnt, ""]
    return [*lines, "", *unlearnt]


def group_by_protocol(rows):
    """Return {protocol: its rows} of the accuracies."""
    by_protocol = {}
    for row in rows:
        if row["protocol"]:
            by_protocol.setdefault(row["protocol"], []).append(row["row"])
    return by_protocol


def _list_protocols(rows):
    by_protocol = group_by_protocol(rows)
    alone = len(by_protocol) == 1
    lines = [f"* `{protocol}`" + ("" if alone else f": {', '.join(names)}") for protocol, names in by_protocol.items()]
    shown = [row for row in rows if row["protocol"] or not row["trouble"]]
    commits = sorted({commit for row in shown for commit in row["commit"].split(", ")})
    return ["Protocol:", "", *lines, "", f"Commit {', '.join(commits)}."] if lines else []


def _format_assertions(found):
    if not found:
        return []
    lines = [["claim", "outcome", "numbers"], ["---"] * 3]
    for one in found:
        claim = one["claim"] + (" (must hold: it can be proved)" if one["hard"] else "")
        lines.append([claim, format_outcome(one), "; ".join(one["numbers"])])
    return [f"| {' | '.join(line)} |" for line in lines]


def format_outcome(one):
    """Format an outcome, with the rows that it rests on and that have not learnt."""
    rests = f", on rows that have not learnt: {', '.join(one['unlearnt'])}" if one["unlearnt"] else ""
    return f"**{one['outcome']}**{rests}"


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
