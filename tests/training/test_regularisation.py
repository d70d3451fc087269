"""The tools against overfitting on the command line: what a run keeps, and what is refused before it starts."""

import pytest
import torch
from helpers.commands import forked, result, succeeded, write_config, write_data

from videores.models.weights import safe_load

ALL = {
    **{"ema": 0.9, "precise_bn": 1, "freeze": "stem", "layer_decay": 0.8, "schedule": "plateau", "patience": 1},
    "distill": {"teacher": "runs/teacher", "attention": 10},
}
WRONG = {  # override -> what the message names
    "train.patience=2": ["train.patience", "data.val=none"],
    "train.schedule=plateau": ["train.schedule=plateau", "data.val=none"],
    "train.freeze=[layer9]": ["train.freeze", "layer9", "did you mean layer1"],
    "train.distill.teacher=runs/none": ["runs/none"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_data(folder / "data")
    write_config(folder / "teacher.yaml", train={"epochs": 1, "swa": 0})
    write_config(folder / "student.yaml", train={"epochs": 2, "lr": 0.02, "warmup": 0.5, **ALL})
    write_config(folder / "tiny.yaml", data={"val": "none"})
    return folder


@pytest.fixture(scope="module")
def ran(place):
    cases = [("train.py", "--cfg", f"{name}.yaml") for name in ("teacher", "student")]
    cases += [("train.py", "--cfg", "student.yaml", "run.resume=auto")]
    cases += [("train.py", "--cfg", "tiny.yaml", override) for override in WRONG]
    return forked(cases, place)


def test_a_run_keeps_the_average_and_the_weights_that_learn(place, ran):
    for name, process in zip(("teacher", "student"), ran[:2], strict=True):
        succeeded(process)
        stored = safe_load.read_checkpoint(place / "runs" / name / "checkpoints" / "best.ckpt")
        assert stored["state_dict"].keys() == stored["learning"].keys()
        assert not any(key.startswith("teacher") for key in stored["state_dict"])
    assert any(not torch.equal(value, stored["learning"][key]) for key, value in stored["state_dict"].items())
    assert result(place / "runs" / "student")[0]["checkpoint"]["file"] == "checkpoints/best.ckpt"
    assert "teacher 20 tensors of runs/teacher/checkpoints/best.ckpt" in ran[1].stdout.replace("\\", "/")
    assert "eval mode" not in ran[1].stderr  # Lightning's warning of what was frozen on purpose
    assert "tested" in succeeded(ran[2]).stdout  # a finished run is tested again


def test_wrong_input_is_refused_before_a_folder_is_made(place, ran):
    for process, words in zip(ran[3:], WRONG.values(), strict=True):
        succeeded(process, 2)
        assert [word for word in words if word not in process.stderr] == []
        assert "Traceback" not in process.stderr
    assert not (place / "runs" / "tiny").exists()
