"""The optimizer: what decays, and the learning rate at each step, against torch's own schedules."""

import math

import pytest
import torch
from torch import nn

from videores import config, optim
from videores.models import MODELS, create_model

NAMES = [name for name in MODELS if not name.endswith(("_110", "_1202"))]  # as cifar2d_20, and slow to build
NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def recipe(**values):
    return config.TrainConfig(**{"epochs": 10, **values})


def rates(train, steps_per_epoch):
    return [optim.lr_factor(step, steps_per_epoch, train) for step in range(train.epochs * steps_per_epoch)]


def torchs_rates(make, steps, lr=1.0):
    """The learning rates that one of torch's schedulers uses at its steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"] / lr)
        optimizer.step()
        schedule.step()
    return found


# What decays


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_and_the_head_decay_norms_and_biases_do_not(name):
    with torch.device("meta"):
        model = create_model(name, 11, **({"frames": 8} if name == "r2d_18" else {}))
    decayed, plain = optim.parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    norms = [m for m in model.modules() if isinstance(m, NORM_TYPES)]
    assert len(norms) == len(convolutions) > 10
    assert {id(p) for p in decayed["params"]} == {id(m.weight) for m in [*convolutions, model.fc]}
    assert {id(p) for p in plain["params"]} == {id(p) for m in norms for p in (m.weight, m.bias)} | {id(model.fc.bias)}


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_group_once(name):
    with torch.device("meta"):
        model = create_model(name, 11, **({"frames": 8} if name == "r2d_18" else {}))
    found = [id(p) for group in optim.parameter_groups(model, 0.05) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters())


def test_a_norm_is_told_by_its_type_not_by_its_shape_or_name():
    model = nn.ModuleDict({"conv": nn.GroupNorm(1, 4), "bn": nn.Conv1d(4, 4, 1), "layer": nn.LayerNorm(4)})
    decayed, plain = optim.parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(4, 4, 1)]
    assert len(plain["params"]) == 5


def test_frozen_parameters_are_in_no_group():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert sum(len(group["params"]) for group in optim.parameter_groups(model, 0.1)) == 2


def test_decay_moves_weights_and_leaves_norms_where_they_are():
    model = create_model("r3d_18", 3, layers=[1], width=4, stem="small")
    optimizer = optim.make_optimizer(model, recipe(optimizer="adamw", weight_decay=0.5), lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    shrunk = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert shrunk == {name for name, p in model.named_parameters() if p.ndim > 1}
    torch.testing.assert_close(model.fc.weight, before["fc.weight"] * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizer_is_torchs_with_the_recipes_values(name, kind):
    optimizer = optim.make_optimizer(nn.Linear(2, 2), recipe(optimizer=name, momentum=0.8, weight_decay=0.3), 0.7)
    assert type(optimizer) is kind
    assert [group["lr"] for group in optimizer.param_groups] == [0.7, 0.7]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    if name == "sgd":
        assert optimizer.param_groups[0]["momentum"] == 0.8


# The rate


def test_rate_is_linear_in_the_batch_where_a_base_is_given():
    assert optim.scaled_lr(recipe(lr=0.01, base_batch=32), 256) == pytest.approx(0.08)
    assert optim.scaled_lr(recipe(lr=0.01, base_batch=32), 8) == pytest.approx(0.0025)
    assert optim.scaled_lr(recipe(lr=0.01), 256) == 0.01


def test_constant_is_one_throughout():
    assert set(rates(recipe(schedule="constant"), 5)) == {1.0}


def test_cosine_equals_torchs():
    theirs = torchs_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=70), 70)
    assert rates(recipe(schedule="cosine"), 7) == pytest.approx(theirs, abs=1e-9)


def test_cosine_ends_almost_at_zero_and_falls_all_the_way():
    found = rates(recipe(schedule="cosine"), 100)
    assert found[0] == 1
    assert 0 < found[-1] < 1e-4
    assert found == sorted(found, reverse=True)


def test_warm_up_is_linear_and_meets_the_schedule():
    found = rates(recipe(schedule="cosine", warmup=2), 5)
    assert found[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert found[10] == 1  # the first step after the warm-up
    assert found[10:] == pytest.approx([(1 + math.cos(math.pi * i / 40)) / 2 for i in range(40)])


def test_warm_up_may_be_a_part_of_an_epoch():
    found = rates(recipe(schedule="constant", warmup=0.5), 6)
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_step_falls_at_its_milestones():
    found = rates(recipe(schedule="step", milestones=[4, 6.5], gamma=0.1), 10)
    theirs = torchs_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [40, 65], gamma=0.1), 100)
    assert found == pytest.approx(theirs)
    assert [found[i] for i in (39, 40, 64, 65, 99)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_step_after_a_warm_up():
    found = rates(recipe(schedule="step", milestones=[4], warmup=1), 10)
    assert found[0] == pytest.approx(1 / 11)
    assert found[10:41:10] == pytest.approx([1, 1, 1, 0.1])


@pytest.mark.parametrize("warmup", [1, 3, 5.5])
def test_onecycle_equals_torchs(warmup):
    total, rise = 100, round(warmup * 10)
    make = lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o, 1.0, total_steps=total, pct_start=(rise + 1) / total, div_factor=25, final_div_factor=4000
    )
    assert rates(recipe(schedule="onecycle", warmup=warmup), 10) == pytest.approx(torchs_rates(make, total), abs=1e-9)


def test_onecycle_starts_low_peaks_at_the_end_of_its_rise_and_ends_lower():
    found = rates(recipe(schedule="onecycle", warmup=3), 10)
    assert found[0] == pytest.approx(0.04)
    assert max(found) == found[30] == 1
    assert found[-1] == pytest.approx(1e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
@pytest.mark.parametrize("warmup", [0, 0.5])
def test_a_run_of_one_step_has_a_rate(schedule, warmup):
    (rate,) = rates(recipe(epochs=1, schedule=schedule, warmup=warmup), 1)
    assert 0 < rate <= 1


def test_a_resumed_optimizer_has_the_rate_of_its_step():
    train = recipe(schedule="cosine", warmup=2)
    make = lambda: torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    first = make()
    schedule = torch.optim.lr_scheduler.LambdaLR(first, lambda step: optim.lr_factor(step, 5, train))
    for _ in range(17):
        first.step()
        schedule.step()
    again = torch.optim.lr_scheduler.LambdaLR(make(), lambda step: optim.lr_factor(step, 5, train))
    again.load_state_dict(schedule.state_dict())
    assert again.get_last_lr() == schedule.get_last_lr() == [0.3 * optim.lr_factor(17, 5, train)]


def test_biases_of_an_lstm_and_scales_of_skipinit_do_not_decay():
    model = create_model("r3d_18", 5, layers=[1, 1], width=8, pool="lstm", norm="none")
    plain = {id(p) for p in optim.parameter_groups(model, 0.05)[1]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in plain}
    assert {"pool.lstm.bias_ih_l0", "pool.lstm.bias_hh_l0", "layer1.0.scale", "fc.bias"} <= names
    assert not any("weight" in name for name in names)
