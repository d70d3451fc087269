"""Weights of our own runs: they travel with classes, preprocessing and network, and what differs there is noted."""

import json

import pytest
import torch
from helpers.videos import write_folder
from helpers.weights import PREPROCESSING, TINY, clips, logits, randomise, refusal, same_states, save

from videores import run as experiment
from videores.config import parse
from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.weights import loading
from videores.training.module import VideoClassifier


def make_task(classes, **model):
    model = {"name": "r3d_18", **TINY, **model}
    data = {"name": "tiny", "format": "csv", "root": "."}
    return VideoClassifier(parse.build_config({"data": data, "model": model, "train": {"epochs": 1}}, "test"), classes)


@pytest.fixture
def run(tmp_path):
    task = make_task(["a", "b", "c"])
    randomise(task.model)
    stored = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "epoch": 0, "global_step": 1}
    return save(stored, tmp_path / "best.ckpt"), task.model


@pytest.mark.parametrize("known", [{"lr": 0.1}, {"config": {"lr": 0.1}, "classes": []}, {"config": 3, "classes": []}])
@pytest.mark.parametrize("prefix", ["", "torchvision:"])
def test_another_projects_lightning_checkpoint_is_not_taken_for_a_run(run, tmp_path, known, prefix):
    path, source = run
    save({"state_dict": source.state_dict(), "hyper_parameters": known}, path)
    if prefix:
        assert (
            loading.load_weights(make_task(["a", "b", "c"]).model, f"{prefix}{path}", ["a", "b", "c"], head="keep").new
            == []
        )
    else:
        assert "was not written by tools/train.py" in refusal(make_task(["a", "b", "c"]).model, path)


@pytest.mark.parametrize("prefix", ["", "vmz:", "mmaction2:", "pytorchvideo:", "torchvision:"])
def test_tensors_without_names_are_no_network(tmp_path, prefix):
    path = save({0: torch.zeros(1), 1: torch.zeros(1)}, tmp_path / "numbers.pth")
    message = refusal(create_model("r3d_18", 2, **TINY), f"{prefix}{path}")
    assert "numbers.pth" in message
    assert "names" in message


def test_an_own_run_gives_its_classifier_to_the_same_classes_only(run):
    path, source = run
    model = make_task(["a", "b", "c"]).model
    assert loading.load_weights(model, path, ["a", "b", "c"]).new == []
    assert same_states(model.state_dict(), source.state_dict())
    assert loading.load_weights(make_task(["x", "y"]).model, path, ["x", "y"]).new == ["fc.weight", "fc.bias"]
    message = refusal(make_task(["a", "c", "b"]).model, path, ["a", "c", "b"])
    assert "1: b / c" in message


def test_an_own_runs_preprocessing_travels_with_it(run):
    path, _ = run
    model, fed = make_task(["a", "b", "c"]).model, PREPROCESSING | {"stride": 1}
    assert loading.load_weights(model, path, preprocessing=fed).notes == []
    assert loading.load_weights(model, path, preprocessing=fed | {"stride": 4}).notes == [
        "note: stride is 4 here, 1 where it was trained"
    ]
    assert "data.transform.std=" in refusal(model, path, preprocessing=fed | {"std": [1, 1, 1]})


def run_of(tmp_path, classes="abc", **model):
    """A file of a run with random weights, and its network."""
    task = make_task(list(classes), **model)
    randomise(task.model)
    stored = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "epoch": 0, "global_step": 1}
    return save(stored, tmp_path / "run.ckpt"), task.model


def test_an_own_run_keeps_its_epsilon(tmp_path):
    path, source = run_of(tmp_path, norm_eps=1e-3)
    same, other = make_task("abc", norm_eps=1e-3).model, make_task("abc").model
    assert loading.load_weights(same, path).notes == []
    assert same_states(same.state_dict(), source.state_dict())
    assert loading.load_weights(other, path).notes == ["note: model.norm_eps is 1e-05 here, 0.001 where it was trained"]
    x = clips(2, 3, 4, 32, 32)
    torch.testing.assert_close(logits(other, x), logits(source, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("trained", "here", "note"),
    [
        ({"stem": "pool"}, {"stem": "nopool"}, "model.stem is nopool here, pool where it was trained"),
        ({"name": "f_r2d_18", "shift": 4}, {"name": "f_r2d_18"}, "model.shift is null here, 4 where"),
        ({"name": "r3d_50"}, {"name": "r3d_50", "stride_in": "conv1"}, "model.stride_in is conv1 here, conv2 where"),
        (
            {"name": "f_r2d_18", "shift": 4, "causal": True},
            {"name": "f_r2d_18", "shift": 4},
            "model.causal is False here, True where",
        ),
        ({"name": "f_r2d_18", "stage_pool": True}, {"name": "f_r2d_18"}, "model.stage_pool is False here, True where"),
        ({"pool": "max"}, {}, "model.pool is mean here, max where"),
        ({"control": "no_relu"}, {}, "model.control is null here, no_relu where"),
        ({}, {"control": "dropout", "shortcut": "A"}, None),
        ({}, {"dropout": 0.5, "drop_path": 0.1}, None),
    ],
    ids=str,
)
def test_networks_that_differ_without_a_parameter_are_noted(tmp_path, trained, here, note):
    path, _ = run_of(tmp_path, **trained)
    if "control" in here:
        path, _ = run_of(tmp_path, **here)
    report = loading.load_weights(make_task("abc", **here).model, path)
    assert [note in line for line in report.notes] == [True] * (note is not None)
    assert note is None or note in str(report)


def test_another_pytorchvideo_network_with_the_same_tensors_is_noted(tmp_path):
    path = tmp_path / "run.ckpt"
    data = {"transform": {"mean": [0.0] * 3, "std": [1.0] * 3}, "clip": {}}
    known = {"config": {"model": {"name": "pytorchvideo/x3d_xs"}, "data": data}, "classes": ["a", "b"]}
    state = {f"model.{k}": v for k, v in create_model("pytorchvideo/x3d_xs", 2).state_dict().items()}
    save({"state_dict": state, "hyper_parameters": known, "epoch": 0, "global_step": 1}, path)
    notes = loading.load_weights(create_model("pytorchvideo/x3d_s", 2), path).notes
    assert notes == ["note: model.name is pytorchvideo/x3d_s here, pytorchvideo/x3d_xs where it was trained"]


def test_inflation_into_another_stem_is_noted(tmp_path):
    path = save(create_model("f_r2d_18", 7).state_dict(), tmp_path / "flat.pth")
    notes = [
        loading.load_weights(create_model("r3d_18", 7, stem=stem), f"torchvision:{path}", inflate="mean").notes
        for stem in ("nopool", "pool")
    ]
    assert notes == [["note: model.stem is nopool here, pool where it was trained"], []]


@pytest.mark.parametrize("pool", ["attention", "lstm", "conv"])
def test_a_pooling_of_logits_is_new_with_the_classifier(tmp_path, pool):
    path, _ = run_of(tmp_path, pool=pool, consensus="logits")
    model = make_task(["x", "y"], pool=pool, consensus="logits").model
    report = loading.load_weights(model, path, ["x", "y"])
    assert report.new == [key for key in model.state_dict() if key.startswith(("fc.", "pool."))]
    assert sorted(report.unused) == sorted(report.new)


def test_a_pooling_of_features_is_kept_with_a_new_classifier(tmp_path):
    path, source = run_of(tmp_path, pool="attention")
    model = make_task(["x", "y"], pool="attention").model
    assert loading.load_weights(model, path, ["x", "y"]).new == ["fc.weight", "fc.bias"]
    assert same_states(model.pool.state_dict(), source.pool.state_dict())


def test_the_inner_width_that_fits_is_said(tmp_path):
    small = {"layers": [2, 1], "width": 16}
    path = save(create_model("r2plus1d_18", 7, **small).state_dict(), tmp_path / "theirs.pth")
    assert refusal(create_model("r2plus1d_18", 7, mid="paper", **small), f"torchvision:{path}").endswith(
        "it fits with model.mid=torchvision"
    )
    assert "it fits" not in refusal(create_model("r2plus1d_18", 7, layers=[1, 1], width=16), f"torchvision:{path}")


def test_a_run_needs_no_prefix(run):
    path, _ = run
    assert f"leave out the prefix, model.weights={path}" in refusal(make_task("abc").model, f"torchvision:{path}")


# A run that starts from another


def train(root, folder, **model):
    if not root.exists():
        write_folder(root, parts={"train": 2, "val": 1, "test": 1})
    data = {"name": "tiny", "format": "folder", "root": str(root)}
    data |= {"clip": {"frames": 4}, "transform": {"short_side": 32, "crop": 32}, "batch_size": 2, "workers": 0}
    values = {
        **{"data": data, "run": {"dir": str(folder), "resume": "auto"}, "trainer": {"accelerator": "cpu"}},
        **{"model": {"name": "r3d_18", **TINY, **model}, "train": {"epochs": 1, "lr": 1e-3}, "test": {"clips": 1}},
    }
    assert experiment.train(parse.build_config(values, "test"), "test.yaml") == 0


def test_a_run_starts_from_the_weights_of_another_and_continues_without_them(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    train(tmp_path / "data", first)
    start = first / "checkpoints" / "last.ckpt"
    train(tmp_path / "data", second, weights=str(start))
    record = json.loads((second / "env.json").read_text())["weights"]
    assert record["source"] == str(start)
    assert (record["new"], record["unused"]) == ([], [])
    assert f"weights {record['loaded']} tensors of {start}" in capsys.readouterr().out
    start.unlink()
    train(tmp_path / "data", second, weights=str(start))  # finished: tests again, from its own checkpoint
    with pytest.raises(UserError, match="there is no checkpoint"):
        train(tmp_path / "data", tmp_path / "third", weights=str(start))
    assert not (tmp_path / "third").exists()
