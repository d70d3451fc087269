"""What training is computed in: choices and refusals, the fast setting that is found by measuring, and that what is
wrong is not taken."""

import json

import numpy as np
import pytest
import torch
from helpers.checkpoints import make_task
from helpers.commands import assert_same_weights, forked, result, succeeded, write_config, write_data
from torch import nn

from videores.compute import autotune, gradient_check, precision
from videores.compute.precision import PrecisionSetting
from videores.config.schema import TrainerConfig
from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.weights import safe_load
from videores.training import trainer
from videores.training.callbacks.metrics_log import read_metrics_log

CPU = torch.device("cpu")
FP32 = PrecisionSetting("fp32", False)


# Choices and refusals


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"precision": "fp16"}, "fp16 is for GPUs"),
        ({"precision": "tf32"}, "tf32 is a number format of CUDA GPUs"),
    ],
)
def test_what_a_cpu_can_not_do_is_refused_with_the_reason(section, words):
    with pytest.raises(UserError, match=words):
        trainer.check_training_device(TrainerConfig(accelerator="cpu", **section))


def test_compiling_without_a_compiler_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="C\\+\\+ compiler"):
        trainer.check_training_device(TrainerConfig(accelerator="cpu", compile=True))


def test_an_older_gpu_has_no_tf32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(UserError, match="Ampere"):
        precision.check_precision(TrainerConfig(precision="tf32"), "cuda")
    assert precision.select_setting(TrainerConfig(), "cuda") == ("fp32", False, False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    precision.check_precision(TrainerConfig(precision="tf32"), "cuda")
    assert precision.select_setting(TrainerConfig(), "cuda") == ("bf16", True, False)


def test_nothing_is_compiled_unless_asked_for():
    assert precision.select_setting(TrainerConfig(precision="fp32"), "cpu") == FP32
    assert precision.select_setting(TrainerConfig(precision="fp32", compile=True), "cpu") == PrecisionSetting(
        "fp32", False, True
    )


def test_scores_between_steps_of_tf32_are_float32():
    """A step turns TF32 on for its forward and backward pass."""
    flags = lambda: (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    task = make_task(["a", "b"])
    batch = {"clips": torch.randn(2, 1, 3, 2, 16, 16), "label": torch.tensor([0, 1])}
    for name in ("fp32", "tf32"):
        task.setting = PrecisionSetting(name, False)
        precision.set_tf32(False)
        task.training_step(batch, 0)
        assert flags() == (name == "tf32",) * 2
        task.on_after_backward()
        assert flags() == (False, False)


# Gradients


class Forgetful(nn.Conv3d):
    """Its weight gradient misses half of the clips; its output and the gradient that it passes on are right."""

    wrong_in = torch.bfloat16

    def forward(self, x):
        y = super().forward(x)
        if y.dtype != self.wrong_in:
            return y
        lost = nn.functional.conv3d(x[1:].detach(), self.weight, None, self.stride, self.padding)
        return torch.cat([y[:1], y[1:] - lost + lost.detach()])


class Overflowing(Forgetful):
    """Its gradient is inf, as the bf16 one of conv3d over two padded frames is on some CPUs."""

    def forward(self, x):
        y = nn.Conv3d.forward(self, x)
        return y + (self.weight.sum() * 0).sqrt() if y.dtype == self.wrong_in else y


def network(broken=None):
    torch.manual_seed(0)
    model = create_model("r3d_18", 4, layers=[1, 1], width=8, stem="small")
    if broken:
        old = model.layer2[0].conv2[0]
        new = broken(old.in_channels, old.out_channels, 3, old.stride, old.padding, bias=False)
        new.load_state_dict(old.state_dict())
        model.layer2[0].conv2[0] = new
    return model


def errors_of(model, setting):
    torch.manual_seed(1)
    return gradient_check.compute_layer_errors(model, torch.randn(4, 3, 4, 16, 16), torch.arange(4), setting)


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_right_layers_pass(name, channels_last):
    errors = errors_of(network(), PrecisionSetting(name, channels_last))
    assert len(errors) == 7  # stem, two of each block, a projection, the classifier
    assert max(errors.values()) < (1e-4 if name == "fp32" else gradient_check.MAX_RELATIVE_ERROR / 2)


@pytest.mark.parametrize("broken", [Forgetful, Overflowing])
def test_a_wrong_layer_is_found_and_named(broken):
    errors = errors_of(network(broken), PrecisionSetting("bf16", True))
    assert [name for name, error in errors.items() if not error < gradient_check.MAX_RELATIVE_ERROR] == [
        "layer2.0.conv2.0"
    ]


def test_looking_at_gradients_changes_no_network():
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    errors_of(model, PrecisionSetting("bf16", True))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and not p._backward_hooks for p in model.parameters())
    assert model.stem[0].weight.is_contiguous()


# Tuning


@pytest.fixture
def with_bf16(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)


def tune(model, **section):
    return autotune.select_fastest_setting(
        model, (4, 3, 4, 16, 16), 4, TrainerConfig(accelerator="cpu", **section), CPU
    )


def test_all_settings_are_measured_and_one_is_chosen(with_bf16):
    found = tune(network())
    assert [(row["precision"], row["channels_last"]) for row in found["table"]] == [
        *(("fp32", False), ("fp32", True)),
        *(("bf16", False), ("bf16", True)),
    ]
    assert all(row["wrong"] is None and row["ms"] > 0 for row in found["table"])
    times = {PrecisionSetting(row["precision"], row["channels_last"]): row["ms"] for row in found["table"]}
    chosen, usual = PrecisionSetting(**found["chosen"]), PrecisionSetting("bf16", True)
    assert chosen == usual or times[chosen] <= times[usual]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("broken", [Forgetful, Overflowing])
def test_a_format_with_wrong_gradients_is_not_even_timed(with_bf16, broken):
    found = tune(network(broken))
    assert found["chosen"]["precision"] == "fp32"
    for row in found["table"]:
        assert (row["wrong"] is None) == (row["ms"] is not None) == (row["precision"] == "fp32")
    assert "layer2.0.conv2.0" in autotune.format_table(found)


def test_what_is_asked_for_stays_and_is_refused_where_it_is_wrong(with_bf16):
    assert {row["precision"] for row in tune(network(), precision="bf16")["table"]} == {"bf16"}
    assert {row["channels_last"] for row in tune(network(), channels_last=True)["table"]} == {True}
    with pytest.raises(UserError, match=r"layer2\.0\.conv2\.0"):
        tune(network(Forgetful), precision="bf16")


def test_tuning_leaves_the_network_and_the_random_state(with_bf16):
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    tune(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_noise_does_not_choose():
    usual, other = PrecisionSetting("bf16", True), PrecisionSetting("bf16", False)
    assert autotune.pick_fastest({usual: 1.0, other: 0.97}, usual) == usual
    assert autotune.pick_fastest({usual: 1.0, other: 0.9}, usual) == other
    assert autotune.pick_fastest({other: 1.0}, usual) == other


def test_a_slow_network_is_timed_on_fewer_clips():
    assert autotune.reduce_batch(32, 0.001, 4) == 32
    assert autotune.reduce_batch(32, 5.0, 4) == 2
    clips = autotune.reduce_batch(32, 0.1, 4)
    assert 2 < clips < 32
    assert clips * 0.1 * 4 * (autotune.ROUNDS + 2) <= autotune.TIME_BUDGET


# Whole runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """name -> (process, folder): tuned; continued with another choice recorded, and with none; the choice given."""
    place = tmp_path_factory.mktemp("tuned")
    write_data(place / "data")
    write_config(place / "tiny.yaml")
    command = ("train.py", "--cfg", "tiny.yaml", "data.val=none")
    tuned = ("run.autotune=true", "run.resume=auto", "run.dir=tuned")
    first = forked([(*command, *tuned)], place)[0]
    env = json.loads((place / "tuned" / "env.json").read_text())
    forge(place / "tuned")
    more = [
        (*command, *tuned),
        (*command, "run.dir=given", *(f"trainer.{k}={str(v).lower()}" for k, v in asked(env).items())),
    ]
    again, given = forked(more, place)
    resumed = json.loads((place / "tuned" / "env.json").read_text())
    (place / "tuned" / "env.json").unlink()
    lost = forked([(*command, *tuned)], place)[0]
    processes = {"tuned": first, "again": again, "given": given, "lost": lost}
    folders = {"again": "tuned", "lost": "tuned"}
    return {name: (p, place / folders.get(name, name)) for name, p in processes.items()}, env, resumed


def asked(env):
    return {"precision": env["precision"], "channels_last": env["channels_last"]}


def forge(folder):
    """The other memory layout than the one that was chosen: a second measurement would choose as the first did."""
    env = json.loads((folder / "env.json").read_text())
    env["autotune"]["chosen"]["channels_last"] ^= True
    (folder / "env.json").write_text(json.dumps(env))


def test_the_choice_and_what_was_measured_are_recorded(runs):
    processes, env, _ = runs
    succeeded(processes["tuned"][0])
    found = env["autotune"]
    assert {name: env[name] for name in found["chosen"]} == found["chosen"]
    assert found["clips"] == 4
    assert found["seconds"] < 60
    assert all(row["ms"] > 0 for row in found["table"])
    assert "chosen" in processes["tuned"][0].stdout


def test_tuning_changes_no_result(runs):
    """A run that is given what tuning chose ends with the same weights, bit for bit."""
    processes, *_ = runs
    succeeded(processes["given"][0])
    assert_same_weights(processes["tuned"][1], processes["given"][1])


def test_a_resumed_run_measures_nothing_and_keeps_the_choice(runs):
    processes, first, resumed = runs
    succeeded(processes["again"][0])
    assert "tuning" not in processes["again"][0].stdout
    assert resumed["channels_last"] is not first["channels_last"]
    assert resumed["autotune"]["table"] == first["autotune"]["table"]


def test_a_resumed_run_does_not_guess_a_lost_choice(runs):
    process, _ = runs[0]["lost"]
    assert process.returncode == 2
    assert "run.overwrite=true" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_processes_measure_once_and_agree(tmp_path):
    write_data(tmp_path / "data")
    write_config(tmp_path / "tiny.yaml", data={"batch_size": 2, "val": "none"}, train={"epochs": 1, "warmup": 0})
    (process,) = forked([("train.py", "--cfg", "tiny.yaml", "run.autotune=true", "trainer.devices=2")], tmp_path)
    succeeded(process)
    env = json.loads((tmp_path / "runs" / "tiny" / "env.json").read_text())
    assert process.stdout.count("tuning") == 1
    assert env["world_size"] == 2
    assert env["autotune"]["clips"] == 2
    assert env["precision"] == env["autotune"]["chosen"]["precision"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Folders of a compiled run and of one that is not."""
    place = tmp_path_factory.mktemp("compiled")
    write_data(place / "data")
    write_config(place / "tiny.yaml", model={"dropout": 0.0}, train={"epochs": 1, "warmup": 0})
    command = ("train.py", "--cfg", "tiny.yaml", "data.val=none", "trainer.precision=fp32")
    names = ("true", "false")
    cases = [(*command, f"run.dir=run-{name}", f"trainer.compile={name}") for name in names]
    return [
        succeeded(process) and place / f"run-{name}" for process, name in zip(forked(cases, place), names, strict=True)
    ]


@pytest.mark.slow
def test_a_compiled_run_has_the_same_keys_and_takes_the_same_first_step(compiled):
    ours, theirs = (
        safe_load.read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in compiled
    )
    assert list(ours) == list(theirs)
    assert [json.loads((folder / "env.json").read_text())["compiled"] for folder in compiled] == [True, False]
    losses = [read_metrics_log(folder / "metrics.jsonl")[0]["train/loss"] for folder in compiled]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_a_compiled_run_is_scored_by_the_network_as_it_stands(compiled):
    """So that the scores of its checkpoint are the same in another process, which compiles nothing."""
    folder = compiled[0]
    before = result(folder)[1]["logits"]
    (process,) = forked([("evaluate.py", "--run", folder)], folder.parent)
    succeeded(process)
    np.testing.assert_array_equal(result(folder)[1]["logits"], before)


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_step_is_timed_and_checked_in_every_precision_that_autotune_offers(name, dtype):
    """tf32 is float32 to autocast; on an Ampere GPU autotune tries it."""
    with precision.autocast("cpu", name):
        assert nn.Linear(4, 4)(torch.randn(2, 4)).dtype == dtype
