"""From a run to its pruned network: a file, and an ordinary run that trains on from it."""

import json

import pytest
import torch
import yaml
from helpers.commands import assert_same_weights, forked, read_result, result, succeeded
from helpers.training import Watch, differing, fit, make_config, state

import videores
from videores.compress import pruned_run
from videores.compress.pruned_run import Pruning
from videores.errors import UserError
from videores.models.weights import safe_load
from videores.models.weights.safetensors import read_safetensors

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

RUN = "runs/tiny"
PRUNE = ("compress.py", "prune", "--run", RUN, "--ratio", "0.5")


@pytest.fixture(scope="module")
def pruned(trained):
    """(place, processes): runs/half, of which another process resumed a copy, and runs/zeros.safetensors."""
    place, _ = trained
    on = ("train.epochs=2", "train.warmup=0")
    interrupted = (*PRUNE, "--out", "runs/resumed", *on, "run.checkpoint_steps=1", "run.resume=auto")
    cases = [
        (*PRUNE, "--out", "runs/half", *on, "run.checkpoint_steps=1"),
        (*PRUNE, "--scope", "weights", "--no-train", "--out", "runs/zeros"),
        (*PRUNE, "--steps", "2", "--out", "runs/steps", "train.epochs=1", "train.warmup=0"),
        interrupted,
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
        ("evaluate.py", "--run", "runs/half"),
        ("export.py", "--run", "runs/half"),
        ("evaluate.py", "--run", "runs/half/weights.safetensors"),
        ("train.py", "--cfg", "runs/half/config.yaml", "run.dir=runs/half", "run.resume=auto"),
        ("train.py", "--cfg", "runs/half/config.yaml", "run.dir=runs/taught", "model.widths=null",
         "model.weights=null", "train.distill.teacher=runs/half", "train.epochs=1"),
    ]  # fmt: skip
    codes = [process.returncode for process in forked(cases, place)]
    assert codes == [0, 0, 0, 0, 0]
    path = place / "runs/half/weights.safetensors.results/test"
    assert (read_result(next(path.iterdir()))[1]["logits"] == result(place / "runs/half")[1]["logits"]).all()


def test_the_file_says_its_plan_and_where_it_is_from(pruned):
    place, _ = pruned
    _, about = read_safetensors(place / "runs/half.safetensors")
    assert about["pruning"]["source"] == RUN
    assert about["pruning"]["ratio"] == 0.5
    assert about["model"]["widths"] == about["config"]["model"]["widths"] != {}


def test_a_pruned_run_is_the_same_each_time(pruned):
    place, _ = pruned
    assert_same_weights(place / "runs/half", place / "runs/resumed")


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
        pruned_run.check_pruning(cfg, Pruning(0.5, importance="bn" if key == "--importance" else "magnitude"), network)


@pytest.mark.parametrize("text", ["1", "-0.1", "half", "layer1=1.5", "layer1=", "nan"])
def test_ratios_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="--ratio"):
        pruned_run.parse_ratio(text)
