"""Compare the outcomes of the committed tables with former ones: docs/ablations/before-after.md."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from videores.ablation.assertions import OUTCOMES
from videores.ablation.tables import format_outcome
from videores.runtime.tables import format_markdown_table

CHANGES = """# Before and after

Outcomes of the tables that there were on {DATE} (commit {COMMIT}), then and now, where they differ.

* **All tables** are judged by [the rule](rule.md). By the rule before it, a difference counted if it was 3 points *or*
  2 standard errors over seeds. The gap is now to the test videos, no longer to the validation videos that chose the
  checkpoint.
* **Run again** since then, most with another recipe, and some with other claims ("-": no such claim): {AGAIN}. For all
  others, only the rule changed.

Before: {BEFORE}. Now: {AFTER}. Of these, {PROVED} can be proved and {UNLEARNT} rest on rows that have not learnt.

{CHANGED}

The other {SAME} outcomes are equal. `python tools/ablate.py --docs` writes this page.
"""


def build_page(former: Mapping[str, Any], outcomes: Mapping[str, list[dict]], days: Mapping[str, str]) -> str:
    """List the outcomes that differ from the former ones.

    Args:
        former: {"commit", "date", "outcomes": {table: {claim: outcome}}}.
        outcomes: {table: [outcome]} of the same and of later tables.
        days: {table: day on which its newest cell was begun}.
    """
    rows, same = [], 0
    now = [one for name in former["outcomes"] for one in outcomes[name]]
    for name, before in former["outcomes"].items():
        judged = {one["claim"]: one for one in outcomes[name]}
        for claim in {**before, **judged}:
            one = judged.get(claim)
            if one and one["outcome"] == before.get(claim):
                same += 1
                continue
            found = (format_outcome(one), "; ".join(one["numbers"])) if one else ("-", "")
            rows.append((f"[{name}]({name}/README.md)", claim, before.get(claim, "-"), *found))
    again = [f"{name} ({days[name]})" for name in former["outcomes"] if days[name] > former["date"]]
    return CHANGES.format(
        COMMIT=former["commit"],
        DATE=former["date"],
        AGAIN=", ".join(again) or "none",
        BEFORE=format_counts(outcome for before in former["outcomes"].values() for outcome in before.values()),
        AFTER=format_counts(one["outcome"] for one in now),
        PROVED=sum(one["hard"] for one in now),
        UNLEARNT=sum(bool(one["unlearnt"]) for one in now),
        CHANGED=format_markdown_table(("table", "claim", "before", "now", "numbers"), rows),
        SAME=same,
    )


def format_counts(outcomes):
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in reversed(OUTCOMES) if counts[outcome])
