"""Quote what pages say they measured, marked where other code than the present one computed it.

A page says it in a sentence that begins a paragraph or an item of a list:

    Measured on 2 cores of an AMD EPYC, one thread a run, torch 2.14.1, commits 1204482 and ef2bae6
    (code `f71c8b3b84c6bbbd`), 2026-11-30.

It names the machine, threads, the version of torch, the commits with the hash of their code, and the date. What nobody
knows any more is `not recorded`. A number is `stated since commit X (code not recorded)`, with the date of that commit,
if the commit that computed it is not known.
"""

import os
import re
from pathlib import Path

from videores.errors import UserError
from videores.runtime.code_hash import hash_code

OTHER_CODE = "**other code**"
BLOCK = re.compile(r"^```.*?^```$|^(?:(?!```)[^\n]+(?:\n|\Z))+", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?:[*-] +)?(Measured\b.*?[.:])(?=\s|\Z)", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"```(sh)?\n|\|.*\| *[-+*.]*\d", re.DOTALL)  # commands with outputs, tables with a number
SHA = r"\b[0-9a-f]{7,10}\b"
SHAS = rf"{SHA}(?:(?:,|,?\s+and)\s+{SHA})*"
COMMITS = re.compile(rf"\b[Cc]ommits?\s+({SHAS})(?:\s+with\s+changes)?(?:\s+\(code\s+`([0-9a-f]{{16}})`)?")
NEEDED = {
    "commit": rf"\bcommits?\s+{SHA}",
    "code": r"\(code\s+(`[0-9a-f]{16}`|not\s+recorded)",
    "version of torch": r"\btorch\b",
    "date": r"\b20\d\d-\d\d-\d\d\b",
}


def read_sections(page: Path) -> list[tuple[str, list[str]]]:
    """Read the headings of a page, each with the blocks below it: paragraphs, lists, tables and code."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if block.startswith("#"):
            sections.append((block.strip("# \n"), []))
        else:
            sections[-1][1].append(block.rstrip("\n"))
    return sections[1:]


def find_lines(page: Path, blocks: list[str]) -> list[str]:
    """Find the sentences that say when a page measured. Raises UserError where one lacks a part."""
    lines = [line for block in blocks for line in LINE.findall(block)]
    for line in lines:
        if missing := [name for name, pattern in NEEDED.items() if not re.search(pattern, line)]:
            raise UserError(f"{page}: add {', '.join(missing)} to the sentence that begins with {line[:60]!r}")
    return lines


def quote_page(page: Path) -> list[str]:
    """Quote the sections of a page that say when they measured: tables of numbers, commands and the sentences."""
    sections = read_sections(page)
    return [
        _format_heading(page, sections, heading) + quote_blocks(page, _select_blocks(blocks))
        for heading, blocks in sections
        if find_lines(page, blocks)
    ]


def quote_tables(page: Path) -> list[str]:
    """Quote the sections of a page that have tables or outputs with numbers: these, each with the block before it."""
    sections, quoted = read_sections(page), []
    for heading, blocks in sections:
        tables = [i for i, block in enumerate(blocks) if QUOTED.match(block) and not block.startswith("```sh")]
        if tables:
            kept = [block for i, block in enumerate(blocks) if {i, i + 1} & {*tables}]
            quoted.append(_format_heading(page, sections, heading) + quote_blocks(page, kept))
    return quoted


def _format_heading(page, sections, heading):
    title = sections[0][0]
    return f"### [{title}]({_link_from_docs(page)}){f': {heading}' if heading != title else ''}\n\n"


def quote_blocks(page: Path, blocks: list[str]) -> str:
    """Quote blocks of a page in one of docs/, marked if they name commits of other code."""
    text = "\n\n".join(blocks)
    mark = "; ".join(list_other_code(text))
    return (f"{OTHER_CODE}: {mark}\n\n" if mark else "") + re.sub(
        r"\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)",
        lambda link: f"]({_link_from_docs(page.parent / link[1] if link[1] else page)}{link[2] or ''})",
        text,
    )


def list_other_code(text: str) -> list[str]:
    """List the commits that a text names whose code differs from the present one, or is not recorded."""
    by_code: dict[str, list[str]] = {}
    for sha, code in read_codes(text).items():
        by_code.setdefault(f"code `{code}`" if code else "code not recorded", []).append(sha)
    by_code.pop(f"code `{hash_code()}`", None)
    return [f"commit{'s' * (len(shas) > 1)} {', '.join(shas)} ({code})" for code, shas in by_code.items()]


def read_codes(text: str) -> dict[str, str]:
    """Read {commit: hash of its code} of all commits that a text names. The hash is empty where it is not stated."""
    codes: dict[str, str] = {}
    for shas, code in COMMITS.findall(text):
        codes |= {sha: code or codes.get(sha, "") for sha in re.findall(SHA, shas)}
    return codes


def _select_blocks(blocks):
    """Keep tables of numbers, commands, sentences, and the block of each: the next one after a colon, or the former."""
    kept = {number for number, block in enumerate(blocks) if QUOTED.match(block)}
    for number, block in enumerate(blocks):
        if LINE.search(block):
            kept |= {number, number + 1 if block.endswith(":") else number - 1}
    return [block for number, block in enumerate(blocks) if number in kept]


def _link_from_docs(path):
    return os.path.relpath(path, "docs")
