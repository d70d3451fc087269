"""Several ranks on one CPU: they train, and they test to the numbers of one rank."""

import json
import sys

import numpy as np
import pytest
from helpers.commands import forked, forked_ranks, read_result, result, succeeded, tool, write_config, write_data
from helpers.videos import write_csv

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SLUG = "8x1@32_32_2x1_softmax-mean_{}-test"
TRAIN = ("train.py", "--cfg", "tiny.yaml")
TRAINING_ROWS = [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with 12 training and 7 test videos: an odd number for two ranks."""
    folder = tmp_path_factory.mktemp("ddp")
    write_data(folder / "data")
    write_config(folder / "tiny.yaml", data={"batch_size": 2})
    tests = [("e.mp4", "a", "h"), ("f.mp4", "b", "i"), ("bad.mp4", "b", "j")]
    few = {"train": TRAINING_ROWS, "val": [("v.mp4", "b", "i")], "test": tests[:1]}
    write_csv(folder / "few", few, height=32, width=32)
    write_csv(folder / "bad", {"train": TRAINING_ROWS, "test": tests}, height=32, width=32)
    (folder / "bad" / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def run(place):
    """A training on two ranks, the second of which train.py starts."""
    process = succeeded(tool(*TRAIN, "trainer.devices=2", cwd=place))
    return process, place / "runs" / "tiny"


@pytest.fixture(scope="module")
def ran(place, run):
    """Commands on one, two and three ranks. The tests are of one checkpoint, in batches of another size, with workers.

    Neither two nor three divide the seven videos, nor do seven views a batch."""
    evaluate = ("evaluate.py", "--run", run[1], "trainer.devices=auto")
    cases = {
        "one": (1, *evaluate[:3], "trainer.devices=1", "data.batch_size=1", "data.name=one"),
        "two": (2, *evaluate, "data.batch_size=7", "data.workers=1", "data.name=two"),
        "three": (3, *evaluate, "data.batch_size=7", "data.name=three"),
        "few": (2, *TRAIN, "data.root=few", "run.dir=few-run", "train.epochs=1"),
        "bad": (2, *TRAIN, "data.root=bad", "run.dir=bad-run", "train.epochs=1", "data.val=none"),
        "nan": (2, *TRAIN, "train.lr=1e30", "run.dir=nan"),
    }
    return dict(zip(cases, forked_ranks(cases.values(), place), strict=True))


def test_two_ranks_train_and_test_and_only_one_prints_and_writes(run):
    process, folder = run
    assert process.stdout.splitlines()[-1].startswith("video   top-1")
    assert process.stdout.count("video   top-1") == process.stdout.count("writes ") == 1
    assert read_result(folder / "test" / SLUG.format("tiny"))[0]["videos"]["scored"] == 7
    record = json.loads((folder / "env.json").read_text())
    assert (record["world_size"], len(record["starts"])) == (2, 1)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, 1 + 2 * (9 // 4)))


def numbers(found):
    """Counts, and what follows from the logits, which are rounded otherwise in batches of another size."""
    rounded = {key: found[key] for key in ("nll", "ece")} | {"worst": [one["confidence"] for one in found["worst"]]}
    return {k: v for k, v in found.items() if k not in ("protocol", *rounded)}, np.hstack([*rounded.values()])


def test_one_two_and_three_ranks_test_to_the_same_numbers(run, ran):
    for name in ("one", "two", "three"):
        succeeded(ran[name])
    folder = run[1] / "test"
    (one, arrays), *others = (read_result(folder / SLUG.format(name)) for name in ("one", "two", "three", "tiny"))
    assert one["videos"]["scored"] == 7
    for other, its in others:
        assert numbers(other)[0] == numbers(one)[0]
        np.testing.assert_allclose(numbers(other)[1], numbers(one)[1], atol=1e-5)
        assert its["video"].tolist() == arrays["video"].tolist()
        np.testing.assert_allclose(its["logits"], arrays["logits"], atol=1e-5)


def test_fewer_videos_than_ranks_are_scored_once(place, ran):
    """One test video and one validation video for two ranks: one of them has nothing to score."""
    succeeded(ran["few"])
    assert result(place / "few-run")[0]["videos"] == {"expected": 1, "scored": 1, "unreadable": []}
    assert (place / "few-run" / "checkpoints" / "best.ckpt").exists()


def test_two_ranks_count_a_bad_test_video_as_wrong(place, ran):
    succeeded(ran["bad"], 1)
    assert result(place / "bad-run")[0]["videos"] == {"expected": 3, "scored": 2, "unreadable": ["bad.mp4"]}


def test_two_ranks_stop_together_at_a_loss_that_is_not_finite(place, ran):
    succeeded(ran["nan"], 2)
    assert "Traceback" not in ran["nan"].stderr
    assert ran["nan"].stderr.count("train.lr") == 1
    assert json.loads((place / "nan" / "env.json").read_text())["exit_status"] == 2


def test_bad_input_is_reported_once_and_leaves_no_process_behind(place):
    command = (*TRAIN, "trainer.devices=2", "data.root=nowhere", "run.dir=x")
    process = succeeded(*forked([command], place), 2)
    assert process.stderr.count("error: ") == 1
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_under_torchrun_it_trains_and_tests_to_the_same_numbers(place, run):
    process = succeeded(tool(*TRAIN, "run.dir=torchrun", cwd=place, python=TORCHRUN))
    assert process.stdout.count("video   top-1") == 1
    assert json.loads((place / "torchrun" / "env.json").read_text())["world_size"] == 2
    started, ours = read_result(run[1] / "test" / SLUG.format("tiny"))
    launched, theirs = result(place / "torchrun")
    assert started == launched  # the same seed, the same world: the same run
    np.testing.assert_array_equal(ours["logits"], theirs["logits"])


@pytest.mark.slow
def test_torchrun_of_another_size_than_configured_is_refused(place):
    process = tool(*TRAIN, "trainer.devices=3", "run.dir=x", cwd=place, python=TORCHRUN)
    assert process.returncode != 0
    assert all(word in process.stderr for word in ("trainer.devices", "torchrun", "got 3"))
