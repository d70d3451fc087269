"""Pictures of a run are real images, and a run without a history is no error."""

import json

import numpy as np
import pytest
from matplotlib import image

from videores.reporting import figures, plots

ROWS = [
    {"epoch": 0, "step": 1, "train/loss": 2.0, "train/top1": 10.0, "lr": 0.1},
    {"epoch": 0, "step": 2, "val/loss": 1.9, "val/clip_top1": 20.0, "val/video_top1": 25.0},
    {"epoch": 1, "step": 3, "train/loss": 1.5, "train/top1": 40.0, "lr": 0.05},
]


def assert_picture(path):
    pixels = image.imread(path)
    assert pixels.shape[0] > 100
    assert pixels.shape[1] > 100
    assert pixels[..., :3].std() > 0.01  # something is drawn


def write_history(folder, rows):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[1:2]], ids=["all", "training alone", "validation alone"])
def test_curves_are_a_picture(tmp_path, rows):
    write_history(tmp_path, rows)
    plots.plot_curves(tmp_path)
    assert_picture(tmp_path / "curves.png")


def test_more_history_changes_the_curves(tmp_path):
    write_history(tmp_path, ROWS[:1])
    plots.plot_curves(tmp_path)
    before = image.imread(tmp_path / "curves.png")
    write_history(tmp_path, ROWS)
    plots.plot_curves(tmp_path)
    assert not np.array_equal(before, image.imread(tmp_path / "curves.png"))


def test_a_diverged_run_has_curves(tmp_path):
    write_history(tmp_path, [*ROWS, {"epoch": 1, "step": 4, "train/loss": float("nan"), "train/top1": 0.0, "lr": 0.1}])
    plots.plot_curves(tmp_path)
    assert_picture(tmp_path / "curves.png")


@pytest.mark.parametrize("content", [None, ""], ids=["no file", "empty file"])
def test_a_run_without_history_is_fine(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    plots.plot_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()


def test_the_last_line_of_a_killed_run_may_be_half_written(tmp_path):
    write_history(tmp_path, ROWS)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')
    plots.plot_curves(tmp_path)
    assert_picture(tmp_path / "curves.png")


@pytest.mark.parametrize("classes", [2, 8, 101])
def test_confusion_is_a_picture(tmp_path, classes):
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    plots.plot_confusion(tmp_path / "confusion.png", counts, [f"class {i}" for i in range(classes)], "8x1@32/32")
    assert_picture(tmp_path / "confusion.png")


def test_confusion_of_classes_without_videos_is_fine(tmp_path):
    counts = np.zeros((3, 3), dtype=int)
    plots.plot_confusion(tmp_path / "confusion.png", counts, ["a", "$b$", "c_d"], "8x1@32/32 softmax-mean")
    assert_picture(tmp_path / "confusion.png")


def test_class_names_with_dollar_signs_are_drawn_as_they_are(tmp_path):
    plots.plot_confusion(tmp_path / "confusion.png", np.eye(2, dtype=int), ["$x", "a$\\frac$"], "50 $ or $\\bad")
    assert_picture(tmp_path / "confusion.png")


def test_the_pareto_front_has_what_nothing_beats_in_both():
    assert figures.find_pareto_front([(1, 5), (2, 4), (3, 4), (4, 1), (2, 6), (1, 5)]) == [0, 5, 1, 3]
    assert figures.find_pareto_front([(1, 1)]) == [0]
