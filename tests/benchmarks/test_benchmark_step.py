"""The step benchmark: it compares equal functions, says what was reached, and writes its rows. No time is tested."""

import argparse
import csv

import pytest
import torch
from benchmarks import step

from videores.compute import precision
from videores.config.schema import TrainerConfig
from videores.errors import UserError

TINY = ["--frames", "2", "--size", "32", "--batch", "1", "--threads", "1", "--rounds", "1"]


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    step.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_all_runs_answer_alike_and_are_written(tmp_path, monkeypatch, capsys, one_thread):
    monkeypatch.setattr(step, "SPARSE", ("mc3_18", "mc3_18 groups=2"))
    out = tmp_path / "made" / "step.csv"
    step.main(parsed(*TINY, "--networks", "r3d_18", "--out", str(out)))
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    compared = [row for row in rows if row["network"] == "r3d_18"]
    assert [row["run"] for row in compared if row["what"] == "training"][:2] == [
        "torchvision fp32",
        "ours, equal settings",
    ]
    for row in compared:
        assert float(row["clips_s"]) == pytest.approx(1e3 / float(row["ms"]))
        assert float(row["difference"]) < (0.1 if "bf16" in row["run"] else 1e-4)
    sparse = {row["network"]: row for row in rows if row["gmac"]}
    assert list(sparse) == ["mc3_18", "mc3_18 groups=2"]
    assert float(sparse["mc3_18 groups=2"]["promised_ms"]) < float(sparse["mc3_18"]["promised_ms"])
    assert float(sparse["mc3_18"]["promised_ms"]) == pytest.approx(float(sparse["mc3_18"]["ms"]))
    inference = [row["run"] for row in compared if row["what"] == "inference"]
    assert inference[1:3] == ["ours, equal settings", "ours, default of scores: fp32 channels-last"]
    low_precision = precision.select_setting(TrainerConfig(), "cpu").precision != "fp32"
    assert any("score_precision" in run for run in inference) == low_precision
    printed = capsys.readouterr().out
    assert printed.count("reached") == 4 + low_precision
    assert f"wrote {out}" in printed


def test_verdicts_follow_the_targets():
    assert step.verdict("r3d_18", "training", "ours, default: bf16", 2.5).endswith("2.5: reached")
    assert step.verdict("r2plus1d_18", "training", "ours, default: bf16", 2.9).endswith("3: NOT reached")
    assert step.verdict("r3d_18", "inference", "ours, equal settings", 0.89).endswith("0.9: NOT reached")
    assert step.verdict("r3d_18", "inference", "ours, norms folded too", 0.5) == ""
    assert step.verdict("r3d_18", "inference", "ours, default of scores: fp32", 1.9).endswith("2: NOT reached")
    assert step.verdict("r3d_18", "inference", "ours, score_precision: bf16", 2.1).endswith("2: reached")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--networks", "mc3_18"], "mc3_18 is not compared"),
        (["--batch", "0"], "at least 1"),
        *([] if torch.cuda.is_available() else [(["--device", "cuda"], "no CUDA device")]),
    ],
)
def test_wrong_input_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        step.main(parsed(*arguments))
