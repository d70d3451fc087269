"""The gap: which training videos it is measured on, that its numbers are those of a plain loop whatever runs, and that
training does not notice."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers.commands import assert_same_weights, forked, read_result, succeeded, tool, write_config, write_data
from helpers.protocols import plainly
from helpers.training import make_config
from helpers.videos import write_csv

from videores.config import parse
from videores.data import datamodule, dataset, splits
from videores.data.lists import Video
from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.weights import safe_load
from videores.reporting import plots
from videores.training import checkpoint_io

HELDOUT = "8x1@32/36 1x1 softmax-mean tiny-heldout"


# -- which videos -----------------------------------------------------------------------------------------------------


def listed(*sizes):
    return [Video(f"{label}/{n}.mp4", label) for label, size in enumerate(sizes) for n in range(size)]


@pytest.mark.parametrize("sizes", [(5,), (4, 4), (7, 2, 1), (50, 0, 13, 1, 1), (3, 3, 3, 3)])
def test_classes_have_their_share_within_one_video(sizes):
    videos = listed(*sizes)
    for count in range(len(videos) + 1):
        chosen = splits.select_stratified(videos, count)
        assert len(chosen) == len(set(chosen)) == count
        assert list(chosen) == sorted(chosen)
        there = Counter(videos[number].label for number in chosen)
        for label, size in enumerate(sizes):
            assert abs(there[label] - count * size / len(videos)) < 1
            assert there[label] <= size


def test_the_choice_is_of_the_videos_whatever_their_order():
    videos = listed(6, 9, 4)
    mixed = [videos[n] for n in np.random.default_rng(0).permutation(len(videos))]
    for count in (1, 5, 12):
        ours, theirs = ({some[n].path for n in splits.select_stratified(some, count)} for some in (videos, mixed))
        assert ours == theirs


def test_a_larger_choice_of_one_class_holds_the_smaller_one():
    videos = listed(20)
    assert set(splits.select_stratified(videos, 5)) < set(splits.select_stratified(videos, 9))


def index_of(train, val):
    return SimpleNamespace(train=listed(train), val=listed(val))


def test_auto_takes_as_many_as_are_held_out_and_there_are():
    assert len(splits.select_gap_videos("auto", index_of(9, 3))) == 3
    assert len(splits.select_gap_videos("auto", index_of(2, 3))) == 2
    assert splits.select_gap_videos("auto", index_of(9, 0)) == ()
    assert splits.select_gap_videos(0, index_of(9, 3)) == splits.select_gap_videos(0, index_of(9, 0)) == ()
    assert len(splits.select_gap_videos(9, index_of(9, 3))) == 9


@pytest.mark.parametrize(("val", "words"), [(3, "there are 9 training videos"), (0, "none are held out")])
def test_a_number_that_cannot_be_had_is_refused(val, words):
    with pytest.raises(UserError, match=words):
        splits.select_gap_videos(10, index_of(9, val))


@pytest.mark.parametrize("value", [-1, 0.5, "all"])
def test_what_is_no_number_of_videos_is_refused(tmp_path, value):
    with pytest.raises(UserError, match=r"train\.gap_videos"):
        make_config(tmp_path, train={"gap_videos": value})


def test_cached_training_frames_are_not_decoded_again(tmp_path, monkeypatch):
    write_csv(
        tmp_path, {"train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(6)], "test": [("e.mp4", "a", "h")]}
    )
    cfg = make_config(tmp_path, data={"val": 0.4, "transform": {"short_side": 32, "crop": 32}})
    videos = datamodule.load_videos(cfg.data)
    data = datamodule.VideoData(cfg.data, videos, val=cfg.val, test=cfg.test, gap=(1, 3))
    train, gap = data.dataset("train"), data.dataset("gap")
    assert [v.path for v in gap.videos] == [train.videos[n].path for n in (1, 3)]
    alone = [gap.read_all(k) for k in range(2)]
    for number in range(len(train)):
        train[0, number]
    monkeypatch.setattr(dataset, "read_frames", None)
    for k, frames_THWC in enumerate(alone):
        np.testing.assert_array_equal(gap.cache.read(k, None), frames_THWC)
        assert gap[0, k]["label"] == gap.videos[k].label


# -- whole runs -------------------------------------------------------------------------------------------------------

# A learning rate that changes no weight, and no running statistics: every run has the same network.
STILL = ["train.lr=1e-30", "train.weight_decay=0", "model.norm=group", "model.dropout=0", "train.epochs=1"]
WAYS = {"batch of 1": ["data.batch_size=1"], "workers, ram": ["data.workers=2", "data.cache=ram"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with 12 training videos, of which 3 are held out, and 7 test videos."""
    folder = tmp_path_factory.mktemp("gap")
    write_data(folder / "data")
    data = {"batch_size": 2, "transform": {"short_side": 36, "crop": 32}}
    write_config(folder / "tiny.yaml", data=data, train={"gap_videos": 5, "warmup": 0})
    return folder


@pytest.fixture(scope="module")
def runs(place):
    """name -> folder of runs that differ in one thing each, all but "two" by one process."""
    variants = {
        "on": [],
        "off": ["train.gap_videos=0"],
        "auto": ["train.gap_videos=auto", "data.workers=2", "data.cache=ram"],
        "none": ["train.gap_videos=auto", "data.val=none"],
        "still": STILL,
        **{name: [*STILL, *how] for name, how in WAYS.items()},
    }
    folders = {name: place / name.replace(", ", "-").replace(" ", "-") for name in variants}
    cases = [("train.py", "--cfg", "tiny.yaml", f"run.dir={folders[name]}", *how) for name, how in variants.items()]
    cases += [("evaluate.py", "--run", folders["on"], "data.name=again", "val.clips=2")]
    cases += [("evaluate.py", "--run", folders["on"], "data.name=last", "--checkpoint", folders["on"] / LAST)]
    cases += [("evaluate.py", "--run", folders["on"], "--part", "val")]
    said = [succeeded(process).stdout for process in forked(cases, place)]
    return folders, dict(zip(variants, said[: len(variants)], strict=True))


LAST = "checkpoints/last.ckpt"


def validations(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "val/loss" in row]


def gap_of(folder, name="tiny", part="test"):
    split, clips = ("test", 2) if part == "test" else ("heldout", 1)
    return read_result(folder / part / f"8x1@32_36_{clips}x1_softmax-mean_{name}-{split}")[0]["gap"]


def by_hand(folder, file="best.ckpt"):
    """{list: (loss, accuracy)} of a checkpoint, by sequential decodes and one clip after the other."""
    cfg = parse.load_config(folder / "config.yaml")
    index = datamodule.load_videos(cfg.data).index
    network = create_model(cfg.model.name, len(index.classes), **cfg.model.overrides()).eval()
    stored = safe_load.read_checkpoint(folder / "checkpoints" / file)["state_dict"]
    network.load_state_dict({key.removeprefix("model."): value for key, value in stored.items()})
    lists = {"val": index.val, "train_eval": [index.train[n] for n in splits.select_stratified(index.train, 5)]}
    return {name: scored_by_hand(network, videos) for name, videos in lists.items()}


def scored_by_hand(network, videos):
    with torch.no_grad():
        logits = torch.cat([plainly(f"data/{video.path}", network, 8, {"clips": 1}) for video in videos])
    label = torch.tensor([video.label for video in videos])
    return float(torch.nn.functional.cross_entropy(logits, label)), 100 * float(
        (logits.argmax(1) == label).float().mean()
    )


def test_both_numbers_are_those_of_a_plain_loop_over_the_videos(place, runs, monkeypatch):
    monkeypatch.chdir(place)
    folder = runs[0]["on"]
    row = validations(folder)[-1]
    for name, (loss, accuracy) in by_hand(folder, "last.ckpt").items():
        assert row[f"{name}/loss"] == pytest.approx(loss, abs=1e-4)
        assert row[f"{name}/video_top1"] == row[f"{name}/clip_top1"] == pytest.approx(accuracy)


def test_every_validation_logs_the_gap(runs):
    rows = validations(runs[0]["on"])
    assert len(rows) == 2
    for row in rows:
        assert row["gap/video_top1"] == row["train_eval/video_top1"] - row["val/video_top1"]
        assert {"train_eval/loss", "train_eval/clip_top1"} <= set(row)


def test_the_tested_checkpoint_has_the_gap_that_was_measured_when_it_was_saved(runs):
    folder = runs[0]["on"]
    rows = {row["step"]: row for row in validations(folder)}
    for name, file in (("tiny", "best.ckpt"), ("last", "last.ckpt")):
        row = rows[safe_load.read_checkpoint(folder / "checkpoints" / file)["global_step"]]
        assert gap_of(folder, name) == {
            "protocol": HELDOUT,
            "train_video_top1": row["train_eval/video_top1"],
            "val_video_top1": row["val/video_top1"],
            "video_top1": row["gap/video_top1"],
            "train_videos": 5,
            "val_videos": 3,
        }


def test_another_protocol_or_part_repeats_the_gap_of_the_weights(runs):
    folder = runs[0]["on"]
    assert gap_of(folder, "again") == gap_of(folder, part="val") == gap_of(folder)


def test_a_checkpoint_of_another_step_than_the_validation_has_no_gap():
    stored = {"global_step": 7, "measured": {"step": 7, "gap": {"video_top1": 3.0}}}
    assert checkpoint_io.extract_gap(stored) == {"video_top1": 3.0}
    assert checkpoint_io.extract_gap(stored | {"global_step": 8}) is None
    assert (
        checkpoint_io.extract_gap(stored | {"measured": None}) is checkpoint_io.extract_gap({"global_step": 7}) is None
    )


@pytest.mark.parametrize("name", ["off", "auto"])
def test_training_does_not_notice_that_the_gap_is_measured(runs, name):
    assert_same_weights(runs[0]["on"], runs[0][name])
    assert [row["val/loss"] for row in validations(runs[0]["on"])] == [
        row["val/loss"] for row in validations(runs[0][name])
    ]


@pytest.mark.parametrize("name", ["off", "none"])
def test_without_a_gap_it_is_null_and_nothing_is_logged(runs, name):
    folder = runs[0][name]
    assert gap_of(folder) is None
    assert not any(
        "gap/" in line or "train_eval/" in line for line in (folder / "metrics.jsonl").read_text().splitlines()
    )
    assert "no gap" in runs[1][name]


def test_the_summaries_say_the_gap(runs):
    gap = gap_of(runs[0]["on"])
    assert "with 5 training videos beside them, for the gap" in runs[1]["on"]
    assert f"gap     {gap['video_top1']:.2f} points of video top-1" in runs[1]["on"]
    assert "with 3 training videos beside them" in runs[1]["auto"]


def assert_alike(folder, other):
    ours, theirs = validations(folder)[-1], validations(other)[-1]
    for name in ("val", "train_eval"):
        assert ours[f"{name}/video_top1"] == theirs[f"{name}/video_top1"]
        assert ours[f"{name}/loss"] == pytest.approx(theirs[f"{name}/loss"], abs=1e-5)


@pytest.mark.parametrize("name", WAYS)
def test_the_gap_hangs_neither_on_the_batch_size_nor_on_workers(runs, name):
    assert_alike(runs[0]["still"], runs[0][name])


def test_two_processes_measure_the_same_gap(place, runs):
    """5 and 3 videos: neither is even."""
    still = runs[0]["still"]
    succeeded(tool("train.py", "--cfg", "tiny.yaml", *STILL, "trainer.devices=2", "run.dir=two", cwd=place))
    assert_alike(still, place / "two")
    assert gap_of(place / "two") == gap_of(still)


def test_gap_videos_may_change_when_a_run_resumes(place, runs):
    values = yaml.safe_load((runs[0]["on"] / "config.yaml").read_text())
    assert values["train"]["gap_videos"] == 5
    command = ("train.py", "--cfg", "tiny.yaml", f"run.dir={runs[0]['on']}", "run.resume=auto", "train.gap_videos=2")
    succeeded(forked([command], place)[0])


# -- pictures ---------------------------------------------------------------------------------------------------------


def drawn(rows):
    figure = plots.build_curves(rows)
    lines = {line.get_label(): line.get_xydata().tolist() for axes in figure.axes for line in axes.lines}
    plots.plt.close(figure)
    return lines


def test_curves_have_lines_of_both_accuracies_and_the_gap():
    both = {"train_eval/video_top1": 90.0, "val/video_top1": 60.0, "gap/video_top1": 30.0, "train_eval/loss": 0.2}
    lines = drawn([{"epoch": 0, "step": 4, **both}, {"epoch": 1, "step": 8, **both, "gap/video_top1": 31.0}])
    assert lines["training minus validation videos"] == [[4, 30.0], [8, 31.0]]
    assert lines["training videos as in validation"] == [[4, 90.0], [8, 90.0]]
    assert lines["validation videos"] == [[4, 60.0], [8, 60.0]]
    assert lines["training clips as in validation"] == [[4, 0.2], [8, 0.2]]


def test_curves_without_a_gap_have_no_panel_for_it():
    figure = plots.build_curves([{"epoch": 0, "step": 1, "train/loss": 1.0, "train/top1": 0.0, "lr": 0.1}])
    assert [axes.get_title() for axes in figure.axes] == ["loss", "top-1 (%)", "learning rate"]
    plots.plt.close(figure)
