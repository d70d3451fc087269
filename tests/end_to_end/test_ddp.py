"""Several processes on one CPU: they train, and they test to the numbers of one process."""

import json
import sys

import numpy as np
import pytest
from helpers.commands import read_result, result, succeeded, tool, write_config, write_data
from helpers.videos import write_csv

TWO = "trainer.devices=2"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SLUG = "8x1@32_32_2x1_softmax-mean_{}-test"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with 12 training and 7 test videos: an odd number for two processes."""
    folder = tmp_path_factory.mktemp("ddp")
    write_data(folder / "data")
    write_config(folder / "tiny.yaml", data={"batch_size": 2})
    return folder


@pytest.fixture(scope="module")
def run(place):
    """A training on two processes that train.py starts."""
    process = succeeded(tool("train.py", "--cfg", "tiny.yaml", TWO, cwd=place))
    return process, place / "runs" / "tiny"


@pytest.fixture(scope="module")
def tested(place, run):
    """The same checkpoint, tested by one process and again by two and three, in batches of another size, with workers.

    Neither two nor three divide the seven videos, nor do seven views a batch."""
    ways = {
        "one": ("trainer.devices=1", "data.batch_size=1"),
        "two": (TWO, "data.batch_size=7", "data.workers=2"),
        "three": ("trainer.devices=3", "data.batch_size=7", "data.workers=1"),
    }
    for name, how in ways.items():
        succeeded(tool("evaluate.py", "--run", run[1], *how, f"data.name={name}", cwd=place))
    return [read_result(run[1] / "test" / SLUG.format(name)) for name in ways]


def test_two_processes_train_and_test(run):
    process, folder = run
    assert process.stdout.splitlines()[-1].startswith("video   top-1")
    assert read_result(folder / "test" / SLUG.format("tiny"))[0]["videos"]["scored"] == 7
    assert json.loads((folder / "env.json").read_text())["world_size"] == 2


def test_only_one_process_speaks_and_writes(run):
    process, folder = run
    assert process.stdout.count("video   top-1") == 1
    assert process.stdout.count("writes ") == 1
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "train/loss" in row]
    assert steps == sorted(set(steps))
    assert len(json.loads((folder / "env.json").read_text())["starts"]) == 1


def test_an_epoch_of_two_processes_has_half_the_steps(run):
    rows = [json.loads(line) for line in (run[1] / "metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 2 * (9 // 4)


def numbers(found):
    """What is counted, and what follows from the logits, which are rounded otherwise in batches of another size."""
    rounded = {key: found[key] for key in ("nll", "ece")} | {"worst": [one["confidence"] for one in found["worst"]]}
    return {k: v for k, v in found.items() if k not in ("protocol", *rounded)}, np.hstack([*rounded.values()])


def test_one_two_and_three_processes_test_to_the_same_numbers(tested):
    (one, _), *others = tested
    for other, _ in others:
        assert numbers(other)[0] == numbers(one)[0]
        np.testing.assert_allclose(numbers(other)[1], numbers(one)[1], atol=1e-5)
        assert other["videos"]["scored"] == 7


def test_one_two_and_three_processes_compute_the_same_logits(tested):
    (_, one), *others = tested
    for _, other in others:
        assert one["video"].tolist() == other["video"].tolist()
        np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-5)


def test_the_test_that_ends_training_has_the_numbers_of_evaluate(run, tested):
    trained, _ = read_result(run[1] / "test" / SLUG.format("tiny"))
    assert numbers(trained)[0] == numbers(tested[0][0])[0]


@pytest.fixture(scope="module")
def fewer(place):
    """One test video and one validation video for two processes: one of them has nothing to score."""
    rows = {
        "train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)],
        "val": [("v.mp4", "b", "i")],
        "test": [("e.mp4", "a", "h")],
    }
    write_csv(place / "fewer", rows, height=32, width=32)
    overrides = ["data.root=fewer", "run.dir=fewer-run", "train.epochs=1", TWO]
    return tool("train.py", "--cfg", "tiny.yaml", *overrides, cwd=place, timeout=120), place / "fewer-run"


def test_fewer_videos_than_processes_are_scored_once(fewer):
    process, folder = fewer
    succeeded(process)
    assert result(folder)[0]["videos"] == {"expected": 1, "scored": 1, "unreadable": []}
    assert (folder / "checkpoints" / "best.ckpt").exists()


def test_two_processes_stop_together_at_a_loss_that_is_not_finite(place):
    process = tool("train.py", "--cfg", "tiny.yaml", TWO, "train.lr=1e30", "run.dir=nan", cwd=place, timeout=120)
    assert process.returncode == 2, process.stderr[-3000:]
    assert "Traceback" not in process.stderr
    assert process.stderr.count("loss is not finite at step") == 1
    assert json.loads((place / "nan" / "env.json").read_text())["exit_status"] == 2


def test_two_processes_count_a_bad_test_video_as_wrong(place):
    rows = {
        "train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)],
        "test": [("e.mp4", "a", "h"), ("f.mp4", "b", "i"), ("bad.mp4", "b", "j")],
    }
    write_csv(place / "bad", rows, height=32, width=32)
    (place / "bad" / "bad.mp4").write_text("no video")
    overrides = ["data.root=bad", "data.val=none", "run.dir=bad-run", "train.epochs=1", TWO]
    process = tool("train.py", "--cfg", "tiny.yaml", *overrides, cwd=place, timeout=120)
    assert process.returncode == 1, process.stderr[-3000:]
    assert result(place / "bad-run")[0]["videos"] == {"expected": 3, "scored": 2, "unreadable": ["bad.mp4"]}


def test_bad_input_is_said_once_and_leaves_no_process_behind(place):
    process = tool("train.py", "--cfg", "tiny.yaml", TWO, "data.root=nowhere", "run.dir=bad", cwd=place)
    assert process.returncode == 2
    assert process.stderr.count("error: ") == 1
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_under_torchrun_it_trains_and_tests_to_the_same_numbers(place, run):
    process = succeeded(tool("train.py", "--cfg", "tiny.yaml", "run.dir=torchrun", cwd=place, python=TORCHRUN))
    assert process.stdout.count("video   top-1") == 1
    assert json.loads((place / "torchrun" / "env.json").read_text())["world_size"] == 2
    started, ours = read_result(run[1] / "test" / SLUG.format("tiny"))
    launched, theirs = result(place / "torchrun")
    assert started == launched  # the same seed, the same world: the same run
    np.testing.assert_array_equal(ours["logits"], theirs["logits"])


@pytest.mark.slow
def test_torchrun_of_another_size_than_asked_for_is_refused(place):
    process = tool("train.py", "--cfg", "tiny.yaml", "trainer.devices=3", "run.dir=x", cwd=place, python=TORCHRUN)
    assert process.returncode != 0
    assert "trainer.devices=3, but torchrun started 2 processes" in process.stderr
