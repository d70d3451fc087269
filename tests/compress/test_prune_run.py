"""From a run to its pruned network: a file, and an ordinary run that trains on from it."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from helpers.commands import assert_same_weights, forked, read_result, result, succeeded
from helpers.training import Watch, differing, fit, make_config, state

import videores
from videores import run
from videores.compress import pruned_run
from videores.compress.pruning import Pruning, check_pruning, parse_ratio
from videores.errors import SignalInterrupt, UserError
from videores.models.weights import safe_load
from videores.models.weights.safetensors import read_safetensors
from videores.training.module import VideoClassifier

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

RUN = "runs/tiny"
PRUNE = ("compress.py", "prune", "--run", RUN, "--ratio", "0.5")
TRAINED_ON = ("train.epochs=2", "train.warmup=0", "run.checkpoint_steps=1")


@pytest.fixture(scope="module")
def pruned(trained):
    """(place, processes): runs/half, runs/zeros.safetensors, and runs/steps, which was pruned twice."""
    place, _ = trained
    cases = [
        (*PRUNE, "--out", "runs/half", *TRAINED_ON),
        (*PRUNE, "--scope", "weights", "--no-train", "--out", "runs/zeros"),
        (*PRUNE, "--steps", "2", "--out", "runs/steps", "train.epochs=1", "train.warmup=0", "test.clips=1"),
    ]
    return place, [succeeded(process) for process in forked(cases, place)]


def test_the_run_of_a_pruned_network_is_as_any_other(pruned, monkeypatch):
    place, (process, *_) = pruned
    monkeypatch.chdir(place)
    config = yaml.safe_load((place / "runs/half/config.yaml").read_text())
    assert config["model"]["widths"] == {"stem.0": 4, "layer1.0.conv1.0": 4, "layer1.0.conv2.0": 4}
    assert config["model"]["weights"] == "runs/half.safetensors"
    assert "runs/half.safetensors" in json.loads((place / "runs/half/env.json").read_text())["weights"]["source"]
    assert "parameters" in process.stdout
    cases = [
        ("export.py", "--run", "runs/half"),
        ("evaluate.py", "--run", "runs/half/weights.safetensors"),
        ("train.py", "--cfg", "runs/half/config.yaml", "run.dir=runs/half", "run.resume=auto"),
        ("train.py", "--cfg", "runs/half/config.yaml", "run.dir=runs/taught", "model.widths=null",
         "model.weights=null", "train.distill.teacher=runs/half", "train.epochs=1"),
    ]  # fmt: skip
    codes = [process.returncode for process in forked(cases, place)]
    assert codes == [0, 0, 0, 0]
    path = place / "runs/half/weights.safetensors.results/test"
    assert (read_result(next(path.iterdir()))[1]["logits"] == result(place / "runs/half")[1]["logits"]).all()


def test_the_file_says_its_plan_and_where_it_is_from(pruned):
    place, _ = pruned
    _, about = read_safetensors(place / "runs/half.safetensors")
    assert about["pruning"]["source"] == RUN
    assert about["pruning"]["ratio"] == 0.5
    assert about["model"]["widths"] == about["config"]["model"]["widths"] != {}


def test_every_tool_takes_a_pruned_run(pruned):
    place, _ = pruned
    cases = {
        "predict": ("predict.py", "runs/half", "data/test/00.mp4"),
        "explain": ("explain.py", "runs/half", "data/test/00.mp4", "--layer", "layer1.0.conv1"),
        "features": ("features.py", "runs/half", "--no-picture", "--out", "features"),
        "onnx": ("export.py", "--run", "runs/half", "--format", "onnx"),
        "hub": ("export.py", "--run", "runs/half", "--format", "hub", "--out", "hub"),
        "from the hub": ("predict.py", "hub", "data/test/00.mp4"),
    }
    processes = dict(zip(cases, map(succeeded, forked(list(cases.values()), place)), strict=True))
    assert processes["from the hub"].stdout == processes["predict"].stdout
    model, graph = (videores.load(place / path).model for path in ("runs/half", "runs/half/network.onnx"))
    clips_BCTHW = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(graph(clips_BCTHW), model(clips_BCTHW).detach(), rtol=0, atol=1e-4)
    assert (place / "runs/half/report.html").exists()  # of explain.py
    features = json.loads((place / "features/features.json").read_text())
    assert features["dimensions"] == model.fc.in_features == 4


def test_a_pruning_that_was_stopped_goes_on_to_the_same_run(pruned, monkeypatch):
    place, _ = pruned
    monkeypatch.chdir(place)
    overrides = (*TRAINED_ON, "run.resume=auto")
    (step,) = pruned_run.plan_run(Path(RUN), Path("runs/resumed"), Pruning(0.5), overrides)
    cfg = pruned_run.make_finetuning(step, pruned_run.write_pruned(step), overrides)
    with monkeypatch.context() as patch:
        steps, training_step = [], VideoClassifier.training_step

        def stop_at_third(*args):
            steps.append(1)
            if len(steps) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return training_step(*args)

        patch.setattr(VideoClassifier, "training_step", stop_at_third)
        with pytest.raises(SignalInterrupt):
            run.train(cfg, "resumed")
    (process,) = forked([(*PRUNE, "--out", "runs/resumed", *overrides)], place)
    succeeded(process)
    starts = json.loads((place / "runs/resumed/env.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 3]
    assert_same_weights(place / "runs/half", place / "runs/resumed")


@pytest.mark.parametrize(
    ("folder", "source", "out"),
    [
        (".", "runs/tiny", "runs/tiny-pruned-50"),
        (".", "runs/tiny/checkpoints/best.ckpt", "runs/tiny-pruned-50"),
        ("runs", "half.safetensors", "half-pruned-50"),
    ],
)
def test_the_result_lies_beside_the_run(pruned, monkeypatch, folder, source, out):
    monkeypatch.chdir(pruned[0] / folder)
    (step,) = pruned_run.plan_run(Path(source), None, Pruning(0.5))
    assert (step.folder, step.path) == (Path(out), Path(f"{out}.safetensors"))


def test_a_run_is_named_from_within_its_folder(trained, monkeypatch):
    monkeypatch.chdir(trained[0] / RUN)
    (step,) = pruned_run.plan_run(Path("."), None, Pruning({"layer1": 0.5}))
    assert step.folder == trained[0].resolve() / "runs/tiny-pruned-layer1-50"


def test_the_file_that_a_run_started_from_is_not_replaced(pruned, monkeypatch):
    place, _ = pruned
    monkeypatch.chdir(place)
    before = (place / "runs/half.safetensors").read_bytes()
    other = lambda *overrides: pruned_run.plan_run(Path(RUN), Path("runs/half"), Pruning(0.25), overrides)
    with pytest.raises(UserError, match=r"runs/half\.safetensors.*--out"):
        pruned_run.write_pruned(other("run.resume=auto")[0])
    (same,) = pruned_run.plan_run(place / RUN, place / "runs/half", Pruning(0.5))
    pruned_run.write_pruned(same._replace(source=Path(RUN)))
    assert (place / "runs/half.safetensors").read_bytes() == before
    assert other("run.overwrite=true")[0].overwrites


def test_steps_end_at_the_same_widths_and_start_from_the_run_before(pruned):
    place, _ = pruned
    configs = [yaml.safe_load((place / f"runs/{run}/config.yaml").read_text()) for run in ("steps-step1", "steps")]
    assert [set(config["model"]["widths"].values()) for config in configs] == [{6}, {4}]
    assert read_safetensors(place / "runs/steps.safetensors")[1]["pruning"]["source"] == "runs/steps-step1"


def test_ratio_0_gives_equal_logits(trained, monkeypatch):
    place, _ = trained
    monkeypatch.chdir(place)
    for scope in ("layer", "network"):
        (step,) = pruned_run.plan_run(place / RUN, place / "runs" / f"all-{scope}", Pruning(0.0, scope))
        report = pruned_run.write_pruned(step)
        clip = torch.randn(2, 3, 8, 32, 32)
        ours, theirs = videores.load(report.path).model, videores.load(RUN).model
        assert torch.equal(ours(clip), theirs(clip))
        assert report.widths == {}


def test_single_weights_are_zero_and_stay_zero(pruned, root, tmp_path):
    weights, about = read_safetensors(pruned[0] / "runs/zeros.safetensors")
    kernels = [value for value in weights.values() if value.ndim == 5]
    zeros, count = sum(int((k == 0).sum()) for k in kernels), sum(k.numel() for k in kernels)
    assert zeros == about["pruning"]["zeros"] == round(count / 2)


def test_zeros_stay_zero_in_training_and_over_a_resume(root, tmp_path):
    def start(epochs, keep=True, **more):
        train = {"epochs": epochs, "keep_zeros": keep, "weight_decay": 0.1, "momentum": 0.9, "lr": 0.02}
        cfg = make_config(root, train=train)
        from helpers.training import make_task

        task = make_task(cfg)
        with torch.no_grad():
            task.model.stem[0].weight[:, 1] = 0
        return fit(cfg, task=task, **more)

    class Save(Watch):
        def on_train_epoch_end(self, trainer, module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    whole, _, _ = start(3, watch=Save())
    assert not whole.model.stem[0].weight[:, 1].any()
    assert whole.model.stem[0].weight[:, 0].all()
    resumed, _, _ = start(3, start=tmp_path / "0.ckpt")
    assert differing(state(whole), state(resumed)) == []
    assert start(1, keep=False)[0].model.stem[0].weight[:, 1].all()


def test_a_pruned_checkpoint_without_its_plan_is_refused(pruned, monkeypatch, tmp_path):
    place, _ = pruned
    monkeypatch.chdir(place)
    stored = safe_load.read_checkpoint(place / "runs/half/checkpoints/last.ckpt")
    stored["hyper_parameters"]["config"]["model"]["widths"] = None
    torch.save(stored, tmp_path / "planless.ckpt")
    with pytest.raises(UserError, match=r"model\.widths"):
        videores.load(tmp_path / "planless.ckpt")
    case = ("train.py", "--cfg", "tiny.yaml", "run.name=wide", "model.weights=runs/half.safetensors")
    (process,) = forked([case], place)
    assert process.returncode == 2
    assert "model.widths" in process.stderr


@pytest.mark.parametrize(
    ("pruning", "overrides", "named"),
    [
        (Pruning(0.5), ["train.freeze=[stem]"], "train.freeze"),
        (Pruning(0.5), ["train.freeze_bn=true"], "train.freeze_bn"),
        (Pruning(0.95), [], "stem.0"),
        (Pruning({"layer1": 0.5}, "network"), [], "--scope"),
        (Pruning(0.5, "weights", "bn"), [], "--importance"),
        (Pruning({"layer7": 0.5}), [], "layer7"),
        (Pruning(0.5, steps=2), [], "--steps"),
    ],
)
def test_what_cannot_be_pruned_is_refused(trained, monkeypatch, pruning, overrides, named):
    monkeypatch.chdir(trained[0])
    with pytest.raises(UserError, match=named):
        pruned_run.plan_run(trained[0] / RUN, None, pruning, overrides, trains=pruning.steps == 1)


@pytest.mark.parametrize(
    ("name", "model", "key"),
    [
        ("cifar3d_20", {}, "shortcut"),
        ("f_r2d_18", {"shift": 4}, "shift"),
        ("r3d_18", {"pool": "lstm"}, "pool"),
        ("r3d_18", {"norm": "frozen"}, "norm"),
        ("r3d_18", {"norm": "group"}, "--importance"),
    ],
)
def test_networks_that_cannot_be_followed_are_refused(name, model, key):
    values = {"name": name, "layers": [1], "width": 8, **model}
    cfg = make_config("data", model=values)
    network = videores.models.create_model(cfg.model.name, 2, **cfg.model.overrides())
    with pytest.raises(UserError, match=key):
        check_pruning(cfg, Pruning(0.5, importance="bn" if key == "--importance" else "magnitude"), network)


@pytest.mark.parametrize("text", ["1", "-0.1", "half", "layer1=1.5", "layer1=", "nan"])
def test_ratios_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="--ratio"):
        parse_ratio(text)
