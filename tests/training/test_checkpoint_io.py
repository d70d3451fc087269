"""Checkpoint files: whole or not there, two of them, and the newest good one is found."""

import math
import os
import resource
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from videores.config.schema import RunConfig
from videores.errors import UserError
from videores.training import checkpoint_io
from videores.training.callbacks.checkpointing import Checkpointing


def content(step):
    config = {"data": {"clip": {}, "transform": {"mean": [0.5], "std": [0.5]}}, "model": {"name": "r3d_18"}}
    weights = torch.arange(10000.0) + step
    return {
        **{"global_step": step, "epoch": 0, "state_dict": {"w": weights}},
        "hyper_parameters": {"config": config, "classes": ["a", "b"]},
    }


@pytest.fixture
def two(tmp_path):
    """The checkpoints of steps 3 and 5."""
    for step in (1, 3, 5):
        checkpoint_io.write_checkpoint(content(step), tmp_path / "last.ckpt")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def steps(folder):
    return {name: torch.load(folder / name, weights_only=True)["global_step"] for name in names(folder)}


def test_the_previous_checkpoint_is_kept_and_the_newest_is_read(two):
    assert steps(two) == {"last.ckpt": 5, "last-previous.ckpt": 3}
    path, stored, errors = checkpoint_io.read_newest_checkpoint(two)
    assert (path.name, stored["global_step"], errors) == ("last.ckpt", 5, [])


def test_the_best_one_becomes_the_last_too(two):
    checkpoint_io.write_checkpoint(content(7), two / "best.ckpt")
    checkpoint_io.copy_as_last(two / "best.ckpt")
    assert steps(two) == {"best.ckpt": 7, "last.ckpt": 7, "last-previous.ckpt": 5}
    checkpoint_io.write_checkpoint(content(9), two / "last.ckpt")
    assert steps(two) == {"best.ckpt": 7, "last.ckpt": 9, "last-previous.ckpt": 7}


def test_a_file_system_without_links_gets_copies(two, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    checkpoint_io.write_checkpoint(content(7), two / "last.ckpt")
    assert steps(two) == {"last.ckpt": 7, "last-previous.ckpt": 5}


def flip_bit(data):
    """A bit of the weights, which torch reads without a word."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], flip_bit, lambda data: b""])
def test_a_damaged_last_one_falls_back_to_the_one_before(two, damage):
    last = two / "last.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    path, stored, errors = checkpoint_io.read_newest_checkpoint(two)
    assert (path.name, stored["global_step"]) == ("last-previous.ckpt", 3)
    (error,) = errors
    assert str(last) in error


def test_torch_would_not_see_the_flipped_bit(two):
    last = two / "last.ckpt"
    last.write_bytes(flip_bit(last.read_bytes()))
    assert not torch.equal(torch.load(last, weights_only=True)["state_dict"]["w"], content(5)["state_dict"]["w"])
    with zipfile.ZipFile(last) as archive:
        assert archive.testzip()


def test_a_kill_between_the_two_names_is_as_if_it_had_come_before(two):
    (two / "last.ckpt").unlink()
    assert checkpoint_io.read_newest_checkpoint(two)[1]["global_step"] == 3


def test_without_any_good_one_there_is_nothing_to_continue_from(two, tmp_path):
    for path in two.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"overwrite=true(.|\n)*last\.ckpt(.|\n)*last-previous\.ckpt"):
        checkpoint_io.read_newest_checkpoint(two)
    assert checkpoint_io.read_newest_checkpoint(tmp_path / "none") is None


def test_what_a_killed_process_left_is_removed_and_nothing_else(two):
    (two / ".last.999999.tmp.ckpt").write_bytes(b"half")
    (two / "mine.ckpt").write_bytes(b"precious")
    checkpoint_io.remove_partial_checkpoints(two)
    assert names(two) == ["last-previous.ckpt", "last.ckpt", "mine.ckpt"]


@pytest.mark.parametrize("limit", [0, 1000, 300_000])
def test_a_disk_that_takes_no_more_leaves_the_old_files_and_no_others(two, limit):
    """A limit to the size of files stands for the full disk: writing fails in the same places."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):  # the disk's reason, not torch's
            checkpoint_io.write_checkpoint({"w": torch.zeros(100000)}, two / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert steps(two) == {"last.ckpt": 5, "last-previous.ckpt": 3}


def test_the_best_checkpoint_has_the_highest_score():
    checkpointing, names = Checkpointing(Path("x"), RunConfig(), {}, None), []
    checkpointing.save, checkpointing.reducer = names.append, SimpleNamespace(collect=lambda: [0, 0], send=lambda: None)
    for score in (math.nan, 1.0, 3.0, 2.0, 3.0, math.nan, 4.0, None):
        metrics = {} if score is None else {"best_by": torch.tensor(score)}
        checkpointing.on_train_epoch_end(SimpleNamespace(callback_metrics=metrics), None)
    assert [name == "best.ckpt" for name in names] == [True, True, True, False, False, False, True, False]
    assert set(names) == {"best.ckpt", "last.ckpt"}
    assert checkpointing.state_dict() == {"best": 4.0}


def test_the_interval_grows_with_what_a_checkpoint_costs():
    checkpointing = Checkpointing(Path("x"), RunConfig(), {}, None)
    assert checkpointing.compute_save_interval() == 60
    checkpointing.save_seconds = 5
    assert checkpointing.compute_save_interval() >= 200 * 5
    for minutes, seconds in ((2, 120), (None, math.inf)):
        checkpointing.run = RunConfig(checkpoint_minutes=minutes)
        assert checkpointing.compute_save_interval() == seconds
