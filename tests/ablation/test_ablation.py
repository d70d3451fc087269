"""Ablation tables without a run: what they expand to, keys, what is refused, and what it will cost."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.ablation import BASE, SCALES, TWO, make

from videores.ablation import cells, commands, costs, plan, published, spec, sweep
from videores.config import parse
from videores.errors import UserError

ROOT = Path(__file__).parents[2]


def rows(about, scale="cpu", **options):
    return [(cell.row, cell.seed) for cell in plan.plan_cells(about, scale, **options)]


# -- expansion --------------------------------------------------------------------------------------------------------


def test_factors_make_every_combination_and_listed_cells_follow():
    factors = {"net": {"R(2+1)D": {}, "R3D": {"model.name": "r3d_18"}}, "width": {"8": {"model.width": 8}, "32": {}}}
    about = make(factors=factors, cells=[{"name": "x", "set": {"train.lr": 0.1}}], seeds=[3])
    assert rows(about) == [(name, 3) for name in ("R(2+1)D 8", "R(2+1)D 32", "R3D 8", "R3D 32", "x")]
    cell = plan.plan_cells(about, "cpu")[2]
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
    first, second = plan.plan_cells(about, "full")
    assert (first.row, first.seed, first.config.train.gamma) == ("R3D", 5, 0.5)
    assert second.config.data.format == "hmdb51"
    assert rows(about, "smoke") == [("b", 0), ("b", 1)]


def test_rows_come_after_what_they_need_and_bring_it_along():
    cells = [
        {"name": "t", "kind": "test", "needs": "wide", "set": {"test.clips": 2}},
        {"name": "again", "needs": "wide", "set": {"train.lr": 0.1}},
        {"name": "wide", "set": {"model.width": 64}},
        {"name": "other"},
    ]
    about = make(cells=cells, seeds=[0])
    assert [row for row, _ in rows(about)] == ["wide", "t", "again", "other"]
    assert [row for row, _ in rows(about, rows=["t"])] == ["wide", "t"]
    _, tested, again, _ = plan.plan_cells(about, "cpu")
    assert tested.config.model.width == 64  # a test has the configuration of what it tests
    assert again.config.model.width == 24  # a training that starts from other weights has its own
    assert (tested.depth, tested.needs.row, tested.rescored) == (1, "wide", False)


def test_a_compressed_row_has_a_command_folder_and_key_of_its_own():
    given = [
        {"name": "wide"},
        {
            "name": "half",
            "kind": "compress",
            "needs": "wide",
            "command": "prune --ratio 0.5",
            "set": {"train.epochs": 1},
        },
        {"name": "bare", "kind": "compress", "needs": "wide", "command": "prune --ratio 0.5 --no-train"},
        {"name": "int8", "kind": "compress", "needs": "half", "command": "quantise"},
    ]
    wide, half, bare, int8 = plan.plan_cells(make(cells=given, seeds=[0]), "cpu")
    assert [cell.trains for cell in (wide, half, bare, int8)] == [True, True, False, False]
    assert len({cell.key for cell in (wide, half, bare, int8)}) == 4
    run, out = (str(cells.cell_folder(cell)) for cell in (wide, half))
    _, *command = cells.build_command(half)
    assert command == [*("prune", "--ratio", "0.5", "--run", run, "--out", out, "train.epochs=1", "run.resume=auto")]
    assert cells.build_command(int8)[-2] == f"{cells.cell_folder(int8)}.onnx"
    assert str(cells.test_folder(int8)).startswith(f"{cells.cell_folder(int8)}.onnx.results/test/")
    assert cells.read_network(int8) == wide.config.model  # until it has been pruned


def test_a_fused_row_has_the_runs_of_its_seed_and_finds_its_weights_on_validation_videos():
    given = [
        {"name": "both", "kind": "fuse", "fuses": ["one", "two"]},
        {"name": "weighed", "kind": "fuse", "fuses": ["one", "two"], "command": "--weights val"},
        {"name": "one", "set": {"test.clips": 5}},
        {"name": "two", "shift": 7, "set": {"test.clips": 5}},
    ]
    one, two, both, weighed = plan.plan_cells(make(cells=given, seeds=[3]), "cpu")
    assert [cell.row for cell in (one, two, both, weighed)] == ["one", "two", "both", "weighed"]
    assert [cell.config.run.seed for cell in (one, two)] == [3, 10]
    assert f"run.seed={one.seed + 7}" in cells.build_command(two)
    assert len({cell.key for cell in (one, two, both, weighed)}) == 4
    assert (both.members, both.depth, both.trains) == ((one, two), 1, False)
    scores = ["--scores", str(cells.test_folder(one)), str(cells.test_folder(two))]
    assert cells.build_command(both)[1:] == [*scores, "--out", str(cells.test_folder(both))]
    assert cells.build_command(weighed)[1:] == [*scores, "--weights", "val", "--out", str(cells.test_folder(weighed))]
    assert cells.list_preparations(both) == []
    views = ["--part", "val", "val.clips=5", "val.crops=1"]
    runs = [str(cells.cell_folder(cell)) for cell in (one, two)]
    assert [command[1:] for command in cells.list_preparations(weighed)] == [["--run", run, *views] for run in runs]
    alone, together = (costs.count_costs([cell])[cell.key] for cell in (one, both))
    assert together["params"] == 2 * alone["params"]


def test_a_network_is_counted_with_the_classes_of_the_lists_that_are_there(tmp_path):
    lists = {
        f"{part}list01.txt": f"{name}/v_{name}_g01_c01.avi {label}\n"
        for part, name, label in (("train", "A", 1), ("test", "B", 2))
    }
    for file, text in {"classInd.txt": "1 A\n2 B\n", **lists}.items():
        (tmp_path / file).write_text(text)

    def count(folder):
        given = {"data.format": "ucf101", "data.root": str(folder), "data.splits": str(folder), "model.width": 8}
        (cell,) = plan.plan_cells(make(cells=[{"name": "one", "set": given}], seeds=[0]), "cpu")
        return costs.count_costs([cell])[cell.key]["params"]

    per_class = 4 * 8 + 1  # weights and bias in the classifier
    assert count(tmp_path / "missing") - count(tmp_path) == (101 - 2) * per_class


def test_fresh_computes_a_quantised_row_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    int8 = {"name": "int8", "kind": "compress", "needs": "wide", "command": "quantise"}
    _, cell = plan.plan_cells(make(cells=[{"name": "wide"}, int8], seeds=[0]), "cpu")
    cells.test_folder(cell).mkdir(parents=True)
    (cells.test_folder(cell) / "metrics.json").write_text("{}")
    cells.compressed_path(cell).touch()
    assert cells.is_done(cell)
    sweep.delete_results([cell])
    assert not cells.is_done(cell)
    assert not cells.compressed_path(cell).exists()


def test_a_row_with_keys_of_distillation_is_taught_by_what_it_needs():
    pupil = {"name": "pupil", "needs": "wide", "set": {"train.distill.temperature": 2.0}}
    wide, pupil = plan.plan_cells(make(cells=[{"name": "wide", "set": {"model.width": 64}}, pupil], seeds=[0]), "cpu")
    assert pupil.config.train.distill.teacher == str(plan.RUNS / wide.key / "checkpoints" / "best.ckpt")
    assert pupil.config.model.weights is None


def test_repeated_clips_make_steps_larger_not_fewer():
    train = {"data.batch_size": 8, "test.clips": 2}
    cells = [{"name": "one", "set": train}, {"name": "two", "set": {**train, "data.clip.repeat": 2}}]
    one, two = plan.plan_cells(make(cells=cells, seeds=[0]), "cpu")
    assert costs.count_passes(one, (64, 0, 0)) == 2 * 64 * (1 + costs.BACKWARD)
    assert costs.count_passes(two, (64, 0, 0)) == 2 * costs.count_passes(one, (64, 0, 0))
    assert "about 512 steps of 16 clips" in commands.format_work(
        two, {"params": 1, "gmacs": 1.0}
    )  # motion8 has 2,048 videos


def test_seeds_of_the_command_line_go_first():
    assert rows(make(cells=TWO), seeds=(4, 4, 2)) == [("a", 4), ("a", 2), ("b", 4), ("b", 2)]


def test_smoke_reads_small_copies_of_embedded_data():
    small, whole = (plan.plan_cells(make(cells=TWO), "smoke", small_data=folder)[0] for folder in ("there", None))
    assert (small.config.data.format, small.config.data.root) == ("csv", "there/motion8")
    assert whole.config.data.format == "motion8"
    assert small.key != whole.key


# -- keys -------------------------------------------------------------------------------------------------------------


def key(**changes):
    return plan.plan_cells(make(cells=[{"name": "a", "set": changes}], seeds=[0]), "cpu")[0].key


def test_a_key_is_what_the_result_depends_on():
    usual = plan.plan_cells(make(cells=[{"name": "another name"}], seeds=[0]), "cpu")[0].key
    assert key(**{"data.root": "elsewhere"}) == key(**{"data.workers": 2}) == key(**{"run.name": "x"}) == usual
    different = [key(**{"model.width": 8}), key(**{"test.clips": 2}), key(**{"trainer.devices": 2}), usual]
    assert len(set(different)) == 4
    assert plan.plan_cells(make(cells=[{"name": "a"}]), "cpu")[1].key != usual  # another seed


def test_an_assertion_about_a_row_that_is_not_there_is_refused_where_it_is_judged():
    claim = {"claim": "a beats c", "above": ["a"], "below": ["bb"], "scales": ["full"]}
    assert plan.plan_cells(make(cells=TWO, assertions=[claim]), "cpu")
    with pytest.raises(UserError, match=r"'a beats c': .*scale full, got bb \(did you mean b\?\)"):
        plan.plan_cells(make(cells=TWO, assertions=[claim]), "full")


def test_other_videos_are_another_result_and_an_embedded_set_is_the_same_everywhere():
    csv = {"data.name": "mine", "data.format": "csv", "data.root": "one"}
    assert key(**csv) != key(**{**csv, "data.root": "two"}) != key(**csv, **{"data.splits": "lists"})
    measured = [{"name": root, "kind": "measure", "set": {**csv, "data.root": root}} for root in ("one", "two")]
    with pytest.raises(UserError, match="rows one and two must differ"):
        plan.plan_cells(make(cells=measured), "cpu")  # nothing is read


def test_a_cell_that_starts_from_another_has_a_key_of_its_own():
    cells = [{"name": "a"}, {"name": "b", "set": {"model.width": 8}}, {"name": "c", "needs": "a"}]
    assert len({cell.key for cell in plan.plan_cells(make(cells=cells), "cpu")}) == 6


def test_tables_share_equal_cells():
    one, other = make(cells=TWO), make(cells=[TWO[1], {"name": "new", "set": {"train.lr": 1}}])
    shared = {c.key for c in plan.plan_cells(one, "cpu")} & {c.key for c in plan.plan_cells(other, "cpu")}
    assert len(shared) == 2  # of both seeds


def test_flow_of_an_embedded_set_is_written_once_beside_its_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran, flow = [], tmp_path / "motion8" / "flow"

    def run_tool(command, log):
        ran.append(command[1:])
        flow.mkdir()
        return 0

    def prepare_dataset(root, progress, name):
        root.mkdir(parents=True, exist_ok=True)
        (root / "spec.json").write_text(name)

    monkeypatch.setattr(sweep.executors, "run_tool", run_tool)
    monkeypatch.setattr(sweep.writing, "prepare_dataset", prepare_dataset)
    given = [{"name": "rgb"}, {"name": "flow", "set": {"data.stream": "flow", "data.root": str(flow)}}]
    for _ in range(2):
        sweep.prepare_flow(plan.plan_cells(make(cells=given, seeds=[0]), "cpu"))
    assert ran == [["csv", "--root", str(flow.with_name("videos")), "--out", str(flow), "--flow", "dis"]]
    assert (flow / "spec.json").read_text() == "motion8"


# -- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([{"name": "a", "set": {"model.width": 24}}], r"a: model\.width .*got 24"),
        (
            [{"name": "a", "set": {"train.lr": 0.1, "train.momentum": 0.9}}],
            r"train\.momentum .*got 0\.9",
        ),
        ([{"name": "a"}, {"name": "b"}], "rows a and b must differ"),
        ([{"name": "a"}, {"name": "b", "shift": 1}], "rows [ab] and [ab] must differ"),  # a's next seed
        # b states a default of the network
        ([{"name": "a"}, {"name": "b", "set": {"model.shortcut": "B"}}], "rows a and b must differ"),
        (
            [{"name": "a"}, {"name": "c", "kind": "measure"}, {"name": "f", "kind": "fuse", "fuses": ["a", "c"]}],
            "f: fuses .*got c",
        ),
        ([{"name": "a"}, {"name": "a", "set": {"train.lr": 1}}], "a is there twice"),
        ([{"name": "a", "needs": "b"}], "a: needs .*got b"),
        ([{"name": "a", "needs": "b"}, {"name": "b", "needs": "a"}], "a needs b needs a"),
        ([{"name": "a", "set": {"model.widht": 8}}], r"unknown key \(did you mean width"),
        (
            [{"name": "a"}, {"name": "t", "kind": "test", "needs": "a", "set": {"test.clips": 1}}],
            r"t: test\.clips .*got 1",
        ),
    ],
)
def test_rows_that_make_no_sense_are_refused(cells, message):
    with pytest.raises(UserError, match=message):
        plan.plan_cells(make(cells=cells), "cpu")


def test_an_override_of_the_scale_that_changes_nothing_is_refused():
    scales = {**SCALES, "cpu": {"base": BASE, "set": {"train.epochs": 2}}}
    with pytest.raises(UserError, match=r"the scale cpu: train\.epochs .*got 2"):
        plan.plan_cells(make(cells=TWO, scales=scales), "cpu")


def test_an_override_that_others_need_is_not_idle():
    cells = [{"name": "R2D", "set": {"model.name": "r2d_18", "model.frames": 8, "data.clip.frames": 8}}]
    assert rows(make(cells=cells, seeds=[0])) == [("R2D", 0)]


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(UserError, match=r"--rows .*R3D, b, got R3d \(did you mean R3D\?\)"):
        plan.plan_cells(make(cells=[{"name": "R3D"}, {"name": "b", "set": {"train.lr": 1}}]), "cpu", rows=["R3d"])


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(UserError, match=r"--table .*got c01_conv_typ \(did you mean c01_conv_type\?\)"):
        spec.read_table("c01_conv_typ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colums: [video]", r"colums: unknown key \(did you mean columns"),
        ("columns: [vido]", r"columns .*got vido \(did you mean video"),
        ("cells: [{nam: a}]", r"cells.0.nam: unknown key \(did you mean name"),
        ("cells: [{name: a, kind: test}]", "a: needs must be the row"),
        ("cells: [{name: a, kind: compress, needs: b}]", "a: command must go with kind: compress"),
        ("cells: [{name: a, command: prune}]", "a: command must go with kind: compress"),
        ("cells: [{name: a, kind: fuse, fuses: [b]}]", "a: fuses must have two"),
        ("cells: [{name: a, fuses: [b, c]}]", "a: fuses must have two"),
        ("assertions: [{claim: c, rows: [a]}]", "above and below, or rows and one of"),
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
        spec.read_table(path)


# -- costs -------------------------------------------------------------------------------------------------------------


def test_a_step_is_of_videos_and_its_work_of_all_their_clips():
    usual = ("data.batch_size=8", "train.epochs=2", "train.warmup=0")
    load = lambda *overrides: parse.load_config(BASE, (*usual, *overrides))
    once, twice = load(), load("data.clip.repeat=2")
    assert costs.count_steps(once, 70) == costs.count_steps(twice, 70) == 16
    assert costs.count_steps(load("trainer.devices=2"), 70) == 8
    cell = lambda cfg: SimpleNamespace(config=cfg, trains=True)
    less, more = (costs.count_passes(cell(cfg), (64, 10, 0)) for cfg in (once, twice))
    assert less == 128 * 3 + 2 * 20  # a step costs three passes; each epoch scores 10 videos twice over
    assert more - less == 128 * 3


def test_the_forecast_is_the_line_through_the_cheapest_and_the_dearest():
    assert costs.fit_pace([(2.0, 0.3, 4.0), (1.0, 0.2, 2.0)]) == pytest.approx((3, 0.1, 0.1))
    assert costs.fit_pace([(1.0, 0.2, 2.0)]) == pytest.approx((2, 0.2, 0))
    assert costs.fit_pace([(1.0, 0.2, 0.0), (2.0, 0.1, 0.0)]) == pytest.approx((0, 0.2, 0))  # noise
    assert costs.fit_pace([(1.0, 0.1, 0.0), (2.0, 0.4, 0.0)]) == pytest.approx((0, 0, 0.3))  # as slow as it gets


# -- the shipped tables -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", spec.SCALES)
@pytest.mark.parametrize("name", spec.list_tables())
def test_every_table_expands_at_every_scale(name, scale):
    about = spec.read_table(name)
    planned = plan.plan_cells(about, scale, small_data="small" if scale == "smoke" else None)
    names = {cell.row for cell in planned}
    assert not any("," in name for name in names)  # --rows is separated by commas
    if scale == "smoke":
        assert len(planned) <= 3
        assert {cell.config.train.epochs for cell in planned if cell.kind in ("train", "test")} <= {1}
    if scale == "cpu":
        assert len({cell.seed for cell in planned}) >= 2
    for assertion in about.assertions:
        if scale in assertion.scales and scale != "smoke":
            assert set(assertion.names()) <= names, assertion.claim
    published.read_published(name)
