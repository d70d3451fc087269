"""Ablation tables without a run: what they expand to, what is refused, how assertions are judged, what is written."""

import json
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from videores import configfile
from videores.ablation import (
    collect,
    commands,
    costs,
    outcomes,
    output,
    pages,
    pictures,
    plan,
    processes,
    render,
    table,
    targets,
)
from videores.errors import UserError

ROOT = Path(__file__).parent.parent
BASE = "r2plus1d_motion.yaml"
SCALES = {name: {"base": BASE} for name in table.SCALES}


def make(**values):
    """A table with the given keys."""
    usual = dict(title="t", question="q?", shows="s", columns=["video"], scales=SCALES)
    return table.Table.model_validate({**usual, **values})


def rows(about, scale="cpu", **options):
    return [(cell.row, cell.seed) for cell in plan.plan(about, scale, **options)]


TWO = [{"name": "a"}, {"name": "b", "set": {"model.width": 8}}]


# -- expansion --------------------------------------------------------------------------------------------------------


def test_factors_make_every_combination_and_listed_cells_follow():
    factors = {"net": {"R(2+1)D": {}, "R3D": {"model.name": "r3d_18"}}, "width": {"8": {"model.width": 8}, "32": {}}}
    about = make(factors=factors, cells=[{"name": "x", "set": {"train.lr": 0.1}}], seeds=[3])
    assert rows(about) == [(name, 3) for name in ("R(2+1)D 8", "R(2+1)D 32", "R3D 8", "R3D 32", "x")]
    cell = plan.plan(about, "cpu")[2]
    assert (cell.config.model.name, cell.config.model.width, cell.config.run.seed) == ("r3d_18", 8, 3)


def test_a_scale_changes_base_overrides_seeds_rows_and_levels():
    full = {
        "base": "r2plus1d_ucf101.yaml",
        "set": {"train.gamma": 0.5},
        "seeds": [5],
        "factors": {"net": {"R3D": {"model.name": "r3d_18"}, "HMDB51": {"base": "r2plus1d_hmdb51.yaml"}}},
    }
    smoke = {"base": BASE, "rows": ["b"]}
    about = make(factors={"net": {"b": {"model.width": 8}, "c": {}}}, scales={**SCALES, "full": full, "smoke": smoke})
    first, second = plan.plan(about, "full")
    assert (first.row, first.seed, first.config.train.gamma) == ("R3D", 5, 0.5)
    assert second.config.data.format == "hmdb51"
    assert rows(about, "smoke") == [("b", 0), ("b", 1)]


def test_rows_come_after_what_they_need_and_bring_it_along():
    cells = [
        {"name": "t", "kind": "test", "needs": "wide", "set": {"test.clips": 1}},
        {"name": "again", "needs": "wide", "set": {"train.lr": 0.1}},
        {"name": "wide", "set": {"model.width": 64}},
        {"name": "other"},
    ]
    about = make(cells=cells, seeds=[0])
    assert [row for row, _ in rows(about)] == ["wide", "t", "again", "other"]
    assert [row for row, _ in rows(about, rows=["t"])] == ["wide", "t"]
    _, tested, again, _ = plan.plan(about, "cpu")
    assert tested.config.model.width == 64  # a test has the configuration of what it tests
    assert again.config.model.width == 32  # a training that starts from other weights has its own
    assert (tested.depth, tested.needs.row, tested.rescored) == (1, "wide", False)


def test_a_row_with_keys_of_distillation_is_taught_by_what_it_needs():
    pupil = {"name": "pupil", "needs": "wide", "set": {"train.distill.temperature": 2.0}}
    wide, pupil = plan.plan(make(cells=[{"name": "wide", "set": {"model.width": 64}}, pupil], seeds=[0]), "cpu")
    assert pupil.config.train.distill.teacher == str(plan.RUNS / wide.key / "checkpoints" / "best.ckpt")
    assert pupil.config.model.weights is None


def test_repeated_clips_make_steps_larger_not_fewer():
    train = {"data.batch_size": 8, "train.epochs": 2, "test.clips": 1}
    cells = [{"name": "one", "set": train}, {"name": "two", "set": {**train, "data.clip.repeat": 2}}]
    one, two = plan.plan(make(cells=cells, seeds=[0]), "cpu")
    assert costs.passes(one, (64, 0, 0)) == 2 * 64 * (1 + costs.BACKWARD)
    assert costs.passes(two, (64, 0, 0)) == 2 * costs.passes(one, (64, 0, 0))
    assert "about 512 steps of 16 clips" in commands.work(two, {"params": 1, "gmacs": 1.0})  # motion8 has 2,048 videos


def test_seeds_of_the_command_line_go_first():
    assert rows(make(cells=TWO), seeds=(4, 4, 2)) == [("a", 4), ("a", 2), ("b", 4), ("b", 2)]


def test_smoke_reads_small_copies_of_embedded_data():
    small, whole = (plan.plan(make(cells=TWO), "smoke", small_data=folder)[0] for folder in ("there", None))
    assert (small.config.data.format, small.config.data.root) == ("csv", "there/motion8")
    assert whole.config.data.format == "motion8"
    assert small.key != whole.key


# -- keys -------------------------------------------------------------------------------------------------------------


def key(**changes):
    return plan.plan(make(cells=[{"name": "a", "set": changes}], seeds=[0]), "cpu")[0].key


def test_a_key_is_what_the_result_depends_on():
    usual = plan.plan(make(cells=[{"name": "another name"}], seeds=[0]), "cpu")[0].key
    assert key(**{"data.root": "elsewhere"}) == key(**{"data.workers": 2}) == key(**{"run.name": "x"}) == usual
    different = [key(**{"model.width": 8}), key(**{"test.clips": 1}), key(**{"trainer.devices": 2}), usual]
    assert len(set(different)) == 4
    assert plan.plan(make(cells=[{"name": "a"}]), "cpu")[1].key != usual  # another seed


def test_an_assertion_about_a_row_that_is_not_there_is_refused_where_it_is_judged():
    claim = {"claim": "a beats c", "above": ["a"], "below": ["bb"], "scales": ["full"]}
    assert plan.plan(make(cells=TWO, assertions=[claim]), "cpu")
    with pytest.raises(UserError, match=r"'a beats c' names bb \(did you mean b\?\), which is no row at scale full"):
        plan.plan(make(cells=TWO, assertions=[claim]), "full")


def test_the_committed_cells_are_of_the_tables_as_they_are():
    for folder in (ROOT / "docs" / "ablations").glob("*/cells"):
        found = output.load_cells(folder.parent)
        seeds = sorted({cell["seed"] for cell in found})
        now = {cell.key for cell in plan.plan(table.read(folder.parent.name), "cpu", seeds=seeds)}
        assert {cell["key"] for cell in found} <= now, folder


def test_the_answers_of_a_committed_cell_are_those_of_its_accuracy():
    for path in (ROOT / "docs" / "ablations").glob("*/cells/*.json"):
        cell = json.loads(path.read_text())
        if cell["kind"] != "measure":
            assert 100 * outcomes.right(cell).mean() == pytest.approx(cell["values"]["video"]), path


def test_other_videos_are_another_result_and_an_embedded_set_is_the_same_everywhere():
    csv = {"data.name": "mine", "data.format": "csv", "data.root": "one"}
    assert key(**csv) != key(**{**csv, "data.root": "two"}) != key(**csv, **{"data.splits": "lists"})
    measured = [{"name": root, "kind": "measure", "set": {**csv, "data.root": root}} for root in ("one", "two")]
    with pytest.raises(UserError, match="rows one and two have equal configurations"):
        plan.plan(make(cells=measured), "cpu")  # nothing is read


def test_a_cell_that_starts_from_another_has_a_key_of_its_own():
    cells = [{"name": "a"}, {"name": "b", "set": {"model.width": 8}}, {"name": "c", "needs": "a"}]
    assert len({cell.key for cell in plan.plan(make(cells=cells), "cpu")}) == 6


def test_tables_share_equal_cells():
    one, other = make(cells=TWO), make(cells=[TWO[1], {"name": "new", "set": {"train.lr": 1}}])
    shared = {c.key for c in plan.plan(one, "cpu")} & {c.key for c in plan.plan(other, "cpu")}
    assert len(shared) == 2  # of both seeds


# -- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([{"name": "a", "set": {"model.width": 32}}], r"a sets model.width=32, which changes nothing"),
        (
            [{"name": "a", "set": {"train.lr": 0.1, "train.momentum": 0.9}}],
            r"train.momentum=0.9, which changes nothing",
        ),
        ([{"name": "a"}, {"name": "b"}], "rows a and b have equal configurations"),
        ([{"name": "a"}, {"name": "a", "set": {"train.lr": 1}}], "the row a twice"),
        ([{"name": "a", "needs": "b"}], "a needs b, which is no row"),
        ([{"name": "a", "needs": "b"}, {"name": "b", "needs": "a"}], "a circle"),
        ([{"name": "a", "set": {"model.widht": 8}}], r"unknown key \(did you mean width"),
        (
            [{"name": "a"}, {"name": "t", "kind": "test", "needs": "a", "set": {"test.clips": 3}}],
            "t sets test.clips=3, which changes nothing",
        ),
    ],
)
def test_rows_that_make_no_sense_are_refused(cells, message):
    with pytest.raises(UserError, match=message):
        plan.plan(make(cells=cells), "cpu")


def test_an_override_of_the_scale_that_changes_nothing_is_refused():
    scales = {**SCALES, "cpu": {"base": BASE, "set": {"train.epochs": 6}}}
    with pytest.raises(UserError, match=r"the scale cpu sets train.epochs=6, which changes nothing"):
        plan.plan(make(cells=TWO, scales=scales), "cpu")


def test_an_override_that_others_need_is_not_idle():
    cells = [{"name": "R2D", "set": {"model.name": "r2d_18", "model.frames": 8, "data.clip.frames": 8}}]
    assert rows(make(cells=cells, seeds=[0])) == [("R2D", 0)]


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(UserError, match=r"no row R3d \(did you mean R3D\?\); the table has R3D, b"):
        plan.plan(make(cells=[{"name": "R3D"}, {"name": "b", "set": {"train.lr": 1}}]), "cpu", rows=["R3d"])


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(UserError, match=r"no table c01_conv_typ \(did you mean c01_conv_type\?\)"):
        table.read("c01_conv_typ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colums: [video]", r"colums: unknown key \(did you mean columns"),
        ("columns: [vido]", r"unknown column vido \(did you mean video"),
        ("cells: [{nam: a}]", r"cells.0.nam: unknown key \(did you mean name"),
        ("cells: [{name: a, kind: test}]", "a test needs the row"),
        ("assertions: [{claim: c, rows: [a]}]", "give above and below, or rows and one of"),
        ("assertions: [{claim: c, rows: [a], at_least: 1, at_most: 2}]", "one of at_least"),
        ("assertions: [{claim: c, metric: vidoe, rows: [a], at_least: 1}]", "did you mean video"),
        ("scales: {cpu: {base: x}}", "scales must be smoke, cpu, full"),
        ("title: [", "not valid YAML"),
    ],
)
def test_a_wrong_table_is_refused_with_its_key(tmp_path, change, message):
    values = {"title": "t", "question": "q", "shows": "s", "columns": ["video"], "cells": TWO, "scales": SCALES}
    kept = {name: value for name, value in values.items() if name != change.partition(":")[0]}
    path = tmp_path / "t.yaml"
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in kept.items()) + change)
    with pytest.raises(UserError, match=message):
        table.read(path)


# -- assertions -------------------------------------------------------------------------------------------------------


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
    return outcomes.judge(table.Assertion.model_validate({"claim": "c", **assertion}), found)["outcome"]


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
    said = lambda **bound: outcomes.judge(table.Assertion(claim="c", rows=("a", "b"), **bound), near)["numbers"]
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
    low, high = outcomes.paired_interval(better, worse)
    assert 5 < low < 10 < high < 15
    pairs = [1 + i // 20 for i in range(200)]  # ten groups of twenty: 10 points are one group
    grouped = outcomes.paired_interval(results([60, 60], groups=pairs), results([50, 50], groups=pairs))
    assert grouped[0] == 0
    other = results([60, 60])
    other[0]["answers"]["list"] = "others"
    assert outcomes.paired_interval(better, other) is None


def test_a_step_is_of_videos_and_its_work_of_all_their_clips():
    usual = ("data.batch_size=8", "train.epochs=2", "train.warmup=0")
    load = lambda *overrides: configfile.load(BASE, (*usual, *overrides))
    once, twice = load(), load("data.clip.repeat=2")
    assert costs.steps_of(once, 70) == costs.steps_of(twice, 70) == 16
    assert costs.steps_of(load("trainer.devices=2"), 70) == 8
    cell = lambda cfg: SimpleNamespace(config=cfg, kind="train")
    less, more = (costs.passes(cell(cfg), (64, 10, 0)) for cfg in (once, twice))
    assert less == 128 * 3 + 2 * 20  # a step costs three passes; each epoch scores 10 videos twice over
    assert more - less == 128 * 3


def test_the_forecast_is_the_line_through_the_cheapest_and_the_dearest():
    assert costs.pace_of([(2.0, 0.3, 4.0), (1.0, 0.2, 2.0)]) == pytest.approx((3, 0.1, 0.1))
    assert costs.pace_of([(1.0, 0.2, 2.0)]) == pytest.approx((2, 0.2, 0))
    assert costs.pace_of([(1.0, 0.2, 0.0), (2.0, 0.1, 0.0)]) == pytest.approx((0, 0.2, 0))  # noise
    assert costs.pace_of([(1.0, 0.1, 0.0), (2.0, 0.4, 0.0)]) == pytest.approx((0, 0, 0.3))  # as slow as it gets


def test_a_child_that_a_signal_ends_stops_the_sweep_as_one_that_ends_itself(tmp_path):
    """Sent before the tool listens to it."""
    ends = lambda number: processes.in_child(lambda: os.kill(os.getpid(), number), ["x"], tmp_path / "log")
    assert ends(signal.SIGTERM) in processes.STOPPED
    assert ends(signal.SIGKILL) == 137
    assert ends(signal.SIGKILL) not in processes.STOPPED


def child_that(does, code=0, handler=signal.SIG_DFL):
    """Forks a child with this handler of SIGTERM. Returns its id when it has it."""
    read, write = os.pipe()
    if child := os.fork():
        os.read(read, 1)
        return child
    if handler is not None:
        signal.signal(signal.SIGTERM, handler)
    os.write(write, b"1")
    does()
    os._exit(code)


@pytest.mark.parametrize("code", [0, 1, 2, 70])
@pytest.mark.parametrize("late", [False, True], ids=["while it starts", "while it ends"])
def test_a_wish_to_end_is_not_lost_where_the_child_ends_as_if_there_were_none(late, code):
    """Its last batch is done, or it fails: the sweep must not go on."""

    def start():
        if not late:
            os.kill(os.getpid(), signal.SIGTERM)
        child = child_that(lambda: time.sleep(0.1), code, signal.SIG_IGN)
        if late:
            os.kill(os.getpid(), signal.SIGTERM)
        return child

    assert processes.ended(start) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_wish_to_end_while_a_child_starts_reaches_it():
    def start():
        os.kill(os.getpid(), signal.SIGTERM)
        return child_that(lambda: time.sleep(60))

    began = time.monotonic()
    assert processes.ended(start) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


def test_a_wish_to_end_that_reaches_a_child_before_its_handler_is_there_ends_it():
    """It has the parent's handler then, which would send the signal to itself, or to nobody."""
    start = lambda: child_that(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)), handler=None)
    began = time.monotonic()
    assert processes.ended(start) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


def test_a_wish_to_end_that_comes_when_the_child_is_gone_is_not_lost(monkeypatch):
    wait = os.waitpid

    def gone(child, options):
        found = wait(child, options)
        os.kill(os.getpid(), signal.SIGTERM)  # between its end and the next line
        return found

    monkeypatch.setattr(os, "waitpid", gone)
    assert processes.ended(lambda: child_that(lambda: None)) == 128 + signal.SIGTERM


# -- targets ----------------------------------------------------------------------------------------------------------

GROUP = {
    "paper": "p",
    "table": "1",
    "source": "s",
    "status": "V",
    "protocol": {"data": "kinetics400-val", "frames": 16, "size": 112, "clips": 10, "crops": 1},
    "values": {"R3D": {"video": 64.2}},
}
OURS = "16x2@112/128 10x1 softmax-mean kinetics400-val"


@pytest.mark.parametrize("key", ["paper", "table", "source", "status", "protocol"])
def test_a_target_without_a_source_is_refused(key):
    with pytest.raises(UserError, match=f"{key}: missing: every published number names its paper"):
        targets.check({name: value for name, value in GROUP.items() if name != key}, "t.yaml, entry 1")


def test_a_target_that_was_not_read_is_refused():
    for change in ({"status": "M"}, {"source": ""}, {"values": {"R3D": {"vido": 1}}}):
        with pytest.raises(UserError, match=r"t.yaml, entry 1"):
            targets.check({**GROUP, **change}, "t.yaml, entry 1")


def test_targets_stand_beside_ours_only_under_the_same_protocol():
    group = targets.check(GROUP, "t")
    assert targets.beside([group], "R3D", "video", OURS) == 64.2
    for other in (OURS.replace("10x1", "5x1"), OURS.replace("val", "1"), OURS.replace("@112", "@128"), None):
        assert targets.beside([group], "R3D", "video", other) is None
    assert targets.beside([group], "R3D", "clip", OURS) is None
    vague = targets.check({**GROUP, "protocol": {"data": "kinetics400-val", "frames": 16}}, "t")
    assert targets.beside([vague], "R3D", "video", OURS) is None


# -- what is written --------------------------------------------------------------------------------------------------


def cell(row, seed, video, status="done", **more):
    failed = status == "failed"
    answers = {"list": "l", "right": "01", "groups": None}
    values = {"params": 1.5e6} | ({} if failed else {"video": video, "clip": None})
    about = {"row": row, "seed": seed, "kind": "train", "status": status, "values": values, "key": f"{row}{seed}"}
    about |= {"code": "of now"}
    about |= {"protocol": None if failed else OURS, "commit": "0123456789ab", "dirty": False, "scores": [[0.5]]}
    about |= {"error": "the loss is nan" if failed else None, "answers": answers, "place": 0}
    return {**about, **more}


FOUND = [cell("R3D", 0, 60.0), cell("R3D", 1, 62.0), cell("a|b_1", 0, None, "failed")]
ABOUT = make(
    cells=TWO, columns=["params", "clip", "video"], assertions=[{"claim": "c", "rows": ["R3D"], "at_least": 50}]
)


def test_markdown_has_means_spreads_failures_outcomes_and_targets():
    text = render.markdown("t", ABOUT, "cpu", FOUND, [targets.check(GROUP, "t")])
    assert "| R3D | 1.500 | - | 61.0 ± 1.4 (published 64.2) | 0, 1 |" in text
    assert "| a|b_1 | 1.500 | - | - | 0 |" in text
    assert "* a|b_1: seed 0 failed: the loss is nan" in text
    assert "| c | **holds** | R3D 61 ± 1.4, interval 0.0 to 100.0 |" in text
    assert "other protocols" not in text
    elsewhere = targets.check({**GROUP, "protocol": {"data": "ucf101-1"}}, "t")
    text = render.markdown("t", ABOUT, "cpu", FOUND, [elsewhere])
    assert "(published" not in text
    assert "| R3D | 64.2 |" in text.partition("Published under other protocols")[2]


def test_csv_has_a_line_a_cell_and_latex_a_line_a_row():
    lines = render.comma_separated(ABOUT, FOUND).splitlines()
    assert lines[0].startswith("row,seed,kind,status,params,clip,video,protocol")
    assert lines[1].startswith(f"R3D,0,train,done,1500000.0,,60.0,{OURS}")
    assert lines[3].endswith("the loss is nan")
    text = render.latex(ABOUT, FOUND)
    assert r"R3D & 1.500 & - & 61.0 $\pm$ 1.4 \\" in text
    assert r"a|b\_1" in text


def test_cells_are_read_back_in_order_and_rebuild_the_same_files(tmp_path):
    output.save_cells(tmp_path, FOUND, ["R3D", "a|b_1"])
    again = output.load_cells(tmp_path)
    assert [c["place"] for c in again] == [0, 0, 1]
    assert [{**c, "place": 0} for c in again] == FOUND
    output.forget(tmp_path, lambda c: c["seed"] == 1)
    assert [c["key"] for c in output.load_cells(tmp_path)] == ["R3D1"]
    assert render.comma_separated(ABOUT, again) == render.comma_separated(ABOUT, FOUND)


def test_a_saved_row_that_the_scale_no_longer_has_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    about, folder = make(cells=[TWO[0], {**TWO[1], "scales": ["full"]}], seeds=[0]), output.folder_of("t", "cpu")
    output.save_cells(folder, [cell("b", 0, 50.0)], ["b"])
    now = cell("a", 0, 60.0, key=plan.plan(about, "cpu")[0].key)
    assert commands.finish("t", about, "cpu", [now], reuse=False, judge=False) == 0
    assert [c["row"] for c in output.load_cells(folder)] == ["a"]


def test_a_picture_that_there_is_nothing_for_any_more_goes(tmp_path):
    trained = {**cell("R3D", 0, 60.0), "curves": {"train/loss": [[1, 2.0]], "val/video_top1": [[4, 50.0]]}}
    assert output.draw(tmp_path, ABOUT, [trained]) == ["curves.png"]
    assert output.draw(tmp_path, ABOUT, [cell("R3D", 0, 60.0)]) == []
    assert list(tmp_path.iterdir()) == []


def test_more_rows_than_there_are_looks_are_all_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "draw_row", lambda axes, row, curves, look: drawn.append(row))
    rows = {str(i): [{"curves": {"train/loss": [[1, 1.0]]}}] for i in range(len(pictures.looks()) + 3)}
    assert pictures.draw_curves(tmp_path / "curves.png", rows)
    assert set(drawn) == set(rows)


def test_a_test_whose_costs_are_not_known_has_an_empty_panel(tmp_path):
    row = lambda name, test, cost: {
        "row": name,
        "protocol": f"8x1@32/32 3x1 softmax-mean {test}",
        "numbers": {"video": (50.0, None), "gmacs_video": (cost, None)},
    }
    rows = [row("a", "one-test", 1.0), row("b", "one-test", 2.0), row("c", "other-test", None)]
    assert pictures.draw_pareto(tmp_path / "pareto.png", rows, ["gmacs_video"])


def test_the_pareto_front():
    points = [(1, 50, "cheap"), (2, 70, "good"), (3, 60, "bad"), (3, 70, "dear"), (2, 70, "as good")]
    assert pictures.front(points) == {"cheap", "good", "as good"}


def test_answers_do_not_depend_on_the_order_of_videos():
    from videores.scores import Predictions

    logits = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    names, groups = np.array(list("fbdace")), np.array(["x", "x", "y", "y", "", ""])
    label, order = np.array([0, 1, 2, 0, 1, 2]), np.array([3, 1, 5, 0, 2, 4])
    usual = dict(path=None, classes=np.arange(3), clip=np.arange(2), crop=np.zeros(2), metrics={}, protocol=OURS)
    one = Predictions(video=names, label=label, group=groups, logits=logits, **usual)
    other = Predictions(video=names[order], label=label[order], group=groups[order], logits=logits[order], **usual)
    assert collect.answers(one) == collect.answers(other)
    assert collect.sample(one) == collect.sample(other)
    found = collect.answers(one)
    assert min(found["groups"]) == 1  # 0 would read as no group
    right = outcomes.right({"answers": found})
    assert right.mean() == pytest.approx((logits.mean(1).argmax(1) == label).mean(), abs=0.34)


# -- the shipped tables -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", table.SCALES)
@pytest.mark.parametrize("name", table.names())
def test_every_table_expands_at_every_scale(name, scale):
    about = table.read(name)
    planned = plan.plan(about, scale, small_data="small" if scale == "smoke" else None)
    names = {cell.row for cell in planned}
    assert not any("," in name for name in names)  # --rows is separated by commas
    if scale == "smoke":
        assert len(planned) <= 3
        assert {cell.config.train.epochs for cell in planned if cell.kind != "measure"} == {1}
    if scale == "cpu":
        assert len({cell.seed for cell in planned}) >= 2
    for assertion in about.assertions:
        if scale in assertion.scales and scale != "smoke":
            assert set(assertion.names()) <= names, assertion.claim
    targets.read(name)


def test_targets_belong_to_tables():
    assert {path.stem for path in targets.FOLDER.glob("*.yaml")} <= set(table.names())


def test_the_committed_pages_are_what_the_committed_cells_say(tmp_path, monkeypatch):
    """What --docs writes without results."""
    monkeypatch.chdir(tmp_path)
    committed = ROOT / pages.DOCS
    for path in [*committed.glob("*/cells/*.json"), *committed.glob(f"*/{pages.NOTES}")]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    pages.write()
    for path in sorted(committed.rglob("README.md")):
        assert (tmp_path / path.relative_to(ROOT)).read_text() == path.read_text(), (
            f"tools/ablate.py --docs changes {path}"
        )
    assert (ROOT / pages.DOCS / "README.md").exists()


def test_the_errata_name_tests_and_tables_that_exist():
    text = (ROOT / "docs" / "errata.md").read_text()
    functions = {
        name
        for path in (ROOT / "tests").glob("*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    files = {path.stem for path in (ROOT / "tests").glob("*.py")}
    named = set(re.findall(r"\btest_\w+", text))
    assert len(named) > 15
    assert named <= functions | files
    assert set(re.findall(r"\bc\d\d_\w+", text)) <= set(table.names())
