"""Write docs/results.md: every number of this repository, with where it is from.

The numbers are those of README.md, the records of the zoo, the committed cells of ablation tables, and the pages that
say when they measured. What other code than the present one has computed is marked.
"""

import re
from pathlib import Path

from videores.ablation import docs, provenance, published, spec, tables
from videores.errors import UserError
from videores.inference.card import format_floor
from videores.inference.record import format_commit, format_interval
from videores.reporting import zoo, zoo_entries
from videores.runtime import files
from videores.runtime.code_hash import hash_code
from videores.runtime.tables import format_markdown_table

PAGE = Path("docs", "results.md")
README = Path("README.md")
OTHER_CODE = "**other code**"

HEAD = f"""# Results

Written by `python tools/ablate.py --docs`; do not edit. All numbers of this repository, each with its command, commit,
machine and day:

* [the README](#the-readme), [the model zoo](#the-model-zoo), [ablation tables](#ablation-tables) and
  [other pages](#other-pages) with measurements of their own.
* {OTHER_CODE}: the code that can change a result is no longer the one that computed the number. The command gives
  the present one. Comments, docstrings, documentation, reports, floors and tools do not count.

Accuracies are in per cent of the test videos, under the protocol beside them. [How assertions are
judged](ablations/rule.md) says what a claim of a table needs.
"""
TABLES = """## Ablation tables

Mean and standard deviation over seeds, with the 95 % interval over groups of test videos where it is known. The pages
of the tables have protocols, claims and notes. Their [index](ablations/README.md) says what is missing.
"""
OTHERS = """## Other pages

These pages state figures of their own, with machine and versions. They were measured once; the code that can change
them is not compared.
"""


def write_results(page: Path = PAGE) -> None:
    """Write the page of all numbers. Raises UserError where README.md has no results."""
    files.write_text(page, build_results())
    print(f"wrote {page}")


def build_results() -> str:
    """Return the page of all numbers of this repository, which is the current folder."""
    parts = [HEAD, _quote_readme(README.read_text()), _format_zoo(), TABLES]
    parts += [_format_table(name) for name in spec.list_tables() if tables.load_cells(docs.DOCS / name)]
    return "\n".join([*parts, OTHERS, format_markdown_table(("page", "commits", "days"), _list_pages())]) + "\n"


def _quote_readme(text):
    """Return the section Results of README.md, marked if its code is not the present one."""
    section = re.search(r"^## Results\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    code = section and re.search(r"code `([0-9a-f]{16})`", section[1])
    if not code:
        raise UserError(f"{README} must have a section Results with code `<hash>` of the code that computed it: add it")
    mark = "" if code[1] == hash_code() else f"{OTHER_CODE} than the present one computed these.\n\n"
    linked = re.sub(r"\]\((?!https?:)(?:docs/)?", lambda m: "](" if "docs/" in m[0] else "](../", section[1])
    return f"## The README\n\n{mark}{linked.strip()}\n"


def _format_zoo():
    header = ("run", "protocol", "clip", "video", "interval", "best floor", "command", "seed, threads", "from", "code")
    rows = [_format_entry(entry["record"]) for entry in zoo_entries.read_entries(zoo.PAGE)]
    return f"## The model zoo\n\n[Its page](zoo.md) has costs and weights.\n\n{format_markdown_table(header, rows)}\n"


def _format_entry(record):
    result = record["results"][0]
    return (
        record["name"],
        f"`{result['protocol']}`",
        "" if result["clip_top1"] is None else f"{result['clip_top1']:.2f}",
        f"{result['video_top1']:.2f}",
        format_interval(result),
        format_floor(result["floors"]),
        f"`{record['command']}`",
        f"{record['seed']}, {record['threads']}",
        f"{format_commit(record)}, {record['machine']}, {record['ended'][:10]}",
        "present" if record["code"] == hash_code() else OTHER_CODE,
    )


def _format_table(name):
    about, cells = spec.read_table(name), tables.load_cells(docs.DOCS / name)
    rows = tables.summarize_rows(about, cells)
    others = provenance.list_rows_of_other_code(cells)
    which = "all rows" if len(others) == len(rows) else ", ".join(others)
    machines = "; ".join(provenance.list_machines(cells)) or "counted only"
    return "\n".join(
        [
            f"### {name}",
            "",
            f"[{about.question}](ablations/{name}/README.md)",
            "",
            *tables.format_numbers(about, rows, published.read_published(name)),
            "",
            f"* `{provenance.format_command(name, about, cells, docs.PAGE_SCALE)}`",
            f"* Commit {', '.join(provenance.list_commits(cells))}; "
            f"{', '.join(provenance.list_days(cells)) or 'no training'}; {machines}",
            *([f"* {OTHER_CODE}: {which}"] if others else []),
            "",
        ]
    )


def _list_pages():
    """Yield (link, commits, days) of the pages that state when they measured, and are not among those above."""
    written = [docs.DOCS, zoo.PAGE, PAGE]
    for path in sorted([*Path("docs").rglob("*.md"), *Path("datasets").glob("*/README.md")]):
        if not any(path == other or other in path.parents for other in written):
            text = path.read_text()
            commits = dict.fromkeys(re.findall(r"\b[Cc]ommits? ([0-9a-f]{7,10})\b", text))
            days = sorted(set(re.findall(r"\b20\d\d-\d\d-\d\d\b", text)))
            if commits or days:
                link = path.relative_to("docs") if path.parts[0] == "docs" else Path("..", path)
                title = text.splitlines()[0].lstrip("# ")
                yield f"[{title}]({link})", ", ".join(commits) or "not stated", ", ".join(days)
