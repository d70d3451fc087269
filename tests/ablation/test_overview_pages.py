"""The pages about all tables, numbers and claims: they are current, and leave nothing out."""

import csv
import re

import pytest
from helpers.ablation import TWO, make
from helpers.source import ROOT

from videores.ablation import claims_page, docs, index_page, provenance, results_page, spec
from videores.errors import UserError
from videores.runtime.code_hash import hash_code

CLAIMS = {0: 24, 1: 35, 2: 16, 3: 30, 4: 10}  # of each article


def cell(row, seed, **more):
    return {"row": row, "seed": seed, "status": "done", **more}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_committed_pages_are_what_the_tool_writes():
    hint = "run python tools/ablate.py --docs"
    assert results_page.PAGE.read_text() == results_page.build_results(), hint
    assert claims_page.PAGE.read_text() == claims_page.build_claims(), hint


def test_the_index_has_all_tables_and_says_which_were_not_run():
    text = (docs.DOCS / "README.md").read_text()
    rows = dict(re.findall(r"^\| \[?(c\d\d)[^|]*\|(.*)$", text, re.MULTILINE))
    assert sorted(rows) == [f"c{number:02}" for number in range(len(spec.list_tables()))]
    assert len(rows) >= 20
    ran = {path.parent.name[:3] for path in docs.DOCS.glob("*/cells")}
    assert {number for number, row in rows.items() if "not run yet" in row or "no table yet" in row} == set(rows) - ran


def test_rows_and_seeds_without_a_result_are_named():
    about = make(cells=TWO, seeds=[0, 1])
    found = [cell("a", 0), cell("a", 1), cell("b", 0)]
    assert index_page.list_missing_rows(about, found, "cpu") == ["b (seed 1)"]
    assert index_page.list_missing_rows(about, found[:2], "cpu") == ["b"]
    failed = cell("a", 1, status="failed")
    assert index_page.list_missing_rows(about, [found[0], failed, found[2]], "cpu") == ["a (seed 1)", "b (seed 1)"]


def test_rows_of_other_code_are_listed():
    found = [cell("a", 0, code=hash_code()), cell("b", 0, code="0123456789abcdef")]
    assert provenance.list_rows_of_other_code(found) == ["b"]


def read_claims():
    with open(claims_page.PAGE.with_suffix(".csv"), encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_claim_has_an_answer_that_is_there():
    rows = read_claims()
    numbers = [f"{article}.{number}" for article, count in CLAIMS.items() for number in range(1, count + 1)]
    assert [row["claim"] for row in rows] == numbers
    assert {row["verdict"] for row in rows} <= set(claims_page.VERDICTS)
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    answers = {answer for row in rows for answer in claims_page.split_answers(row)}
    assert {answer for answer in answers if answer.startswith("test_")} <= tests


def test_claims_that_are_not_right_are_explained():
    doubtful = [row for row in read_claims() if row["verdict"] in ("partly", "wrong")]
    assert doubtful
    assert [row["claim"] for row in doubtful if "background/errata.md" not in claims_page.split_answers(row)] == []


def test_tables_are_cited_with_the_outcomes_and_marks_of_the_index():
    claims, index = claims_page.PAGE.read_text(), (docs.DOCS / "README.md").read_text()
    row = r"^\| \[(c\w+)\]\([^)]*\) \| [^|]* \| ([^|]*) \| (\d+ of \d+) \| [^|]* \| ([^|]*) \|$"
    cited = [one for one in re.findall(row, index, re.MULTILINE) if f"[{one[0]}]" in claims]
    assert len(cited) > 10
    for name, outcomes, unlearnt, missing in cited:
        (remarks,) = set(re.findall(rf"\[{name}\]\([^)]*\) \(([^)]*)\)", claims))
        assert remarks.startswith(outcomes)
        assert (f"{unlearnt} rows not learnt" in remarks) == (not unlearnt.startswith("0 "))
        assert ("other code" in remarks) == ("other code" in missing)


def test_an_answer_that_is_not_there_is_refused(tmp_path):
    page = tmp_path / "claims.md"
    for answer in ("guide/none.md", "c99"):
        page.with_suffix(".csv").write_text(f"claim,statement,verdict,shown by\n0.1,a,right,{answer}\n")
        with pytest.raises(UserError, match=answer):
            claims_page.build_claims(page)
