"""Compare the outcomes of the committed tables with those of the rule before: docs/ablations/before-after.md."""

from collections import Counter

from videores.ablation.assertions import OUTCOMES
from videores.ablation.tables import format_outcome

CHANGES = """# Before and after

Outcomes of the committed tables under [the rule](rule.md) that differ from those of the rule before it (commit
{COMMIT}), by which a difference counted if it was 3 points *or* 2 standard errors over seeds. Nothing was trained
again. The gap is now to the test videos, no longer to the validation videos that chose the checkpoint.

* Before: {BEFORE}.
* After: {AFTER}. Of these, {PROVED} can be proved and {UNLEARNT} rest on rows that have not learnt.

{CHANGED}

The other {SAME} outcomes did not change. `python tools/ablate.py --docs` writes this page.
"""


def build_page(former, outcomes):
    """List the outcomes {table: [outcome]} that differ from those of the rule before."""
    judged = [
        (name, one, former["outcomes"][name][one["claim"]])
        for name in outcomes
        for one in outcomes[name]
        if one["claim"] in former["outcomes"].get(name, {})
    ]
    changed = [["table", "claim", "before", "after", "numbers"], ["---"] * 5]
    for name, one, before in judged:
        if before != one["outcome"]:
            row = [f"[{name}]({name}/README.md)", one["claim"], before, format_outcome(one)]
            changed.append([*row, "; ".join(one["numbers"])])
    return CHANGES.format(
        COMMIT=former["commit"],
        BEFORE=format_counts(before for *_, before in judged),
        AFTER=format_counts(one["outcome"] for _, one, _ in judged),
        PROVED=sum(one["hard"] for _, one, _ in judged),
        UNLEARNT=sum(bool(one["unlearnt"]) for _, one, _ in judged),
        CHANGED="\n".join(f"| {' | '.join(line)} |" for line in changed),
        SAME=len(judged) + 2 - len(changed),
    )


def format_counts(outcomes):
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in reversed(OUTCOMES) if counts[outcome])
