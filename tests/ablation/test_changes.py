"""The page of outcomes before and after names every claim whose outcome differs, is new, or is gone."""

import re

from videores.ablation import changes

THEN = {"t1": {"kept": "holds", "turned": "fails", "gone": "holds"}, "t2": {"other": "holds"}}


def outcome(claim, found):
    return {"claim": claim, "outcome": found, "numbers": ["1 against 2"], "hard": False, "unlearnt": []}


def test_page_lists_changed_new_and_withdrawn_claims():
    judged = {
        "t1": [outcome("kept", "holds"), outcome("turned", "holds"), outcome("new", "inconclusive")],
        "t2": [outcome("other", "holds")],
        "later": [outcome("of no former table", "holds")],
    }
    former = {"commit": "abc1234", "date": "2026-01-02", "outcomes": THEN}
    page = changes.build_page(former, judged, {"t1": "2026-01-03", "t2": "2026-01-02", "later": "2026-01-03"})
    rows = re.findall(r"^\| \[t\d\]\S+ \| (\w+) \| (\S+) \| (\S+) \|", page, re.MULTILINE)
    rows = {claim: found for claim, *found in rows}
    assert rows == {"turned": ["fails", "**holds**"], "gone": ["holds", "-"], "new": ["-", "**inconclusive**"]}
    assert "The other 2 outcomes are equal" in page
    assert "t1 (2026-01-03)" in page
    assert "t2 (" not in page
    assert "Before: 3 holds, 1 fails. Now: 3 holds, 1 inconclusive." in page
