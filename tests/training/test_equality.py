"""What equals what: one process at batch 4, two at 2, and batches of 2 or 1 whose gradients are accumulated.

Real trainings in real processes, all cases of one world size in one launch (recording.py).
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import environment, succeeded, write_config, write_data

from videores.training.callbacks.metrics_log import read_metrics_log

RECORDING = str(Path(__file__).parents[1] / "helpers" / "recording.py")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ALONE = {
    "alone": ["data.batch_size=4"],
    "accumulated": ["data.batch_size=2", "train.accumulate=2"],
    "no norm": ["data.batch_size=4", "model.norm=none"],
    "no norm accumulated": ["data.batch_size=1", "train.accumulate=4", "model.norm=none"],
    "batch norm": ["data.batch_size=4", "model.norm=batch"],
}
TWO = {
    "split": ["data.batch_size=2"],
    "split and accumulated": ["data.batch_size=1", "train.accumulate=2"],
    "dropout": ["data.batch_size=1", "train.accumulate=2", "model.dropout=0.5", "model.width=64"],
    "split batch norm": ["data.batch_size=2", "model.norm=batch"],
}
SAME = [
    ("alone", "accumulated"),
    ("alone", "split"),
    ("alone", "split and accumulated"),
    ("no norm", "no norm accumulated"),
]


def run(place, cases, launcher=()):
    command = [sys.executable, *launcher, RECORDING, json.dumps(cases)]
    return succeeded(subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, timeout=400))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Nine training videos, so that one is left over of every epoch's two steps of four."""
    folder = tmp_path_factory.mktemp("equality")
    write_data(folder / "data")
    model, train = {"norm": "group", "dropout": 0}, {"epochs": 2, "base_batch": 2}
    write_config(folder / "tiny.yaml", model=model, train=train, trainer={"precision": "fp32"})
    return folder


@pytest.fixture(scope="module")
def printed(place):
    return {"alone": run(place, ALONE).stdout, "two": run(place, TWO, TORCHRUN).stdout}


@pytest.fixture(scope="module")
def records(place, printed):
    """name -> what each rank wrote down."""
    return {
        name: [torch.load(place / f"{name}-{rank}.pt", weights_only=True) for rank in range(world)]
        for cases, world in ((ALONE, 1), (TWO, 2))
        for name in cases
    }


def largest_difference(ours, theirs):
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_gradients_are_equal_at_every_step(records, one, other):
    ours, theirs = records[one][0]["gradients"], records[other][0]["gradients"]
    assert len(ours) == len(theirs) == 4
    assert max(value.abs().max() for value in ours[0].values()) > 1e-2  # else nothing is compared
    for step, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        assert largest_difference(mine, its) < 1e-5, step


@pytest.mark.parametrize(("one", "other"), SAME)
def test_weights_are_equal_after_four_steps(records, one, other):
    assert largest_difference(records[one][0]["weights"], records[other][0]["weights"]) < 1e-5


@pytest.mark.parametrize(("one", "other"), SAME)
def test_every_row_of_the_history_is_equal(place, records, one, other):
    """One row a step, whatever a step is made of: loss and accuracy of all its videos on one process, of the first
    process' share on several; learning rate and validation numbers are the same everywhere."""
    ours, theirs = (read_metrics_log(place / name / "metrics.jsonl") for name in (one, other))
    shared = ["epoch", "step", "lr", "val/loss", "val/clip_top1", "val/video_top1"]
    shared += ["train/loss", "train/top1"] if other not in TWO else []
    assert len(ours) == len(theirs) == 6
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.keys() == its.keys()
        for key in mine.keys() & set(shared):
            assert mine[key] == pytest.approx(its[key], abs=1e-5), key


@pytest.mark.parametrize("name", [*ALONE, *TWO])
def test_each_video_comes_once_an_epoch_over_all_ranks(records, name):
    for epoch in (0, 1):
        seen = [n for rank in records[name] for first, *numbers in rank["videos"] if first == epoch for n in numbers]
        assert len(seen) == len(set(seen)) == 8


def test_steps_have_the_same_videos_however_they_are_made(records):
    def steps(name):
        """The videos of each step."""
        ranks = [rank["videos"] for rank in records[name]]
        share = len(ranks[0]) // 4
        return [sorted(n for rank in ranks for b in rank[s * share :][:share] for n in b[1:]) for s in range(4)]

    assert all(steps(name) == steps("alone") for name in [*ALONE, *TWO])


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


def test_batch_norm_makes_two_processes_another_training_and_the_summary_says_so(records, printed):
    ours, theirs = records["batch norm"][0]["gradients"], records["split batch norm"][0]["gradients"]
    assert largest_difference(ours[0], theirs[0]) > 1e-3
    assert printed["two"].count("batch norm sees 2 parts of a step") == 1
    assert "batch norm sees" not in printed["alone"]


def test_the_summary_shows_how_the_learning_rate_follows_from_the_videos_of_a_step(printed):
    rate = "learning rate 0.04 (0.02 x 4 / 2)"
    assert f"4 videos a step, {rate}" in printed["alone"]
    assert f"4 videos a step (2 a batch x 2 batches accumulated), {rate}" in printed["alone"]
    assert f"4 videos a step (1 a batch x 2 batches accumulated x 2 processes), {rate}" in printed["two"]
