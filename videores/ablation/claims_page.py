"""Write docs/background/claims.md: every claim of the articles, and what answers it, from claims.csv beside it."""

import csv
import re
from collections import Counter
from pathlib import Path

from videores.ablation import docs, spec
from videores.errors import UserError
from videores.runtime import files
from videores.runtime.tables import format_markdown_table

PAGE = Path("docs", "background", "claims.md")
VERDICTS = ("right", "partly", "wrong", "no text")
OUT_OF_SCOPE = "out of scope: "
ARTICLES = (
    "ResNet in video classification: challenges and solutions",
    "The ResNet image-classification revolution: strengths and limits",
    "The ResNet model: outstanding in video-classification tasks",
    "Analysis of the ResNet network structure",
    "ResNet (a programming course, with Keras code)",
)

HEAD = """# All claims of the five articles

Written by `python tools/ablate.py --docs` from [claims.csv](claims.csv); do not edit. The project began with five
articles. This list has each of their claims in a few words. Those that are wrong, or right with a caveat, are explained
in [what is true](errata.md). Tests are functions in `tests/`.

{ALL} claims: {COUNTS}. {PENDING}
"""


def write_claims(page: Path = PAGE) -> None:
    """Write the list of claims. Raises UserError for an answer that is not there."""
    files.write_text(page, build_claims(page))
    print(f"wrote {page}")


def build_claims(page: Path = PAGE) -> str:
    """Return the list of claims from the CSV file beside its page."""
    with open(page.with_suffix(".csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ran = {path.parent.name for path in docs.DOCS.glob("*/cells")}
    asked = {answer for row in rows for answer in split_answers(row) if _is_table(answer)}
    pending = sorted({_find_table(number) for number in asked} - ran)
    counts = Counter(row["verdict"] for row in rows)
    text = HEAD.format(
        ALL=len(rows),
        COUNTS=", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS),
        PENDING=f"Not run yet: {', '.join(pending)}." if pending else "All tables were run.",
    )
    for number, title in enumerate(ARTICLES):
        of_article = [row for row in rows if row["claim"].partition(".")[0] == str(number)]
        cells = [(row["claim"], row["statement"], row["verdict"], _link_answers(row, ran)) for row in of_article]
        text += f"\n## {number}: {title}\n\n"
        text += format_markdown_table(("claim", "the article says", "it is", "shown by"), cells) + "\n"
    return text


def split_answers(row: dict[str, str]) -> list[str]:
    """Return what answers a claim: tables, tests, pages of docs/, files, or why it is out of scope."""
    return row["shown by"].split("; ")


def _is_table(answer):
    return re.fullmatch(r"c\d\d", answer) is not None


def _link_answers(row, ran):
    return ", ".join(_link_answer(row["claim"], answer, ran) for answer in split_answers(row))


def _link_answer(claim, answer, ran):
    if answer.startswith(OUT_OF_SCOPE) or re.fullmatch(r"test_\w+", answer):
        return answer
    if _is_table(answer):
        name = _find_table(answer)
        return f"[{name}](../ablations/{name}/README.md)" if name in ran else f"{name} (not run yet)"
    path = Path(answer) if answer.startswith("videores/") else Path("docs", answer)
    _check(path.is_file(), claim, answer)
    if path.parts[0] == "videores":
        return f"[{path.name}](../../{path})"
    return f"[{path.stem}](../{answer})"


def _find_table(number):
    """Return the name of the table of a number."""
    names = [name for name in spec.list_tables() if name.startswith(number)]
    _check(names, number, number)
    return names[0]


def _check(is_there, claim, answer):
    if not is_there:
        raise UserError(f"{PAGE.with_suffix('.csv')}: claim {claim} must name what is there, got {answer}")
