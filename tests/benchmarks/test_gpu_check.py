"""tools/gpu_check.sh: without a GPU it says so; on a CPU with tiny sizes, every part runs and is in the file."""

import json
import subprocess
import sys

import pytest
import torch
from benchmarks import gpu
from helpers.commands import ROOT, environment

SETTINGS = ("fp32", "bf16 channels last, fused SGD", "bf16 channels last, CUDA graph")  # compiling takes a minute


def check(*arguments, cwd):
    command = [str(ROOT / "tools" / "gpu_check.sh"), *map(str, arguments)]
    place = {**environment(), "PYTHON": sys.executable}
    return subprocess.run(command, cwd=cwd, env=place, capture_output=True, text=True, timeout=500)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path):
    process = check("--out", tmp_path / "gpu.json", cwd=tmp_path)
    assert process.returncode == 2
    assert "--device cuda" in process.stderr
    assert not (tmp_path / "gpu.json").exists()


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Of one network, in the settings that a CPU has."""
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    few = ("--networks", "r3d_18", "--settings", *SETTINGS, "--peak", 0.1)
    process = check("--device", "cpu", *few, "--out", path, cwd=path.parent)
    assert process.returncode in (0, 1), process.stderr[-3000:]
    return json.loads(path.read_text())


def test_every_part_is_in_the_file(record):
    parts = ("doctor", "gradients", "training_step", "epoch", "torchcodec_cuda")
    assert [name for name in parts if "error" in record[name]] == []
    assert record["device"]["peak_tflops"] == 0.1
    assert {"gradients", "cache"} <= {finding["what"] for finding in record["doctor"]}


def test_every_setting_is_measured_or_says_why_not(record):
    rows = {row["setting"]: row for row in record["training_step"]}
    assert tuple(rows) == SETTINGS
    assert "error" in rows["bf16 channels last, CUDA graph"]
    row = rows["fp32"]
    assert row["clips_s"] == pytest.approx(2e3 / row["ms"])
    assert row["mfu"] == pytest.approx(row["clips_s"] * 6e9 * row["gmacs"] / 1e11)


def test_gradients_are_compared_with_float64(record):
    found = record["gradients"]["r3d_18"]
    assert found["right"]
    assert found["error"] < 0.05


def test_an_epoch_is_trained_on_files_with_an_exchange_of_gradients(record):
    epoch = record["epoch"]
    assert (epoch["backend"], epoch["steps"], epoch["finite"]) == ("gloo", 4, True)
    assert 0 <= epoch["data_wait"] <= 1


def test_errors_and_wrong_gradients_are_listed():
    right, wrong = {"right": True}, {"right": False, "error": 0.9}
    record = {"doctor": [], "gradients": {"a": right, "b": wrong}, "epoch": {"error": "NCCL is not there"}}
    listed = "\n".join(gpu.list_wrong(record))
    assert "NCCL is not there" in listed
    assert "gradients of b" in listed
    assert "gradients of a" not in listed
