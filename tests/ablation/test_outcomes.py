"""Whether an assertion of an ablation table holds: orders, bounds, nearness, and what is not judged."""

import numpy as np
import pytest
from pydantic import ValidationError

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
    return say(found, **assertion)["outcome"]


def say(found, bar=0, **assertion):
    return assertions.judge_assertion(spec.Assertion.model_validate({"claim": "c", **assertion}), found, bar)


@pytest.mark.parametrize(
    ("ours", "theirs", "margin", "outcome"),
    [
        ([90, 91, 92], [50, 51, 52], 0, "holds"),
        ([90, 91, 92], [50, 51, 52], 25, "holds"),
        ([90, 91, 92], [50, 51, 52], 60, "fails"),
        ([90, 91, 92], [50, 51, 52], 38, "inconclusive"),  # above the margin, but not significantly
        ([90, 91, 92], [50, 51, 52], 42, "inconclusive"),
        ([50, 51, 52], [90, 91, 92], 0, "fails"),
        ([71, 44], [51, 51], 0, "inconclusive"),  # by 20 points and by -7: the former rule said holds
        ([98, 60, 75], [60, 58, 55], 0, "inconclusive"),
        ([90, 91], [50, 51], 0, "holds"),
        ([90, 91], [60, 61], 0, "holds"),
        ([90, 91], [80, 82], 0, "inconclusive"),  # two seeds
    ],
)
def test_orders(ours, theirs, margin, outcome):
    assert judge({"a": results(ours), "b": results(theirs)}, above=["a"], below=["b"], margin=margin) == outcome


def test_an_order_of_lists_is_as_good_as_its_worst_pair():
    rows = {"a": results([90, 90]), "b": results([50, 50]), "c": results([95, 95])}
    assert judge(rows, above=["a", "c"], below=["b"]) == "holds"
    assert judge(rows, above=["a"], below=["b", "c"]) == "inconclusive"
    assert judge({"a": rows["a"]}, above=["a"], below=["b"]) == "inconclusive"


def test_one_of_many_pairs_fails_only_at_the_level_of_all():
    """A difference that fails alone does not where it is the worst of twenty."""
    rows = {"a": results([50, 52, 54, 51]), "b": results([56, 60, 59, 57])}
    many = rows | {f"c{i}": results([20, 21, 22, 23]) for i in range(19)}
    assert judge(rows, above=["a"], below=["b"]) == "fails"
    assert judge(many, above=["a"], below=["b", *(f"c{i}" for i in range(19))]) == "inconclusive"


@pytest.mark.parametrize(
    ("values", "bound", "outcome"),
    [
        ([90, 91, 92], {"at_least": 75}, "holds"),
        ([60, 61, 59], {"at_least": 75}, "fails"),
        ([74, 75, 78], {"at_least": 75}, "inconclusive"),
        ([80, 90], {"at_least": 75}, "inconclusive"),  # above in both seeds, which differ by 10 points
        ([30, 31, 32], {"at_most": 50}, "holds"),
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
    """Equivalence has to be shown: a small difference with a large error shows nothing."""
    near = {"a": results([90, 90.5, 90]), "b": results([89, 90, 89.5]), "c": results([89.5, 90, 90])}
    assert judge(near, rows=["a", "b", "c"], within=5) == "holds"
    assert judge({**near, "b": results([50, 51, 50])}, rows=["a", "b", "c"], within=5) == "fails"
    assert judge({**near, "b": results([80, 99, 90])}, rows=["a", "b"], within=5) == "inconclusive"
    assert judge(near, rows=["a", "b"], within=1) == "inconclusive"
    far = {"a": results([90, 91, 90]), "b": results([88, 89, 88])}
    assert judge(far, rows=["a", "b"], within=1.5, hard=True) == "fails"


def test_rows_within_little_fail_by_chance_at_most_one_time_in_twenty():
    """Equal rows can seem too far apart on either side."""
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(1000):
        rows = {name: results(rng.normal(0, 1, 3).tolist(), "train_loss") for name in ("a", "b")}
        outcomes.append(judge(rows, rows=["a", "b"], metric="train_loss", within=0.01))
    assert 0.02 < outcomes.count("fails") / len(outcomes) <= 0.05


def test_scores_are_equal_where_numbers_and_answers_are():
    near = {"a": results([90, 91]), "b": results([88, 89])}
    same = dict(rows=["a", "b"], metric="scores", hard=True)
    assert judge(near, **same, within=2.5) == "fails", "answers of other videos differ"
    for one, other in zip(*near.values(), strict=True):
        one["answers"] = other["answers"]
    assert judge(near, **same, within=2.5) == "holds"
    assert judge(near, **same, within=1) == "fails"
    near["a"][0]["answers"] = {**near["a"][0]["answers"], "list": "others", "right": "01"}
    assert judge(near, **same, within=2.5) == "fails"


def test_numbers_have_the_error_the_limits_and_each_seed():
    near = {"a": results([90, 91]), "b": results([88, 90])}
    (text,) = say(near, above=["a"], below=["b"])["numbers"]
    assert text.startswith("a 90.5 ± 0.71 against b 89 ± 1.4: +1.5 (error ")
    assert "seeds +2, +1; " in text
    (text,) = say({"a": near["a"][:1]}, rows=["a"], at_least=80)["numbers"]
    assert "one seed" in text


def test_what_can_be_proved_is_judged_by_the_seeds_that_did_not_fail():
    whole, part = results([90, 91]), results([88, 89])[1:]
    assert judge({"a": whole, "b": part}, above=["a"], below=["b"], margin=1.5, hard=True) == "holds"
    part[0]["answers"] = whole[1]["answers"]
    assert judge({"a": whole, "b": part}, rows=["a", "b"], within=2.5, metric="scores", hard=True) == "holds"
    none = {"a": whole[:1], "b": part}
    assert judge(none, above=["a"], below=["b"], hard=True) == "inconclusive"
    assert judge(none, rows=["a", "b"], within=2.5, metric="scores", hard=True) == "inconclusive"


def test_metrics_without_answers_have_the_error_over_seeds():
    rows = {
        name: results(values, "train_loss") for name, values in {"a": [1.0, 1.1, 1.2], "b": [0.2, 0.2, 0.3]}.items()
    }
    assert judge(rows, above=["a"], below=["b"], metric="train_loss") == "holds"
    assert "over seeds" in say(rows, above=["a"], below=["b"], metric="train_loss")["numbers"][0]
    rows["b"] = results([0.2, 1.9, 0.4], "train_loss")
    assert judge(rows, above=["a"], below=["b"], metric="train_loss") == "inconclusive"
    for cell in (*rows["a"], *rows["b"]):
        del cell["answers"]  # they do not matter
    assert judge(rows, above=["a"], below=["b"], metric="train_loss") == "inconclusive"


def test_the_gap_is_to_the_test_videos_and_not_to_those_that_chose_the_checkpoint():
    rows = {"a": results([50, 51, 52]), "b": results([90, 91, 92])}
    for cell in (*rows["a"], *rows["b"]):
        cell["values"] |= {"train": 95, "gap": 0.0}
    assert judge(rows, above=["a"], below=["b"], metric="gap", margin=20) == "holds"
    assert "not judged" in say(rows, above=["a"], below=["b"], metric="val_gap")["numbers"][0]


# -- told, never judged -----------------------------------------------------------------------------------------------


def obstacle(found, **assertion):
    found = say(found, **(assertion or dict(above=["a"], below=["b"])))
    assert found["outcome"] == "inconclusive"
    return found["numbers"][0]


def test_what_gives_no_error_is_told_and_not_judged():
    rows = {"a": results([90, 91]), "b": results([50, 51])}
    assert "one seed" in obstacle({"a": rows["a"][:1], "b": rows["b"][:1]})
    assert "seeds differ: a [0, 1]; b [0, 1, 2]" in obstacle({**rows, "b": results([50, 51, 50])})
    assert "video is not known" in obstacle({**rows, "a": results([None, 90])})
    other = results([90, 91])
    for cell in other:
        cell["answers"]["list"] = "others"
    assert "different videos" in obstacle({**rows, "a": other})
    assert "different videos" in obstacle({"a": [rows["a"][0], other[1]]}, rows=["a"], at_least=50)
    for other in (results([90, 91], groups=[*range(100)] * 2), results([90, 91])):
        other[1]["answers"]["right"] += "1" * (other[1]["answers"]["groups"] is None)
        assert "different videos" in obstacle({**rows, "a": other})
        assert assertions.compute_interval([other[1], rows["a"][1]]) is None
    alike = {name: results(values, groups=[1] * 200) for name, values in (("a", [90, 91]), ("b", [50, 51]))}
    assert "one group" in obstacle(alike)
    equal = {"a": results([100, 100], "train"), "b": results([90, 90], "train")}
    assert "no error" in obstacle(equal, above=["a"], below=["b"], metric="train")


@pytest.mark.parametrize(
    "change",
    [
        {"above": ["a"], "below": ["b"], "margin": 0.05},
        {"rows": ["a"], "at_least": 0.75},
        {"rows": ["a", "b"], "within": 0.03},
        {"rows": ["a"], "at_most": 150},
    ],
)
def test_a_margin_in_other_units_is_refused(change):
    with pytest.raises(ValidationError, match="percentage points"):
        spec.Assertion.model_validate({"claim": "c", **change})
    assert spec.Assertion.model_validate({"claim": "c", **change, "metric": "train_loss"})


def test_rows_that_have_not_learnt_are_named_with_the_claim():
    rows = {"a": results([90, 91]), "b": results([50, 51])}
    for name, trains in (("a", [99, 80]), ("b", [95, 96])):
        for cell, train in zip(rows[name], trains, strict=True):
            cell["values"]["train"] = train
    assert say(rows, bar=90, above=["a"], below=["b"])["unlearnt"] == ["a"]
    assert say(rows, bar=75, above=["a"], below=["b"])["unlearnt"] == []
    assert say(rows, bar=90, above=["a"], below=["b"], hard=True)["unlearnt"] == []
    assert assertions.find_unlearnt_seeds(rows["a"], 90) == {1: 80}


def test_pairing_by_group_finds_what_groups_hide():
    """Ten groups of twenty videos that are right or wrong together carry less than 200 videos."""
    groups = [1 + i // 20 for i in range(200)]
    error = lambda **more: assertions.estimate_rows("video", results([60, 60], **more), results([50, 50], **more)).error
    assert error(groups=groups) > 2 * error()


def test_pooled_rows_are_judged_as_one_row_of_the_videos_of_all_splits():
    groups = [1 + i // 10 for i in range(200)]
    ours, theirs = ([results(values, groups=groups) for values in rows] for rows in (WINNING, LOSING))
    split = {f"a{i}": row for i, row in enumerate(ours)} | {f"b{i}": row for i, row in enumerate(theirs)}
    whole = {"a": join(ours), "b": join(theirs)}
    sides = {"above": ["a0", "a1", "a2"], "below": ["b0", "b1", "b2"]}
    one = say(whole, above=["a"], below=["b"])
    assert say(split, pooled=True, **sides)["numbers"] == [
        one["numbers"][0].replace("a ", "a0, a1, a2 ").replace(" b ", " b0, b1, b2 ")
    ]
    assert judge(split, pooled=True, **sides) == one["outcome"] == "holds"
    assert judge(split, **sides) == "inconclusive", "one by one, a pair is not decided"


def test_a_bound_is_judged_for_pooled_rows_too():
    groups = [1 + i // 10 for i in range(200)]
    rows = {f"a{i}": results(values, groups=groups) for i, values in enumerate(WINNING)}
    names, whole = [*rows], {"a": join([*rows.values()])}
    for bound, outcome in (({"at_least": 40}, "holds"), ({"at_most": 50}, "fails"), ({"at_least": 70}, "inconclusive")):
        one, pooled = say(whole, rows=["a"], **bound), say(rows, rows=names, pooled=True, **bound)
        assert pooled["numbers"] == [one["numbers"][0].replace("a ", "a0, a1, a2 ")]
        assert pooled["outcome"] == one["outcome"] == outcome


def test_a_floor_is_paired_with_the_answers_and_pooled_with_them():
    groups = [1 + i // 10 for i in range(200)]
    rows = {f"a{i}": results(values, groups=groups) for i, values in enumerate(WINNING)}
    claim = {"rows": [*rows], "pooled": True, "metric": "above_floor", "at_least": 0}
    for cell in (cell for row in rows.values() for cell in row):
        cell["answers"]["floor"] = "1" * 40 + "0" * 160
    assert judge(rows, **claim) == "holds"
    for cell in (cell for row in rows.values() for cell in row):
        cell["answers"]["floor"] = cell["answers"]["right"]
    same = say(rows, **claim)["numbers"][0]
    assert "+0 (error 1.7, " in same, "what both get right cancels; 100 / 60 groups is left"
    assert "not known" in say({"a": results([90, 91])}, rows=["a"], metric="above_floor", at_least=0)["numbers"][0]


def test_an_open_claim_says_how_many_seeds_would_decide_it():
    groups = [1 + i // 10 for i in range(200)]
    forecast = lambda rows, **more: say(rows, above=["a"], below=["b"], **more)["numbers"][0].split("; ")[1]
    apart = {"a": results([90, 96, 93]), "b": results([88, 80, 84])}
    seeds = int(forecast(apart).split()[1])
    assert 3 < seeds < 10
    assert judge({name: row * 3 for name, row in apart.items()}, above=["a"], below=["b"]) == "holds", "nine such seeds"
    near = {"a": results([90, 91, 92], groups=groups), "b": results([88, 90, 91], groups=groups)}
    assert "100 seeds would not decide it, as the error over groups" in forecast(near)
    assert ";" not in say(apart, above=["a"], below=["b"], margin=-50)["numbers"][0], "it is decided"


def test_rows_with_other_seeds_or_without_answers_are_not_pooled():
    rows = {
        name: results(values) for name, values in zip(("a0", "a1", "b0", "b1"), WINNING[:2] + LOSING[:2], strict=True)
    }
    sides = {"above": ["a0", "a1"], "below": ["b0", "b1"], "pooled": True}
    fewer = say(rows | {"a1": rows["a1"][:2]}, **sides)
    assert fewer["outcome"] == "inconclusive"
    assert "seeds differ" in fewer["numbers"][0]
    unknown = say(
        rows | {"b1": [{key: value for key, value in cell.items() if key != "answers"} for cell in rows["b1"]]}, **sides
    )
    assert unknown["outcome"] == "inconclusive"


WINNING, LOSING = [[70, 72, 71], [74, 75, 73], [80, 78, 79]], [[55, 58, 56], [66, 68, 66], [50, 52, 51]]


def join(rows):
    """Return the cells of a row that has the videos of several, each with groups of its own."""
    cells = []
    for parts in zip(*rows, strict=True):
        right = "".join(part["answers"]["right"] for part in parts)
        groups = [100 * i + group for i, part in enumerate(parts) for group in part["answers"]["groups"]]
        answers = {"list": "all", "right": right, "groups": groups}
        cells.append({**parts[0], "values": {"video": 100 * right.count("1") / len(right)}, "answers": answers})
    return cells


@pytest.mark.parametrize(
    "change", [dict(metric="train"), dict(hard=True), dict(above=[], below=[], rows=["a"], within=9)]
)
def test_pooled_needs_answers_of_one_row_or_two(change):
    with pytest.raises(ValidationError, match="pooled"):
        spec.Assertion.model_validate({"claim": "c", "above": ["a"], "below": ["b"], "pooled": True, **change})
