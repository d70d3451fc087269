"""Write docs/results.md: every number of this repository, with where it is from.

The numbers are those of README.md, the records of the zoo, the committed cells of ablation tables, and what pages say
they measured. What other code than the present one has computed is marked.
"""

from pathlib import Path

from videores.ablation import docs, provenance, published, quotes, spec, tables
from videores.ablation.quotes import OTHER_CODE
from videores.errors import UserError
from videores.inference.card import format_floor
from videores.inference.record import format_commit, format_interval
from videores.reporting import zoo, zoo_entries
from videores.runtime import files
from videores.runtime.code_hash import hash_code
from videores.runtime.tables import format_markdown_table

PAGE = Path("docs", "results.md")
README = Path("README.md")
PAGES_OF_TABLES = ("background/benchmark-*.md", "reference/complexity.md", "ablations/null.md")  # in docs/
MOST_PROTOCOLS = 5  # that are named beside a table; of more it gives the number

HEAD = f"""# Results

Written by `python tools/ablate.py --docs`; do not edit. All numbers of this repository, each with its command, commit,
machine and date:

* [the README](#the-readme), [the model zoo](#the-model-zoo), [ablation tables](#ablation-tables),
  [other pages](#other-pages) with measurements of their own, and [benchmarks, costs and the
  rule](#benchmarks-costs-and-the-rule).
* {OTHER_CODE}: the code that can change a result is no longer the one that computed the number, or it is not known
  which one did (`not recorded`). The command gives the present number. Comments, docstrings, documentation, reports,
  floors and tools do not count.

Accuracies are in per cent of the test videos, under the protocol beside them. [How assertions are
judged](ablations/rule.md) says what a claim of a table needs.
"""
TABLES = """## Ablation tables

Mean and standard deviation over seeds, with the 95 % interval over groups of test videos where it is known. The pages
of the tables have claims and notes. Their [index](ablations/README.md) says what is missing.
"""
OTHERS = """## Other pages

What these pages measured: their tables, commands, and when and where it was. The pages explain the numbers.
"""
COSTS = """## Benchmarks, costs and the rule

The tables of benchmarks, by `python tools/benchmark.py`, of the counted cost of networks and of the rule on equal rows.
Code that can change a result may leave a speed as it is.
"""


def write_results(page: Path = PAGE) -> None:
    """Write the page of all numbers. Raises UserError where README.md has no results."""
    files.write_text(page, build_results())
    print(f"wrote {page}")


def build_results() -> str:
    """Return the page of all numbers of this repository, which is the current folder."""
    parts = [HEAD, _quote_readme(), _format_zoo(), TABLES]
    parts += [_format_table(name) for name in spec.list_tables() if tables.load_cells(docs.DOCS / name)]
    parts += [OTHERS, *(f"{quote}\n" for page in list_pages() for quote in quotes.quote_page(page))]
    pages = [page for pattern in PAGES_OF_TABLES for page in sorted(Path("docs").glob(pattern))]
    return "\n".join([*parts, COSTS, *(f"{quote}\n" for page in pages for quote in quotes.quote_tables(page))])


def list_pages() -> list[Path]:
    """List the pages that may say when they measured: those of docs/ and of data sets, but for generated ones."""
    pages = sorted([*Path("docs").rglob("*.md"), *Path("datasets").glob("*/README.md")])
    return [page for page in pages if page != PAGE and docs.DOCS not in page.parents]


def _quote_readme():
    """Quote all of the section Results of README.md."""
    blocks = dict(quotes.read_sections(README)).get("Results", [])
    if not quotes.find_lines(README, blocks):
        raise UserError(f"{README} must say in its section Results when it measured, as {quotes.__name__} describes")
    return f"## The README\n\n{quotes.quote_blocks(README, blocks)}\n"


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
            *_format_protocols(name, rows),
            f"* `{provenance.format_command(name, about, cells, docs.PAGE_SCALE)}`",
            f"* Commit {', '.join(provenance.list_commits(cells))}; "
            f"{', '.join(provenance.list_days(cells)) or 'no training'}; {machines}",
            *([f"* {OTHER_CODE}: {which}"] if others else []),
            "",
        ]
    )


def _format_protocols(name, rows):
    found = tables.group_by_protocol(rows)
    if len(found) > MOST_PROTOCOLS:
        return [f"* {len(found)} protocols: [of each row](ablations/{name}/README.md#result)"]
    named = {protocol: of[0] if len(of) == 1 else f"{len(of)} rows" for protocol, of in found.items()}
    alone = len(found) == 1
    lines = [f"`{protocol}`" + ("" if alone else f" ({of})") for protocol, of in named.items()]
    return [f"* Protocol: {'; '.join(lines)}"] if found else []
