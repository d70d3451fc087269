"""Write docs/background/claims.md: every claim of the articles, and what answers it, from claims.csv beside it."""

import csv
import re
from collections import Counter
from pathlib import Path

from videores.ablation import docs, index_page, spec, tables
from videores.errors import UserError
from videores.runtime import files
from videores.runtime.tables import format_markdown_table

PAGE = Path("docs", "background", "claims.md")
VERDICTS = ("right", "partly", "wrong", "untested", "no text", "not a claim")
REMARKS = ("out of scope: ", "not run: ")
ARTICLES = (
    "ResNet in video classification: challenges and solutions",
    "The ResNet image-classification revolution: strengths and limits",
    "The ResNet model: outstanding in video-classification tasks",
    "Analysis of the ResNet network structure",
    "ResNet (a programming course, with Keras code)",
)

HEAD = """# All claims of the five articles

Written by `python tools/ablate.py --docs` from [claims.csv](claims.csv); do not edit. The project began with five
articles. This list has each of their claims in a few words. [What is true](errata.md) explains those that are wrong or
only partly right, and names sources. Tests are functions in `tests/`.

* A verdict follows from the literature, from proofs and from tests. The tables here have small networks and few videos.
  Behind each table stand the outcomes of *all* its assertions, as in [their index](../ablations/README.md), where they
  are explained. Inconclusive ones do not decide a claim.
* `untested`: an application that was not tried on recorded data. `no text`: the article announces it, but lacks it.

{ALL} entries: {COUNTS}. {PENDING}
"""


def write_claims(page: Path = PAGE) -> None:
    """Write the list of claims. Raises UserError for an answer that is not there."""
    files.write_text(page, build_claims(page))
    print(f"wrote {page}")


def build_claims(page: Path = PAGE) -> str:
    """Return the list of claims from the CSV file beside its page."""
    with open(page.with_suffix(".csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    asked = {answer for row in rows for answer in split_answers(row) if _is_table(answer)}
    links = {number: _link_table(number) for number in sorted(asked)}
    pending = [_find_table(number) for number in links if not _load_cells(number)]
    counts = Counter(row["verdict"] for row in rows)
    text = HEAD.format(
        ALL=len(rows),
        COUNTS=", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS),
        PENDING=f"Not run yet: {', '.join(pending)}." if pending else "All tables have results, some not of all rows.",
    )
    for number, title in enumerate(ARTICLES):
        of_article = [row for row in rows if row["claim"].partition(".")[0] == str(number)]
        cells = [(row["claim"], row["statement"], row["verdict"], _link_answers(row, links)) for row in of_article]
        text += f"\n## {number}: {title}\n\n"
        text += format_markdown_table(("number", "claim", "verdict", "evidence"), cells) + "\n"
    return text


def split_answers(row: dict[str, str]) -> list[str]:
    """Return what answers a claim: tables, tests, pages of docs/, files, or why it is out of scope."""
    return row["shown by"].split("; ")


def _is_table(answer):
    return re.fullmatch(r"c\d\d", answer) is not None


def _link_answers(row, links):
    return ", ".join(links.get(answer) or _link_answer(row["claim"], answer) for answer in split_answers(row))


def _link_answer(claim, answer):
    if answer.startswith(REMARKS) or re.fullmatch(r"test_\w+", answer):
        return answer
    path = Path(answer) if answer.startswith("videores/") else Path("docs", answer)
    _check(path.is_file(), claim, answer)
    if path.parts[0] == "videores":
        return f"[{path.name}](../../{path})"
    return f"[{path.stem}](../{answer})"


def _link_table(number):
    """Return a link to a table, with its outcomes, its rows that have not learnt, and those of other code."""
    name, cells = _find_table(number), _load_cells(number)
    if not cells:
        return f"{name} (not run yet)"
    about = spec.read_table(name)
    unlearnt, rows = index_page.count_unlearnt(about, cells)
    remarks = [index_page.format_outcomes(about, cells, docs.PAGE_SCALE)]
    remarks += [f"{unlearnt} of {rows} rows not learnt"] if unlearnt else []
    remarks += index_page.name_other_code(cells)
    return f"[{name}](../ablations/{name}/README.md) ({'; '.join(filter(None, remarks))})"


def _load_cells(number):
    return tables.load_cells(docs.DOCS / _find_table(number))


def _find_table(number):
    """Return the name of the table of a number."""
    names = [name for name in spec.list_tables() if name.startswith(number)]
    _check(names, number, number)
    return names[0]


def _check(is_there, claim, answer):
    if not is_there:
        raise UserError(f"{PAGE.with_suffix('.csv')}: claim {claim} must name what is there, got {answer}")
