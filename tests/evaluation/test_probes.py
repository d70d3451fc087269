"""Probes from saved predictions, against numbers that are worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videores.errors import UserError
from videores.evaluation import probes
from videores.evaluation.predictions import Predictions

CLASSES = ("left", "right", "up", "down", "grow", "shrink")
PARTNERS = dict(zip(CLASSES, ("right", "left", "down", "up", "shrink", "grow"), strict=True))


def make_predictions(answers, order="", groups=None):
    """One view of each video, which gets the class of `answers`; the labels go through the classes."""
    label = np.arange(len(answers)) % len(CLASSES)
    logits = 5 * np.eye(len(CLASSES), dtype=np.float32)[np.array(answers)][:, None]
    video = np.array([f"{i:03}.mp4" for i in range(len(answers))])
    group = np.array(groups or [f"g{i // 2}" for i in range(len(answers))])
    arrays = dict(video=video, label=label, group=group, classes=np.array(CLASSES), logits=logits)
    protocol = f"8x1@28/32 1x1 softmax-mean motion8-test{order}"
    return Predictions(Path("p.npz"), clip=np.array([0]), crop=np.array([0]), metrics={}, protocol=protocol, **arrays)


NORMAL = make_predictions([0, 1, 2, 3, 4, 5] * 4)
REVERSED = make_predictions([1, 0, 3, 2, 5, 5] * 4, " reversed")


def test_orders_lose_the_difference_of_the_accuracies_paired_by_video():
    found = probes.compare_orders(NORMAL, {"reversed": REVERSED, "frozen": NORMAL}, {})
    backwards, frozen = found["orders"]
    assert backwards["video_top1"] == pytest.approx(100 / 6)
    assert backwards["difference"] == pytest.approx(-500 / 6)
    low, high = backwards["ci95_difference"]
    assert low < -500 / 6 < high < 0
    assert backwards["ci95_over"] == "groups"
    assert frozen["difference"] == frozen["largest_change"] == 0
    assert frozen["ci95_difference"] == [0, 0]
    p = np.exp(5) / (np.exp(5) + 5)
    assert backwards["largest_change"] == pytest.approx(p - p / np.exp(5))
    assert found["partner"] is None


def test_videos_in_another_order_are_paired_by_name():
    turned = {name: getattr(REVERSED, name)[::-1] for name in ("video", "label", "group", "logits")}
    ours, theirs = (
        probes.compare_orders(NORMAL, {"reversed": p}, PARTNERS) for p in (REVERSED, replace(REVERSED, **turned))
    )
    assert ours["orders"] == theirs["orders"]
    assert ours["partner"]["share"] == theirs["partner"]["share"]


def test_partners_are_counted_by_the_class_of_the_reversal():
    found = probes.compare_orders(NORMAL, {"reversed": REVERSED}, PARTNERS)["partner"]
    assert found["share"] == pytest.approx(500 / 6)
    assert found["ci95"][0] < found["share"] < found["ci95"][1]


def test_a_test_of_other_videos_is_refused():
    with pytest.raises(UserError, match="different videos"):
        probes.compare_orders(NORMAL, {"reversed": make_predictions([0] * 6)}, {})


def test_mean_corruption_error_is_the_mean_over_severities_and_then_corruptions():
    wrong = lambda count: make_predictions([5 if i < count else i % 6 for i in range(24)])
    error = lambda count: 100 * sum(i % 6 != 5 for i in range(count)) / 24
    tested = {("noise", 1): wrong(6), ("noise", 3): wrong(24), ("blur", 3): wrong(12)}
    found = probes.summarize_corruptions(NORMAL, tested)
    noise, blur = (error(6) + error(24)) / 2, error(12)
    assert found["by_corruption"] == {"noise": pytest.approx(noise), "blur": pytest.approx(blur)}
    assert found["mean_error"] == found["relative"] == pytest.approx((noise + blur) / 2)  # not of all rows
    assert found["normal_error"] == 0
    assert found["ci95_mean_error"][0] < found["mean_error"] < found["ci95_mean_error"][1]
    assert [(row["corruption"], row["severity"]) for row in found["corruptions"]] == list(tested)


def test_relative_error_is_above_that_on_normal_frames():
    half = make_predictions([i % 6 if i < 12 else (i + 1) % 6 for i in range(24)])
    found = probes.summarize_corruptions(half, {("noise", 1): make_predictions([(i + 1) % 6 for i in range(24)])})
    assert (found["mean_error"], found["normal_error"], found["relative"]) == (100, 50, 50)
