"""The page of all numbers: what pages say they measured is quoted whole, and marked if other code did."""

import re
from pathlib import Path

import pytest
from helpers.source import ROOT

from videores.ablation import docs, quotes, results_page, tables
from videores.errors import UserError
from videores.runtime.code_hash import hash_code

PAGE = Path("docs", "guide", "a.md")
LINE = "Measured on a CPU, one thread, torch 2.14.1, commits 1111111, 2222222 and\n3333333 (code {}), 2026-11-30."
SECTION = f"""# A page

## Numbers

Not quoted.

| option | effect |
|---|---|
| not | quoted |

| network | top-1 |
|---|---|
| [b](b.md) | 90.0 |

{LINE} It took [an hour](#numbers).

```sh
# a command
```

```python
not_quoted()
```

## More

Nothing was measured.
"""

# Percents that are stated without a spread are limits or shares of classes on the pages of data sets: these are exact
MEASURED = {"docs/guide/*.md": r"\d\d\.\d %|± \d|\d \[[-+]?\d", "datasets/*/README.md": r"± \d|\d \[[-+]?\d"}


def quote(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)
    return quotes.quote_page(PAGE)


def test_a_section_is_quoted_with_tables_and_commands_and_links_from_the_results(tmp_path, monkeypatch):
    fresh = LINE.format(f"`{hash_code()}`")
    (text,) = quote(tmp_path, monkeypatch, SECTION.format(f"`{hash_code()}`"))
    table = "| network | top-1 |\n|---|---|\n| [b](guide/b.md) | 90.0 |"
    line = f"{fresh} It took [an hour](guide/a.md#numbers)."
    assert text == f"### [A page](guide/a.md): Numbers\n\n{table}\n\n{line}\n\n```sh\n# a command\n```"


@pytest.mark.parametrize(
    ("code", "said"), [("`0123456789abcdef`", "code `0123456789abcdef`"), ("not recorded", "code not recorded")]
)
def test_numbers_of_other_or_unknown_code_are_marked(tmp_path, monkeypatch, code, said):
    (text,) = quote(tmp_path, monkeypatch, SECTION.format(code))
    assert f"\n\n{quotes.OTHER_CODE}: commits 1111111, 2222222, 3333333 ({said})\n\n" in text


def test_numbers_in_prose_are_quoted_from_beside_the_sentence(tmp_path, monkeypatch):
    line = LINE.format("not recorded")
    (before,) = quote(tmp_path, monkeypatch, f"# A\n\nFar.\n\n90.1 %.\n\n{line}\n\nAfter.\n")
    (after,) = quote(tmp_path, monkeypatch, f"# A\n\nBefore.\n\n{line[:-1]}:\n\n* 90.2 %\n\nFar.\n")
    assert before.endswith(f"\n\n90.1 %.\n\n{line}")
    assert after.endswith(f"(code not recorded)\n\n{line[:-1]}:\n\n* 90.2 %")


@pytest.mark.parametrize("lacking", ["commit", "code", "torch", "date"])
def test_a_sentence_that_lacks_a_part_is_refused(tmp_path, monkeypatch, lacking):
    words = {
        "commit": "commit 1111111 ",
        "code": "(code not recorded)",
        "torch": ", torch 2.14.1",
        "date": "2026-11-30",
    }
    line = "Measured on a CPU, " + "".join(text for word, text in words.items() if word != lacking)
    with pytest.raises(UserError, match=rf"a\.md.*{lacking}"):
        quote(tmp_path, monkeypatch, f"# A\n\n{line}.\n")


def test_tables_and_outputs_of_a_page_are_quoted_with_the_block_before_them(tmp_path, monkeypatch):
    quote(tmp_path, monkeypatch, SECTION.format("not recorded") + "\nOn a CPU:\n\n```\nms 1.0\n```\n\nNot quoted.\n")
    numbers, more = quotes.quote_tables(PAGE)
    assert numbers.startswith("### [A page](guide/a.md): Numbers\n\n| option")
    assert "| [b](guide/b.md) | 90.0 |" in numbers
    assert "not_quoted" not in numbers
    assert more == "### [A page](guide/a.md): More\n\nOn a CPU:\n\n```\nms 1.0\n```"


def test_all_commits_of_a_list_are_read():
    text = (
        "Commit 1111111 with changes (code `0123456789abcdef`), commits 2222222,\n3333333 and 4444444, commit 1111111"
    )
    assert quotes.read_codes(text) == {"1111111": "0123456789abcdef", "2222222": "", "3333333": "", "4444444": ""}


def test_results_of_the_readme_are_quoted_whole_and_must_say_when(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = LINE.format("`0123456789abcdef`")
    results_page.README.write_text(f"# A\n\n## Results\n\n{line}\n\n* [data](datasets/a/README.md)\n\n## Use\n")
    text = results_page._quote_readme()
    assert quotes.OTHER_CODE in text
    assert text.endswith("* [data](../datasets/a/README.md)\n")
    results_page.README.write_text("# A\n\n## Results\n\n99 %\n\n## Use\n")
    with pytest.raises(UserError, match=r"README\.md"):
        results_page._quote_readme()


def test_pages_with_measured_numbers_say_when_they_were_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = {
        page: re.search(number, page.read_text()) for glob, number in MEASURED.items() for page in Path().glob(glob)
    }
    pages = [page for page, number in found.items() if number]
    assert len(pages) > 10
    assert [str(page) for page in pages if not quotes.quote_page(page)] == []


def test_numbers_of_a_table_are_of_the_code_of_its_cells(monkeypatch):
    """A table that is run again makes the numbers wrong that other pages repeat."""
    monkeypatch.chdir(ROOT)
    for page in results_page.list_pages():
        for line in quotes.find_lines(page, [block for _, blocks in quotes.read_sections(page) for block in blocks]):
            if name := re.search(r"the\s+table\s+\[\w+\]\([./]*/ablations/(\w+)/", line):
                codes = {cell["code"] for cell in tables.load_cells(docs.DOCS / name[1])}
                assert set(quotes.read_codes(line).values()) <= codes, f"{page}: update the numbers of {name[1]}"
