"""What equals what: one rank at batch 4, two at 2, and batches of 2 or 1 whose gradients are accumulated.

Real trainings in real processes, which write down what they compute (helpers/recording.py).
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import forked_ranks, succeeded, write_config, write_data

from videores.training.callbacks.metrics_log import read_metrics_log

RECORDING = Path(__file__).parents[1] / "helpers" / "recording.py"
ALONE = {
    "alone": ["data.batch_size=4"],
    "accumulated": ["data.batch_size=1", "train.accumulate=4"],
    "batch norm": ["data.batch_size=4", "model.norm=batch", "train.epochs=1"],
}
TWO = {
    "split": ["data.batch_size=2"],
    "split and accumulated": ["data.batch_size=1", "train.accumulate=2"],
    "dropout": ["data.batch_size=1", "train.accumulate=2", "model.dropout=0.5", "model.width=64"],
    "split batch norm": ["data.batch_size=2", "model.norm=batch", "train.epochs=1"],
}
SAME = ("accumulated", "split", "split and accumulated")  # as "alone"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Nine training videos, so that one is left over of every epoch's two steps of four."""
    folder = tmp_path_factory.mktemp("equality")
    write_data(folder / "data")
    model, train = {"norm": "group", "dropout": 0}, {"epochs": 2, "base_batch": 2}
    write_config(folder / "tiny.yaml", model=model, train=train, trainer={"precision": "fp32", "devices": "auto"})
    return folder


@pytest.fixture(scope="module")
def printed(place):
    cases = [
        (1 if name in ALONE else 2, RECORDING, json.dumps({name: case})) for name, case in {**ALONE, **TWO}.items()
    ]
    processes = map(succeeded, forked_ranks(cases, place))
    return {name: process.stdout for name, process in zip({**ALONE, **TWO}, processes, strict=True)}


@pytest.fixture(scope="module")
def records(place, printed):
    """name -> the record of each rank."""
    return {
        name: [torch.load(place / f"{name}-{rank}.pt", weights_only=True) for rank in range(1 if name in ALONE else 2)]
        for name in printed
    }


def largest_difference(ours, theirs):
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


@pytest.mark.parametrize("other", SAME)
def test_gradients_and_weights_are_equal_at_every_step(records, other):
    ours, theirs = records["alone"][0], records[other][0]
    assert len(ours["gradients"]) == len(theirs["gradients"]) == 4
    assert max(value.abs().max() for value in ours["gradients"][0].values()) > 1e-2  # else nothing is compared
    for step, (mine, its) in enumerate(zip(ours["gradients"], theirs["gradients"], strict=True)):
        assert largest_difference(mine, its) < 1e-5, step
    assert largest_difference(ours["weights"], theirs["weights"]) < 1e-5


@pytest.mark.parametrize("other", SAME)
def test_every_row_of_the_history_is_equal(place, records, other):
    """One row a step, whatever a step is made of: loss and accuracy of all its videos on one rank, of rank 0's share on
    several; learning rate and validation numbers are the same everywhere."""
    ours, theirs = (read_metrics_log(place / name / "metrics.jsonl") for name in ("alone", other))
    shared = ["epoch", "step", "lr", "val/loss", "val/clip_top1", "val/video_top1"]
    shared += ["train/loss", "train/top1"] if other not in TWO else []
    assert len(ours) == len(theirs) == 6
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.keys() == its.keys()
        for key in mine.keys() & set(shared):
            assert mine[key] == pytest.approx(its[key], abs=1e-5), key


def test_steps_have_the_same_videos_and_each_video_comes_once_an_epoch(records):
    def steps(name):
        """The videos of each step."""
        ranks = [rank["videos"] for rank in records[name]]
        count = 2 if "batch norm" in name else 4
        share = len(ranks[0]) // count
        return [sorted(n for rank in ranks for b in rank[s * share :][:share] for n in b[1:]) for s in range(count)]

    for name in records:
        assert steps(name) == steps("alone")[: len(steps(name))]
        for epoch in range(len(steps(name)) // 2):
            seen = [n for rank in records[name] for at, *numbers in rank["videos"] if at == epoch for n in numbers]
            assert len(seen) == len(set(seen)) == 8


def test_gradients_are_exchanged_at_steps_only(records):
    every, second = (records[name][0]["exchanges"] for name in ("split", "split and accumulated"))
    assert np.all(np.diff([0, *every]) > 0)
    assert np.all(np.diff([0, *second])[0::2] == 0)
    assert np.all(np.diff([0, *second])[1::2] > 0)


def test_all_ranks_have_the_same_weights(records):
    for first, second in (records[name] for name in TWO):
        assert largest_difference(first["weights"], second["weights"]) == 0


def test_no_two_ranks_or_batches_drop_the_same_units(records):
    masks = [tuple(mask.flatten().tolist()) for rank in records["dropout"] for mask in rank["masks"]]
    assert len(masks) == 2 * 8
    assert len(masks[0]) == 64
    assert len(set(masks)) == len(masks)


def test_batch_norm_makes_two_ranks_another_training_and_the_summary_says_so(records, printed):
    ours, theirs = records["batch norm"][0]["gradients"], records["split batch norm"][0]["gradients"]
    assert largest_difference(ours[0], theirs[0]) > 1e-3
    assert [name for name, text in printed.items() if "batch norm sees 2 parts" in text] == ["split batch norm"]


def test_the_summary_shows_how_the_learning_rate_follows_from_the_videos_of_a_step(printed):
    for name, factors in (("alone", ""), ("accumulated", "1 a.* x 4 b.*"), (SAME[-1], "1 a.* x 2 b.* x 2 ranks.*")):
        assert re.search(rf"4 videos a step.*{factors}, learning rate 0\.04 \(0\.02 x 4 / 2\)", printed[name])
