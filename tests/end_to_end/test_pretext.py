"""A pretext run is an ordinary one: its control, its checkpoint as weights, and several ranks."""

import json

import numpy as np
import pytest
from helpers.commands import forked, forked_ranks, read_result, succeeded, write_config
from helpers.videos import write_csv

from videores.reporting import results

PRETEXT = ("data.pretext=transformations", "data.clip.repeat=2", "train.contrast=0.3")
SLUG = "8x1@32_32_2x1_softmax-mean_{}-test_transformations"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with 12 training and 7 test videos, on which frames show their number: the answer leaks."""
    folder = tmp_path_factory.mktemp("pretext")
    rows = {
        part: [(f"{part}/{i:02}.mp4", "ab"[i % 2], f"{part}{i:02}") for i in range(n)]
        for part, n in (("train", 12), ("test", 7))
    }
    write_csv(folder / "data", rows, height=32, width=32, frames=16)
    write_config(folder / "tiny.yaml", data={"batch_size": 2}, train={"epochs": 1, "warmup": 0})
    return folder


@pytest.fixture(scope="module")
def ran(place):
    """A training on two ranks, and tests of its checkpoint on one, two and three."""
    train = ("train.py", "--cfg", "tiny.yaml", *PRETEXT, "run.dir=run")
    test = ("evaluate.py", "--run", "run", "trainer.devices=auto")
    cases = [(2, *train), *((ranks, *test, f"data.name={ranks}", "data.batch_size=7") for ranks in (1, 2, 3))]
    return [succeeded(process) for process in forked_ranks(cases, place)]


def test_ranks_train_together_and_one_two_and_three_test_alike(place, ran):
    (one, arrays), *others = (
        read_result(place / "run" / "test" / SLUG.format(name)) for name in ("1", "2", "3", "tiny")
    )
    assert one["videos"]["scored"] == 7
    assert sorted(arrays["label"].tolist()) == [0, 0, 1, 2, 3, 4, 5]
    for other, its in others:
        np.testing.assert_allclose(its["logits"], arrays["logits"], atol=1e-5)
        assert other["video_top1"] == one["video_top1"]


def test_the_control_on_still_clips_and_the_chance_level_are_printed(place, ran):
    printed = ran[0].stdout
    assert "chance 16.67" in printed
    assert printed.splitlines()[-1].startswith("video   top-1")
    assert (place / "run" / "test" / f"{SLUG.format('tiny')}_static" / "metrics.json").exists()


@pytest.mark.parametrize(("low", "leaks"), [(16.6, False), (17.0, True)])
def test_a_control_whose_interval_is_above_chance_is_called_a_leak(place, ran, tmp_path, low, leaks):
    found, _ = read_result(place / "run" / "test" / f"{SLUG.format('tiny')}_static")
    (tmp_path / "metrics.json").write_text(json.dumps(found | {"ci95_video_top1": [low, 60.0]}))
    assert ("LEAKS" in results.format_leak(tmp_path)) is leaks


def test_its_checkpoint_is_weights_for_a_run_with_classes(place, ran):
    more = ("model.weights=run/checkpoints/last.ckpt", "run.dir=tuned")
    process = succeeded(*forked([("train.py", "--cfg", "tiny.yaml", *more)], place))
    assert "new: fc.weight, fc.bias" in process.stdout
    assert json.loads((place / "tuned" / "env.json").read_text())["weights"]["unused"] == ["fc.weight", "fc.bias"]


def test_the_table_of_a_run_leaves_the_control_out(place, ran):
    process = succeeded(*forked([("report.py", "--table", "run", "--out", "table")], place))
    assert "row     run" in process.stdout
    assert "static" not in (place / "table" / "table.md").read_text()
