"""Whether an assertion of an ablation table holds: orders, bounds, nearness, intervals."""

import re

import numpy as np
import pytest

from videores.ablation import assertions, spec


def results(values, metric="video", groups=None):
    """The cells of a row, one a seed; of 200 videos the first ones are right, as many as the accuracy says."""
    rights = [50 if metric != "video" or value is None else value for value in values]
    answers = [
        {"list": "same", "right": "".join(str(int(i < 2 * r)) for i in range(200)), "groups": groups} for r in rights
    ]
    return [
        {"seed": seed, "status": "done", "values": {metric: value}, "answers": answers[seed], "scores": [[value]]}
        for seed, value in enumerate(values)
    ]


def judge(found, **assertion):
    return assertions.judge_assertion(spec.Assertion.model_validate({"claim": "c", **assertion}), found)["outcome"]


@pytest.mark.parametrize(
    ("ours", "theirs", "margin", "outcome"),
    [
        ([90, 91], [50, 51], 0, "holds"),
        ([90, 91], [50, 51], 25, "holds"),
        ([90, 91], [50, 51], 55, "fails"),  # 40 is short of it by 15 points
        ([90, 91], [50, 51], 45, "inconclusive"),  # by 5, which so few test videos do not tell from 0
        ([50, 51], [90, 91], 0, "fails"),
        ([80, 60], [78, 58], 0, "inconclusive"),  # 2 points
        ([82, 42], [78, 38], 0, "inconclusive"),  # 4 points, of test videos that do not tell them apart
        ([90], [50], 0, "inconclusive"),  # one seed
    ],
)
def test_orders(ours, theirs, margin, outcome):
    rows = {"a": results(ours), "b": results(theirs)}
    if ours == [82, 42]:
        rng = np.random.default_rng(0)
        for cells in rows.values():
            for cell in cells:
                cell["answers"]["right"] = "".join(map(str, rng.integers(0, 2, 200)))
    assert judge(rows, above=["a"], below=["b"], margin=margin) == outcome


def test_an_order_of_lists_is_as_good_as_its_worst_pair():
    rows = {"a": results([90, 90]), "b": results([50, 50]), "c": results([95, 95])}
    assert judge(rows, above=["a", "c"], below=["b"]) == "holds"
    assert judge(rows, above=["a"], below=["b", "c"]) == "fails"
    assert judge({"a": rows["a"]}, above=["a"], below=["b"]) == "inconclusive"


@pytest.mark.parametrize(
    ("values", "bound", "outcome"),
    [
        ([80, 90], {"at_least": 75}, "holds"),
        ([70, 71], {"at_least": 75}, "fails"),
        ([73.5, 75], {"at_least": 75}, "inconclusive"),
        ([40, 59], {"at_most": 50}, "holds"),
        ([40, 59], {"at_most": 50, "hard": True}, "fails"),  # of every seed
        ([40, 50], {"at_most": 50, "hard": True}, "holds"),
        ([40], {"at_most": 50, "hard": True}, "holds"),
        ([80], {"at_least": 75}, "inconclusive"),
        ([5, 5], {"equal": 5}, "holds"),
        ([5, 6], {"equal": 5}, "fails"),
    ],
)
def test_bounds(values, bound, outcome):
    assert judge({"a": results(values)}, rows=["a"], **bound) == outcome


def test_rows_close_to_each_other():
    near = {"a": results([90, 91]), "b": results([88, 89]), "c": results([89, 90])}
    assert judge(near, rows=["a", "b", "c"], within=5) == "holds"
    assert judge({**near, "b": results([50, 51])}, rows=["a", "b", "c"], within=5) == "fails"
    assert judge(near, rows=["a", "b"], within=1.5) == "inconclusive"
    assert judge(near, rows=["a", "b"], within=1.5, hard=True) == "fails"


def test_scores_are_equal_where_numbers_and_answers_are():
    near = {"a": results([90, 91]), "b": results([88, 89])}
    assert judge(near, rows=["a", "b"], within=2.5, metric="scores") == "fails", "answers of other videos differ"
    for one, other in zip(*near.values(), strict=True):
        one["answers"] = other["answers"]
    assert judge(near, rows=["a", "b"], within=2.5, metric="scores") == "holds"
    assert judge(near, rows=["a", "b"], within=1, metric="scores") == "fails"
    near["a"][0]["answers"] = {**near["a"][0]["answers"], "list": "others", "right": "01"}
    assert judge(near, rows=["a", "b"], within=2.5, metric="scores") == "fails"


def test_what_a_bound_or_a_nearness_says_has_an_interval():
    near = {"a": results([90, 91]), "b": results([88, 89])}
    said = lambda **bound: assertions.judge_assertion(spec.Assertion(claim="c", rows=("a", "b"), **bound), near)[
        "numbers"
    ]
    assert re.fullmatch(
        r"a 90.5 .* highest, b 88.5 .* lowest: \+2 \(.*, interval \+\d.* to \+\d.*\)", said(within=5)[0]
    )
    assert re.fullmatch(r"a 90.5 ± 0.71, interval 8\d.\d to 9\d.\d: holds", said(at_least=80)[0])


def test_rows_are_not_close_by_one_seed():
    assert judge({"a": results([90]), "b": results([89])}, rows=["a", "b"], within=5) == "inconclusive"
    assert judge({"a": results([90]), "b": results([89])}, rows=["a", "b"], within=5, hard=True) == "holds"


def test_what_can_be_proved_is_judged_by_the_seeds_that_did_not_fail():
    whole, part = results([90, 91]), results([88, 89])[1:]
    assert judge({"a": whole, "b": part}, above=["a"], below=["b"], margin=1.5, hard=True) == "holds"
    part[0]["answers"] = whole[1]["answers"]
    assert judge({"a": whole, "b": part}, rows=["a", "b"], within=2.5, metric="scores", hard=True) == "holds"
    none = {"a": whole[:1], "b": part}
    assert judge(none, above=["a"], below=["b"], hard=True) == "inconclusive"
    assert judge(none, rows=["a", "b"], within=2.5, metric="scores", hard=True) == "inconclusive"


def test_metrics_that_are_no_accuracies_need_two_standard_errors():
    rows = {"a": results([1.0, 1.1], metric="train_loss"), "b": results([0.2, 0.3], metric="train_loss")}
    assert judge(rows, above=["a"], below=["b"], metric="train_loss") == "holds"
    rows["b"] = results([0.2, 1.9], metric="train_loss")
    assert judge(rows, above=["b"], below=["a"], metric="train_loss") == "inconclusive"
    assert judge({"a": results([None, None]), "b": rows["b"]}, above=["a"], below=["b"]) == "inconclusive"


def test_the_interval_is_paired_and_of_groups():
    better, worse = results([60, 60]), results([50, 50])
    low, high = assertions.compute_paired_interval(better, worse)
    assert 5 < low < 10 < high < 15
    pairs = [1 + i // 20 for i in range(200)]  # ten groups of twenty: 10 points are one group
    grouped = assertions.compute_paired_interval(results([60, 60], groups=pairs), results([50, 50], groups=pairs))
    assert grouped[0] == 0
    other = results([60, 60])
    other[0]["answers"]["list"] = "others"
    assert assertions.compute_paired_interval(better, other) is None
