"""From a run to an .onnx file with 8-bit convolutions: all of them, never calibrated on the test."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.commands import forked, read_result, succeeded
from helpers.weights import randomise

import videores
from videores.compress.quantise_clips import choose_clips
from videores.compress.quantise_onnx import count_operators, quantise_file
from videores.compute.scoring import set_score_layout
from videores.errors import UserError
from videores.inference.export import describe_run
from videores.inference.export_program import write_program
from videores.inference.exported import ExportDescription, load_exported
from videores.inference.preprocessing import Preprocessing
from videores.models import create_model

PREPROCESSING = Preprocessing(clip={"frames": 8}, transform={"short_side": 32, "crop": 32})
SMALL = dict(layers=(1, 1), width=8)
NETWORKS = [
    ("r2plus1d_18", {}, 2 + 4 + 4 + 1),
    ("f_r2d_18", {"shift": 4}, 1 + 2 + 2 + 1),
    ("ir_csn_26", {}, 1 + 3 + 3 + 2),
    ("r3d_18", {"block": "preact"}, 1 + 2 + 2 + 1),  # norms that are not folded
]


def write_network(folder, name="r3d_18", **options):
    """A float32 file and its clips, network and logits."""
    model = randomise(create_model(name, 3, **options)).eval()
    set_score_layout(model, "cpu", "fp32")
    described = PREPROCESSING.model_dump(mode="json")
    about = ExportDescription(["a", "b", "c"], described, None, None, "clips", "logits", True, "random")
    write_program(model, about, folder / "full.onnx")
    clips_BCTHW = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 8, 32, 32)).astype("float32"))
    with torch.no_grad():
        return folder / "full.onnx", clips_BCTHW, model(clips_BCTHW)


@pytest.mark.parametrize(
    ("name", "options", "convolutions"),
    [
        *((name, SMALL | options, convolutions) for name, options, convolutions in NETWORKS),
        pytest.param("r3d_18", {}, 20, marks=pytest.mark.slow),
        pytest.param("r2plus1d_18", {}, 37, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_convolution_computes_with_integers(name, options, convolutions, tmp_path):
    full, clips_BCTHW, logits_BN = write_network(tmp_path, name, **options)
    assert quantise_file(full, tmp_path / "int8.onnx", "static", [clips_BCTHW.numpy()]) == convolutions
    operators = count_operators(tmp_path / "int8.onnx")
    assert (operators["QLinearConv"], operators["Conv"], operators["FusedConv"]) == (convolutions, 0, 0)
    stored = onnx.load(tmp_path / "int8.onnx").graph.initializer
    kernels = [tensor for tensor in stored if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 2]
    scales = [tensor for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1]
    assert len(kernels) == convolutions  # none is reached through a view, which would have one scale for all channels
    assert {tensor.dims[0] for tensor in kernels} <= {tensor.dims[0] for tensor in scales}
    error_BN = load_exported(tmp_path / "int8.onnx")(clips_BCTHW) - logits_BN
    assert 0 < error_BN.norm() < 0.1 * logits_BN.norm()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file in float32, and its clips and logits."""
    return write_network(tmp_path_factory.mktemp("written"), "r2plus1d_18", **SMALL | {"layers": [1]})


@pytest.mark.parametrize("kind", ["dynamic", "weights"])
def test_other_kinds_need_no_clips(kind, written, tmp_path):
    full, clips_BCTHW, logits_BN = written
    assert quantise_file(full, tmp_path / "int8.onnx", kind) == 2 + 4
    assert count_operators(tmp_path / "int8.onnx")["ConvInteger"] == 6 * (kind == "dynamic")
    error_BN = load_exported(tmp_path / "int8.onnx")(clips_BCTHW) - logits_BN
    assert 0 < error_BN.norm() < 0.1 * logits_BN.norm()
    assert (tmp_path / "int8.onnx").stat().st_size < full.stat().st_size


def test_a_convolution_that_stays_in_float32_is_refused(written, tmp_path, monkeypatch):
    full, clips_BCTHW, _ = written
    monkeypatch.setattr("videores.compress.quantise_onnx.STATIC_OPERATORS", ["Add"])
    with pytest.raises(UserError, match=r"int8\.onnx.*all 6 convolutions.*got 0"):
        quantise_file(full, tmp_path / "int8.onnx", "static", [clips_BCTHW.numpy()])


# Calibration


@pytest.fixture
def run_data(trained, monkeypatch):
    """The run's data, in the folder where it was trained."""
    monkeypatch.chdir(trained[0])
    return describe_run(Path("runs/tiny/checkpoints/best.ckpt"))[0].data


def test_clips_are_of_training_videos_evenly_over_their_list(run_data):
    few, many = (choose_clips(run_data, PREPROCESSING, count) for count in (4, 30))
    trained_on = many.videos
    assert all(path.startswith("train/") for path in trained_on)
    assert len(trained_on) == 9  # three of twelve are validation videos
    assert few.videos == trained_on[::2][:1] + [trained_on[n] for n in (2, 4, 6)]
    assert (len(few), len(many)) == (4, 36)
    assert few.digest != many.digest
    assert [batch.shape for batch in many.read()] == [(4, 3, 8, 32, 32)] * 9


def test_videos_of_the_test_are_refused_under_another_name_too(run_data, tmp_path):
    (tmp_path / "copy.mp4").write_bytes(Path("data/test/02.mp4").read_bytes())
    with pytest.raises(UserError, match=r"--calibrate.*\n.*copy\.mp4"):
        choose_clips(run_data, PREPROCESSING, 4, [Path("data/train/00.mp4"), tmp_path / "copy.mp4"])
    chosen = choose_clips(run_data, PREPROCESSING, 4, [Path("data/train/00.mp4")])
    assert (chosen.videos, len(chosen)) == (["data/train/00.mp4"], 4)


@pytest.mark.parametrize(("count", "given", "key"), [(0, [], "--clips"), (4, ["none.mp4"], r"none\.mp4")])
def test_without_clips_there_are_no_ranges(count, given, key, run_data):
    with pytest.raises(UserError, match=key):
        choose_clips(run_data, PREPROCESSING, count, given)


# The tool


@pytest.fixture(scope="module")
def quantised(trained, tmp_path_factory):
    """(the folder of files, the place of the run, processes by name)"""
    place, folder = trained[0], tmp_path_factory.mktemp("quantised")
    command = lambda *more: ("compress.py", "quantise", "--run", *more)
    cases = {
        "static": command("runs/tiny", "--clips", "6", "--out", folder / "int8.onnx"),
        "compare": ("evaluate.py", "--scores", "runs/tiny", folder / "int8.onnx.results", "--compare"),
        "pareto": ("report.py", "--pareto", "runs/tiny", folder / "int8.onnx", "--out", folder / "pareto"),
        "again": ("evaluate.py", "--run", folder / "int8.onnx", "test.clips=1"),
        "predict": ("predict.py", folder / "int8.onnx", "data/test/00.mp4"),
        "quantised": command(folder / "int8.onnx", "--out", folder / "twice.onnx"),
        "no run": command("data", "--out", folder / "none.onnx"),
        "pruned": ("compress.py", "prune", "--run", folder / "int8.onnx", "--ratio", "0.5"),
        "moved": command("runs/tiny", "--out", folder / "none.onnx", "data.root=elsewhere"),
        "tested": command("runs/tiny", "--calibrate", "data/test/00.mp4", "--out", folder / "none.onnx"),
        "other videos": ("report.py", "--pareto", "runs/tiny", folder),
        "suffix": command("runs/tiny", "--out", folder / "none.pt2"),
    }
    return folder, place, dict(zip(cases, forked(list(cases.values()), place), strict=True))


def test_the_file_is_tested_with_the_protocol_of_the_run(quantised):
    folder, place, processes = quantised
    for name in ("static", "compare", "pareto", "again", "predict"):
        succeeded(processes[name])
    (run_test,) = (place / "runs/tiny/test").iterdir()
    found, through = read_result(folder / "int8.onnx.results/test" / run_test.name)
    result, arrays = read_result(run_test)
    assert [found[key] for key in ("protocol", "videos", "list")] == [
        result[key] for key in ("protocol", "videos", "list")
    ]
    difference = abs(through["logits"] - arrays["logits"]).max()
    assert 0 < difference < 0.2 * abs(arrays["logits"]).max()
    assert "quantised all 3 convolutions" in processes["static"].stdout
    assert "McNemar" in processes["compare"].stdout


def test_runs_and_files_are_compared_by_accuracy_and_time(quantised):
    rows = (quantised[0] / "pareto/pareto.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["tiny", f"{quantised[0].name}/int8.onnx"]
    assert all(float(row.split(",")[3]) > float(row.split(",")[2]) > 0 for row in rows[1:])  # two clips a video
    assert (quantised[0] / "pareto/pareto.svg").exists()


def test_the_file_says_how_it_was_made(quantised):
    about = videores.load(quantised[0] / "int8.onnx").model.about
    assert about.folded
    facts = about.quantised
    assert (facts["kind"], facts["clips"], facts["convolutions"]) == ("static", 6, 3)
    assert all(path.startswith("train/") for path in facts["videos"])
    assert len(facts["videos_hash"]) == 16
    assert list(facts["differences"]) == ["1", "2", "5"]
    assert json.dumps(facts["videos"]) in about.to_metadata()["quantised"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("quantised", "a quantised file"),
        ("pruned", "a quantised file"),
        ("no run", "data"),
        ("moved", "data.root"),
        ("tested", "--calibrate"),
        ("suffix", "--out"),
        ("other videos", "quantised"),
    ],
)
def test_what_cannot_be_quantised_is_refused(quantised, name, key):
    process = quantised[2][name]
    assert process.returncode == 2, process.stderr
    assert key in process.stderr
    assert "Traceback" not in process.stderr
    assert [path.name for path in quantised[0].glob("*.*") if path.is_file()] == ["int8.onnx"]
