"""What is watched on request: it is what it says, training does not notice, and every sink gets the same rows."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.commands import assert_same_weights, succeeded, tool, write_config, write_data
from helpers.training import Watch as Look
from helpers.training import fit, make_config, make_task, state

from videores import run
from videores.config import parse
from videores.config.schema import WatchConfig
from videores.errors import UserError
from videores.models.parts import split_into_parts
from videores.models.registry import create_model
from videores.reporting import plots
from videores.training.callbacks import loggers
from videores.training.callbacks.watch import Watch, compute_activation_statistics, compute_gradient_norms

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

ALL = WatchConfig(gradients=True, activations=True)
PARTS = {"stem", "layer1", "fc"}


def watched(cfg, watch, every=1, name="fp32"):
    """Trains with the callback beside. Returns the task and [values at the end of each step]."""
    rows = []

    class Both(Watch):
        def on_train_batch_end(self, *args):
            super().on_train_batch_end(*args)
            rows.append(dict(self.values))

    both = Both(watch, every)
    both.losses = both.seen = None
    task, *_ = fit(cfg, both, name)
    return task, rows


# -- gradients --------------------------------------------------------------------------------------------------------


def test_the_norm_is_that_of_the_step_that_the_weights_take(root):
    """Plain gradient descent with the rate 1: what the weights of a part lose in a step is its gradient."""
    plain = {"optimizer": "sgd", "lr": 1.0, "momentum": 0, "weight_decay": 0, "schedule": "constant", "epochs": 1}
    cfg = make_config(root, train=plain)
    before = state(make_task(cfg))
    task, (row,) = watched(cfg, WatchConfig(gradients=True))
    after = task.state_dict()
    assert set(row) == {f"grad_norm/{name}" for name in PARTS}
    for part in PARTS:
        lost = [before[k] - after[k] for k, _ in task.named_parameters() if k.startswith(f"model.{part}.")]
        expected = np.sqrt(sum(float((one.double() ** 2).sum()) for one in lost))
        assert expected > 0
        assert row[f"grad_norm/{part}"] == pytest.approx(expected, rel=1e-3)


def test_frozen_parts_have_no_norm(root):
    _, (row, _) = watched(make_config(root, train={"freeze": ["stem"]}), WatchConfig(gradients=True))
    assert set(row) == {"grad_norm/layer1", "grad_norm/fc"}


@pytest.mark.parametrize("name", ["f_r2d_18", "r3d_18", "cifar2d_20"])
def test_the_parts_norms_make_up_the_whole_gradient(name):
    overrides = {} if name.startswith("cifar") else {"layers": (1, 1), "width": 8}
    model = create_model(name, 3, **overrides)
    model(torch.randn(2, 3, 4, 32, 32)).square().sum().backward()
    norms = compute_gradient_norms(model)
    assert {"stem", "layer1", "fc"} <= set(norms)
    whole = sum(float((p.grad.double() ** 2).sum()) for p in model.parameters())
    assert sum(norm**2 for norm in norms.values()) == pytest.approx(whole, rel=1e-5)


# -- activations ------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_the_numbers():
    found = compute_activation_statistics(torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    assert found == {"activation_mean": 1.0, "activation_std": pytest.approx(1.5**0.5), "activation_zeros": 0.5}
    assert compute_activation_statistics([torch.zeros(3, 2), torch.ones(2)])["activation_mean"] == 0.25


def test_activations_are_those_that_a_look_from_outside_sees(root):
    cfg, seen = make_config(root, train={"epochs": 1}, model={"norm": "group"}), {}

    class See(Look):
        def on_train_batch_start(self, trainer, module, *args):
            module.model.layer1.register_forward_hook(lambda m, i, output: seen.update(layer1=output.detach().clone()))

    fit(cfg, See())
    _, (row,) = watched(cfg, WatchConfig(activations=True))
    x = seen["layer1"]
    assert row["activation_mean/layer1"] == pytest.approx(float(x.mean()), rel=1e-5)
    assert row["activation_std/layer1"] == pytest.approx(float(x.var(correction=0).sqrt()), rel=1e-5)
    assert row["activation_zeros/layer1"] == pytest.approx(float((x == 0).sum()) / x.numel())
    assert 0 < row["activation_zeros/layer1"] < 1
    names = {f"activation_{what}/{part}" for what in ("mean", "std", "zeros") for part in PARTS}
    assert set(row) == names


def test_hooks_are_there_on_logged_steps_alone_and_gone_at_the_end(root):
    hooks = []

    class Count(Watch):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            super().on_before_optimizer_step(trainer, module, optimizer)
            hooks.append(sum(len(m._forward_hooks) for m in module.model.modules()))

    cfg = make_config(root, data={"batch_size": 2}, train={"epochs": 2})
    count = Count(ALL, 3)
    task, *_ = fit(cfg, count)
    assert hooks == [0, 0, 3, 0, 0, 3, 0, 0]
    assert sum(len(m._forward_hooks) for m in task.model.modules()) == 0


def test_hooks_are_gone_after_a_step_that_failed(root):
    class Fail(Watch):
        def on_before_optimizer_step(self, *args):
            raise RuntimeError("midway")

    fail = Fail(ALL, 1)
    with pytest.raises(RuntimeError, match="midway"):
        fit(make_config(root), fail)
    assert fail.hooks == []


@pytest.mark.parametrize("name", ["pytorchvideo/slowfast_r50", "r2plus1d_18"])
def test_parts_of_other_networks_put_out_what_can_be_watched(name):
    small = {} if "/" in name else {"layers": (1,), "width": 8, "pool": "attention"}
    model, found = create_model(name, 3, **small).eval(), {}
    for part, modules in split_into_parts(model).items():
        modules[-1].register_forward_hook(
            lambda m, i, output, part=part: found.update({part: compute_activation_statistics(output)})
        )
    with torch.no_grad():
        model(torch.randn(1, 3, 8, 64, 64))
    assert set(found) == set(split_into_parts(model))
    assert all(np.isfinite(list(one.values())).all() for one in found.values())


# -- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watch")
    write_data(folder / "data")
    write_config(folder / "tiny.yaml")
    return folder


ON = ["watch.gradients=true", "watch.activations=true", "watch.tensorboard=true"]


@pytest.fixture(scope="module")
def runs(place):
    """name -> run folder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for folder, overrides in (("plain", []), ("watched", ON), ("watched", [*ON, "run.resume=auto"])):
            cfg = parse.load_config("tiny.yaml", [f"run.dir={folder}", *overrides])
            assert run.train(cfg, "tiny.yaml") == 0
    torch.set_num_threads(threads)
    return {name: place / name for name in ("plain", "watched")}


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_does_not_notice_that_it_is_watched_and_rows_have_what_was_asked_for(runs):
    assert_same_weights(runs["plain"], runs["watched"])
    watched, plain = ([row for row in rows_of(runs[name]) if "train/loss" in row] for name in ("watched", "plain"))
    names = {f"{what}/{part}" for what in ("grad_norm", "activation_std") for part in PARTS}
    assert all(names < set(row) for row in watched)
    assert not any("grad_norm" in key or "activation" in key for row in plain for key in row)
    assert not (runs["plain"] / "tensorboard").exists()


def test_tensorboard_has_the_rows_of_metrics_jsonl_once_each(runs):
    """After a resume too, which found nothing left to train."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(runs["watched"] / "tensorboard")).Reload()
    for name in events.Tags()["scalars"]:
        expected = [(row["step"], row[name]) for row in rows_of(runs["watched"]) if row.get(name) is not None]
        got = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in got] == [step for step, _ in expected]
        np.testing.assert_allclose([v for _, v in got], [v for _, v in expected], rtol=1e-6)
    logged = {name for row in rows_of(runs["watched"]) for name in row} - {"step"}
    assert set(events.Tags()["scalars"]) == logged


def test_metrics_csv_has_the_rows_of_metrics_jsonl(runs):
    with plots.write_metrics_csv(runs["watched"]).open(newline="") as file:
        table = list(csv.DictReader(file))
    for got, row in zip(table, rows_of(runs["watched"]), strict=True):
        assert {name: json.loads(value) for name, value in got.items() if value} == {
            name: value for name, value in row.items() if value is not None
        }


@pytest.mark.slow
def test_two_ranks_have_the_gradient_of_one_with_their_whole_batch(place):
    """They take the same step: no statistics of a rank's batch, no dropout."""
    steady = ["model.norm=group", "model.dropout=0", "trainer.precision=fp32", "train.epochs=1", "watch.gradients=true"]
    command = ("train.py", "--cfg", "tiny.yaml", *steady)
    succeeded(tool(*command, "run.dir=one", cwd=place))
    succeeded(tool(*command, "data.batch_size=2", "trainer.devices=2", "run.dir=two", cwd=place))
    one, two = (next(row for row in rows_of(place / name) if "grad_norm/fc" in row) for name in ("one", "two"))
    for part in PARTS:
        assert two[f"grad_norm/{part}"] == pytest.approx(one[f"grad_norm/{part}"], rel=1e-3)


def test_a_library_that_is_not_installed_is_named_with_the_command():
    with pytest.raises(UserError, match=r"watch\.x .*pip install videores-none"):
        loggers.check_package_installed("videores-none", "watch.x")


def test_curves_have_a_panel_for_what_was_watched():
    row = {"step": 1, "train/loss": 1.0, "grad_norm/stem": 0.5, "grad_norm/fc": 2.0, "activation_std/fc": 1.0}
    figure = plots.build_curves([row, {**row, "step": 2}])
    lines = {axes.get_title(): [line.get_label() for line in axes.lines] for axes in figure.axes}
    plots.plt.close(figure)
    assert lines["norm of the gradient"] == ["stem", "fc"]
    assert lines["standard deviation of activations"] == ["fc"]
