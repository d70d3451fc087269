"""What is written of ablation cells: tables, pictures, pages and the published targets beside; the committed pages."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.ablation import TWO, make
from helpers.figures import assert_legible, record_figures

from videores.ablation import assertions, collect, commands, docs, exports, plan, plots, published, spec, tables
from videores.errors import UserError
from videores.reporting import pareto

ROOT = Path(__file__).parents[2]

# -- targets ----------------------------------------------------------------------------------------------------------

GROUP = {
    "paper": "p",
    "table": "1",
    "source": "s",
    "status": "V",
    "protocol": dict(data="kinetics400-val", frames=16, stride="2", size=112, short_side=128, clips=10, crops=1),
    "values": {"R3D": {"video": 64.2}},
}
OURS = "16x2@112/128 10x1 softmax-mean kinetics400-val"


@pytest.mark.parametrize("key", ["paper", "table", "source", "status", "protocol"])
def test_a_target_without_a_source_is_refused(key):
    with pytest.raises(UserError, match=f"{key}: missing"):
        published.check_group({name: value for name, value in GROUP.items() if name != key}, "t.yaml, entry 1")


def test_a_target_that_was_not_read_is_refused():
    for change in ({"status": "M"}, {"source": ""}, {"values": {"R3D": {"vido": 1}}}):
        with pytest.raises(UserError, match=r"t.yaml, entry 1"):
            published.check_group({**GROUP, **change}, "t.yaml, entry 1")


def test_targets_stand_beside_ours_only_under_the_same_protocol():
    group = published.check_group(GROUP, "t")
    assert published.find_target([group], "R3D", "video", OURS) == 64.2
    for other in (
        OURS.replace("10x1", "5x1"),
        OURS.replace("val", "1"),
        OURS.replace("@112", "@128"),
        OURS.replace("x2@", "x1@"),
        None,
    ):
        assert published.find_target([group], "R3D", "video", other) is None
    assert published.find_target([group], "R3D", "clip", OURS) is None
    vague = published.check_group({**GROUP, "protocol": {"data": "kinetics400-val", "frames": 16}}, "t")
    assert published.find_target([vague], "R3D", "video", OURS) is None


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
    text = tables.format_markdown("t", ABOUT, "cpu", FOUND, [published.check_group(GROUP, "t")])
    assert "| R3D | 1.500 | 61.0 ± 1.4 [0.0, 100.0] (published 64.2) | 0, 1 |" in text
    assert "| a|b_1 | 1.500 | - | 0 |" in text
    assert "Not known of these cells: clip top-1." in text
    assert "* a|b_1: seed 0 failed: the loss is nan" in text
    assert "| c | **inconclusive** | R3D 61 ± 1.4: +61 (error " in text
    assert "other protocols" not in text
    elsewhere = published.check_group({**GROUP, "protocol": {"data": "ucf101-1"}}, "t")
    text = tables.format_markdown("t", ABOUT, "cpu", FOUND, [elsewhere])
    assert "(published" not in text
    assert "| R3D | 64.2 |" in text.partition("Published under other protocols")[2]


def test_csv_has_a_line_a_cell_and_latex_a_line_a_row():
    lines = exports.format_csv(ABOUT, FOUND).splitlines()
    assert lines[0].startswith("row,seed,kind,status,params,clip,video,protocol")
    assert lines[1].startswith(f"R3D,0,train,done,1500000.0,,60.0,{OURS}")
    assert lines[3].endswith("the loss is nan")
    text = exports.format_latex(ABOUT, tables.summarize_rows(ABOUT, FOUND))
    assert r"R3D & 1.500 & - & 61.0 $\pm$ 1.4 \\" in text
    assert r"a|b\_1" in text


def test_cells_are_read_back_in_order_and_rebuild_the_same_files(tmp_path):
    tables.save_cells(tmp_path, FOUND, ["R3D", "a|b_1"])
    again = tables.load_cells(tmp_path)
    assert [c["place"] for c in again] == [0, 0, 1]
    assert [{**c, "place": 0} for c in again] == FOUND
    tables.delete_stale_cells(tmp_path, lambda c: c["seed"] == 1)
    assert [c["key"] for c in tables.load_cells(tmp_path)] == ["R3D1"]
    assert exports.format_csv(ABOUT, again) == exports.format_csv(ABOUT, FOUND)


def test_a_saved_row_that_the_scale_no_longer_has_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    about, folder = make(cells=[TWO[0], {**TWO[1], "scales": ["full"]}], seeds=[0]), tables.table_folder("t", "cpu")
    tables.save_cells(folder, [cell("b", 0, 50.0)], ["b"])
    now = cell("a", 0, 60.0, key=plan.plan_cells(about, "cpu")[0].key)
    assert commands.write_results("t", about, "cpu", [now], reuse=False, judge=False) == 0
    assert [c["row"] for c in tables.load_cells(folder)] == ["a"]


def test_a_picture_that_there_is_nothing_for_any_more_goes(tmp_path):
    trained = {**cell("R3D", 0, 60.0), "curves": {"train/loss": [[1, 2.0]], "val/video_top1": [[4, 50.0]]}}
    assert tables.plot_table(tmp_path, ABOUT, [trained]) == ["curves.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "curves.svg"}
    assert tables.plot_table(tmp_path, ABOUT, [cell("R3D", 0, 60.0)]) == []
    assert list(tmp_path.iterdir()) == []


def curves(loss, top1=50.0, protocol=OURS):
    return {"protocol": protocol, "curves": {"train/loss": [[1, loss]], "val/video_top1": [[4, top1], [8, top1]]}}


def test_each_row_has_a_look_of_its_own_and_a_place_in_a_legend(tmp_path, monkeypatch):
    saved = record_figures(monkeypatch)
    rows = {f"row {i}": [curves(1.0 + i)] for i in range(45)}
    rows |= {f"other {i}": [curves(1.0 + i, protocol=OURS.replace("kinetics400", "ucf101"))] for i in range(2)}
    assert plots.plot_curves(tmp_path / "curves.png", rows)
    figure = saved[0]
    assert_legible(figure)
    named = []
    for axes in figure.axes[1::2]:
        lines = [line for line in axes.lines if not line.get_label().startswith("_")]
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines)
        assert [text.get_text() for text in axes.get_legend().texts] == [line.get_label() for line in lines]
        assert not axes.get_legend().get_window_extent().overlaps(axes.bbox)
        named += [line.get_label() for line in lines]
    assert named == list(rows)


def test_curves_have_a_band_from_the_lowest_to_the_highest_seed(tmp_path, monkeypatch):
    saved = record_figures(monkeypatch)
    plots.plot_curves(tmp_path / "curves.png", {"a": [curves(1.0, 40.0), curves(3.0, 60.0)]})
    loss, accuracy = saved[0].axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2.0]]
    (band,) = accuracy.collections
    assert band.get_paths()[0].get_extents().extents.tolist() == [4, 40, 8, 60]


def test_accuracies_have_the_deviation_over_seeds_as_error_bars(tmp_path, monkeypatch):
    saved = record_figures(monkeypatch)
    row = lambda name, cost, video: {
        "row": name,
        "protocol": OURS,
        "numbers": {"video": video, "gmacs_video": (cost, None)},
    }
    rows = [row("a", 1.0, (50.0, 4.0)), row("b", 2.0, (98.0, 6.0)), row("one seed", 3.0, (20.0, None))]
    assert plots.plot_pareto(tmp_path / "pareto.png", rows, ["gmacs_video"])
    (axes,) = saved[0].axes
    bars = [bar for one in axes.collections for bar in one.get_segments()]
    assert [bar[:, 1].tolist() for bar in bars] == [[46, 54], [92, 100]]
    assert [bar[0, 0] for bar in bars] == [1, 2]


def test_rows_of_one_cost_stand_side_by_side():
    assert pareto.move_apart([(1, 50, 3), (1, 70, 3), (2, 50, 3)]) == [1, 1, 2]
    places = pareto.move_apart([(1, 50, 3), (1, 51, 3), (1, 52, 3), (2, 50, 3)])
    assert len(set(places)) == 4
    assert max(abs(place - 1) for place in places[:3]) < 0.05


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / docs.DOCS).glob("*/cells")))
def test_the_committed_plots_are_legible(tmp_path, monkeypatch, name):
    saved = record_figures(monkeypatch)
    found = tables.load_cells(ROOT / docs.DOCS / name)
    drawn = tables.plot_table(tmp_path, spec.read_table(name), found)
    assert len(saved) == len(drawn)
    assert bool(drawn) == any(cell["kind"] != "decode" for cell in found)
    for figure in saved:
        assert_legible(figure)
    for file in drawn:
        for suffix in (".png", ".svg"):
            assert (ROOT / docs.DOCS / name / file).with_suffix(suffix).is_file()


def test_a_test_whose_costs_are_not_known_has_an_empty_panel(tmp_path):
    row = lambda name, test, cost: {
        "row": name,
        "protocol": f"8x1@32/32 3x1 softmax-mean {test}",
        "numbers": {"video": (50.0, None), "gmacs_video": (cost, None)},
    }
    rows = [row("a", "one-test", 1.0), row("b", "one-test", 2.0), row("c", "other-test", None)]
    assert plots.plot_pareto(tmp_path / "pareto.png", rows, ["gmacs_video"])


def test_answers_do_not_depend_on_the_order_of_videos():
    from videores.evaluation.predictions import Predictions

    logits = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    names, groups = np.array(list("fbdace")), np.array(["x", "x", "y", "y", "", ""])
    label, order = np.array([0, 1, 2, 0, 1, 2]), np.array([3, 1, 5, 0, 2, 4])
    usual = dict(path=None, classes=np.arange(3), clip=np.arange(2), crop=np.zeros(2), metrics={}, protocol=OURS)
    one = Predictions(video=names, label=label, group=groups, logits=logits, **usual)
    other = Predictions(video=names[order], label=label[order], group=groups[order], logits=logits[order], **usual)
    assert collect.read_answers(one) == collect.read_answers(other)
    assert collect.sample_videos(one) == collect.sample_videos(other)
    found = collect.read_answers(one)
    assert min(found["groups"]) == 1  # 0 would read as no group
    right = assertions.read_answers({"answers": found})
    assert right.mean() == pytest.approx((logits.mean(1).argmax(1) == label).mean(), abs=0.34)


# -- the committed pages ----------------------------------------------------------------------------------------------


def test_the_committed_cells_are_of_the_tables_as_they_are():
    for folder in (ROOT / "docs" / "ablations").glob("*/cells"):
        found = tables.load_cells(folder.parent)
        seeds = sorted({cell["seed"] for cell in found})
        now = {cell.key for cell in plan.plan_cells(spec.read_table(folder.parent.name), "cpu", seeds=seeds)}
        assert {cell["key"] for cell in found} <= now, folder


def test_the_answers_of_a_committed_cell_are_those_of_its_accuracy():
    for path in (ROOT / "docs" / "ablations").glob("*/cells/*.json"):
        cell = json.loads(path.read_text())
        if cell["kind"] in ("train", "test"):
            assert 100 * assertions.read_answers(cell).mean() == pytest.approx(cell["values"]["video"]), path


def test_targets_belong_to_tables():
    assert {path.stem for path in published.FOLDER.glob("*.yaml")} <= set(spec.list_tables())


def test_the_committed_pages_are_what_the_committed_cells_say(tmp_path, monkeypatch):
    """What --docs writes without results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "plot_table", lambda *_: None)  # they have a test above
    committed = ROOT / docs.DOCS
    patterns = ("*/cells/*.json", f"*/{docs.NOTES}", f"*/{docs.FORMER}/*/README.md")
    given = [committed / docs.FORMER_OUTCOMES, *(path for pattern in patterns for path in committed.glob(pattern))]
    for path in given:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    docs.write_docs()
    for path in sorted([*committed.glob("*/README.md"), committed / "README.md", committed / "before-after.md"]):
        assert (tmp_path / path.relative_to(ROOT)).read_text() == path.read_text(), (
            f"tools/ablate.py --docs changes {path}"
        )
    assert (ROOT / docs.DOCS / "README.md").exists()


def test_a_table_is_run_again_only_if_its_control_has_not_learnt_and_the_former_page_stays(tmp_path):
    hardware = {"machine": "m", "cpu": "c", "cores": 2, "threads": 1, "gpus": []}
    trained = {"start": "2026-11-25T10:00:00+00:00", "end": "2026-11-25T10:01:00+00:00", "hardware": hardware}
    trained |= {"curves": {}, "versions": {"torch": "2", "lightning": "2"}, "precision": "fp32"}
    folder, results, about = tmp_path / "docs" / "t", tmp_path / "results", make(cells=TWO, learnt=90)
    rows = lambda train, **more: [
        cell(row, 0, 60.0, **trained, values={"video": 50.0, "train": train}, **more) for row in ("a", "b")
    ]
    for place, found in ((folder, rows(95.0)), (results, rows(95.0, key="of another recipe"))):
        tables.save_cells(place, found, ["a", "b"])
    (folder / "README.md").write_text("former page")
    with pytest.raises(UserError, match="control row has not learnt, and a has"):
        docs._copy_results(results, folder, about)
    assert tables.load_cells(folder)[0]["key"] == "a0"
    tables.save_cells(folder, rows(50.0), ["a", "b"])
    docs._copy_results(results, folder, about)
    assert tables.load_cells(folder)[0]["key"] == "of another recipe"
    former = folder / docs.FORMER / "2026-11-25"
    assert (former / "README.md").read_text() == "former page"
    assert tables.load_cells(former)[0]["key"] == "a0"
    tables.save_cells(folder, rows(95.0), ["a", "b"])
    tables.save_cells(results, rows(94.0), ["a", "b"])
    docs._copy_results(results, folder, about)  # the same recipe, computed again
    assert tables.load_cells(folder)[0]["values"]["train"] == 94


def test_rows_that_have_not_learnt_are_marked_on_the_page():
    trained = [
        cell("R3D", seed, 60.0, values={"video": 50.0, "train": 80.0 + 15 * seed, "train_videos": 64})
        for seed in (0, 1)
    ]
    text = tables.format_markdown("t", make(cells=TWO, columns=["train", "video"]), "cpu", trained, [])
    assert "| R3D (not learnt) | 87.5 ± 10.6 of 64 |" in text
    assert "* R3D: 80.0 % with seed 0" in text
    assert "single batches" in text
    trained = [{**one, "values": {**one["values"], "loss_steps": 8}} for one in trained]
    assert "single batches" not in tables.format_markdown("t", make(cells=TWO, learnt=50), "cpu", trained, [])


def test_the_errata_name_tests_and_tables_that_exist():
    text = (ROOT / "docs" / "background" / "errata.md").read_text()
    functions = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\btest_\w+", text))
    assert len(named) > 15
    assert named <= functions | files
    assert set(re.findall(r"\bc\d\d_\w+", text)) <= set(spec.list_tables())
