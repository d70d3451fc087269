"""Format an ablation table as CSV and LaTeX."""

import csv
import io

from videores.ablation.columns import COLUMNS, format_cell, read_values
from videores.runtime.tables import format_latex_table


def format_commit(cell):
    return f"{(cell['commit'] or 'unknown')[:9]}{' (changed)' if cell['dirty'] else ''}"


def format_csv(table, found):
    """Format one line a cell, with everything that identifies it."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["row", "seed", "kind", "status", *table.columns, "protocol", "commit", "key", "error"])
    for cell in found:
        values = [read_values(cell)[column] for column in table.columns]
        about = [cell["protocol"], format_commit(cell), cell["key"], cell.get("error")]
        rows.writerow([cell["row"], cell["seed"], cell["kind"], cell["status"], *values, *about])
    return file.getvalue()


def format_latex(table, rows):
    """Format the rows that `tables.summarize_rows` returns."""
    header = ["row", *(COLUMNS[column].heading for column in table.columns)]
    lines = [[row["row"], *(format_cell(column, *row["numbers"][column]) for column in table.columns)] for row in rows]
    return format_latex_table(header, lines)
