"""The gap: which training videos it is measured on, that its numbers are those of a plain loop whatever runs, and that
training does not notice."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.commands import (
    assert_same_weights,
    forked_ranks,
    read_result,
    succeeded,
    weights,
    write_config,
    write_data,
)
from helpers.protocols import plainly
from helpers.training import make_config
from helpers.videos import write_csv
from matplotlib.figure import Figure

from videores.config import parse
from videores.data import datamodule, dataset, splits
from videores.data.lists import Video
from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.weights import safe_load
from videores.reporting import plots
from videores.training import checkpoint_io

# -- which videos -----------------------------------------------------------------------------------------------------


def listed(*sizes):
    return [Video(f"{label}/{n}.mp4", label) for label, size in enumerate(sizes) for n in range(size)]


@pytest.mark.parametrize("sizes", [(4, 4), (7, 2, 1), (20, 0, 13, 1, 1)])
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


def test_a_number_of_videos_that_is_not_there_is_refused(tmp_path):
    for val in (3, 0):
        with pytest.raises(UserError, match=r"train\.gap_videos"):
            splits.select_gap_videos(10, index_of(9, val))
    for value in (-1, 0.5, "all"):
        with pytest.raises(UserError, match=r"train\.gap_videos"):
            make_config(tmp_path, train={"gap_videos": value})


def test_cached_training_frames_are_not_decoded_again(tmp_path, monkeypatch):
    write_csv(
        tmp_path, {"train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(6)], "test": [("e.mp4", "a", "h")]}
    )
    cfg = make_config(tmp_path, data={"val": 0.4, "transform": {"short_side": 32, "crop": 32}})
    videos = datamodule.load_videos(cfg.data)
    data = datamodule.VideoData.from_config(cfg, videos, gap=(1, 3))
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
LAST = "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with 12 training videos, of which 3 are held out, and 7 test videos."""
    folder = tmp_path_factory.mktemp("gap")
    write_data(folder / "data")
    data = {"batch_size": 2, "transform": {"short_side": 36, "crop": 32}}
    train, trainer = {"gap_videos": 5, "warmup": 0}, {"devices": "auto"}
    write_config(folder / "tiny.yaml", data=data, train=train, trainer=trainer)
    return folder


@pytest.fixture(scope="module")
def runs(place):
    """name -> folder of runs that differ in one thing each, all but "two" on one rank. 5 and 3 videos are not even."""
    variants = {
        "on": (1,),
        "off": (1, "train.gap_videos=0"),
        "auto": (1, "train.gap_videos=auto", "data.workers=2", "data.cache=ram"),
        "still": (1, *STILL),
        "small": (1, *STILL, "data.batch_size=1", "data.cache=ram"),
        "two": (2, *STILL),
    }
    folders = {name: place / name for name in variants}
    train, evaluate = ("train.py", "--cfg", "tiny.yaml"), ("evaluate.py", "--run", folders["on"])
    cases = [(count, *train, f"run.dir={folders[name]}", *how) for name, (count, *how) in variants.items()]
    cases += [(1, *evaluate, "data.name=last", "--checkpoint", folders["on"] / LAST, "val.clips=2")]
    cases += [(1, *evaluate, "--part", "val")]
    cases += [(1, *train, f"run.dir={folders['off']}", "run.resume=auto", "train.gap_videos=2")]
    printed = [succeeded(process).stdout for process in forked_ranks(cases, place)]
    return folders, dict(zip(variants, printed[: len(variants)], strict=True))


def validations(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "val/loss" in row]


def gap_of(folder, name="tiny", part="test"):
    split, clips = ("test", 2) if part == "test" else ("heldout", 1)
    (test,) = (folder / part).glob(f"8x1@32_36_{clips}x1_softmax-mean_{name}-{split}*")  # of last.ckpt with a digest
    return read_result(test)[0]["gap"]


def scored_by_hand(network, videos):
    """(loss, accuracy) by sequential decodes and one clip after the other."""
    with torch.no_grad():
        logits = torch.cat([plainly(f"data/{video.path}", network, 8, {"clips": 1}) for video in videos])
    label = torch.tensor([video.label for video in videos])
    hits = (logits.argmax(1) == label).float()
    return float(torch.nn.functional.cross_entropy(logits, label)), 100 * float(hits.mean())


def test_both_numbers_are_those_of_a_plain_loop_over_the_videos(place, runs, monkeypatch):
    monkeypatch.chdir(place)
    folder = runs[0]["on"]
    cfg = parse.load_config(folder / "config.yaml")
    index = datamodule.load_videos(cfg.data).index
    network = create_model(cfg.model.name, len(index.classes), **cfg.model.overrides()).eval()
    network.load_state_dict({key.removeprefix("model."): value for key, value in weights(folder).items()})
    lists = {"val": index.val, "train_eval": [index.train[n] for n in splits.select_stratified(index.train, 5)]}
    row = validations(folder)[-1]
    for name, videos in lists.items():
        loss, accuracy = scored_by_hand(network, videos)
        assert row[f"{name}/loss"] == pytest.approx(loss, abs=1e-4)
        assert row[f"{name}/video_top1"] == row[f"{name}/clip_top1"] == pytest.approx(accuracy)


def test_every_validation_logs_the_gap(runs):
    rows = validations(runs[0]["on"])
    assert len(rows) == 2
    for row in rows:
        assert row["gap/video_top1"] == row["train_eval/video_top1"] - row["val/video_top1"]
        assert {"train_eval/loss", "train_eval/clip_top1"} <= set(row)


def test_the_tested_checkpoint_has_the_gap_that_was_measured_when_it_was_saved(runs):
    """Under another protocol too."""
    folder = runs[0]["on"]
    rows = {row["step"]: row for row in validations(folder)}
    for name, file in (("tiny", "best.ckpt"), ("last", "last.ckpt")):
        row = rows[safe_load.read_checkpoint(folder / "checkpoints" / file)["global_step"]]
        assert gap_of(folder, name) == {
            "protocol": "8x1@32/36 1x1 softmax-mean tiny-heldout",
            "train_video_top1": row["train_eval/video_top1"],
            "val_video_top1": row["val/video_top1"],
            "video_top1": row["gap/video_top1"],
            "train_videos": 5,
            "val_videos": 3,
        }
    assert gap_of(folder, part="val") == gap_of(folder)


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
    ours, theirs = ([row["val/loss"] for row in validations(runs[0][run])] for run in ("on", name))
    assert ours == theirs


def test_without_a_gap_it_is_null_and_nothing_is_logged(runs):
    assert gap_of(runs[0]["off"]) is None
    assert not any("gap/" in key or "train_eval/" in key for row in validations(runs[0]["off"]) for key in row)


def test_the_summaries_say_the_gap(runs):
    assert "with 5 training videos" in runs[1]["on"]
    assert f"gap     {gap_of(runs[0]['on'])['video_top1']:.2f} points of video top-1" in runs[1]["on"]
    assert "with 3 training videos" in runs[1]["auto"]


@pytest.mark.parametrize("name", ["small", "two"])
def test_the_gap_hangs_neither_on_the_batch_size_nor_on_the_number_of_ranks(runs, name):
    ours, theirs = (validations(runs[0][run])[-1] for run in ("still", name))
    for part in ("val", "train_eval"):
        assert ours[f"{part}/video_top1"] == theirs[f"{part}/video_top1"]
        assert ours[f"{part}/loss"] == pytest.approx(theirs[f"{part}/loss"], abs=1e-5)
    assert gap_of(runs[0]["still"]) == gap_of(runs[0][name])


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_curves_have_lines_of_both_accuracies_and_the_gap_where_there_is_one(tmp_path, monkeypatch):
    lines, save = {}, Figure.savefig

    def record(figure, *args, **options):
        lines.update({line.get_label(): line.get_xydata().tolist() for axes in figure.axes for line in axes.lines})
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", record)
    both = {"train_eval/video_top1": 90.0, "val/video_top1": 60.0, "gap/video_top1": 30.0, "train_eval/loss": 0.2}
    rows = [{"epoch": 0, "step": 4, **both}, {"epoch": 1, "step": 8, **both, "gap/video_top1": 31.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plots.plot_curves(tmp_path)
    assert lines["training minus validation videos"] == [[4, 30.0], [8, 31.0]]
    assert lines["training videos as in validation"] == [[4, 90.0], [8, 90.0]]
    assert lines["validation videos"] == [[4, 60.0], [8, 60.0]]
    assert lines["training clips as in validation"] == [[4, 0.2], [8, 0.2]]
