"""The optimizer: what decays, and the learning rate at each step, against torch's own schedules."""

import math
from typing import get_args

import pytest
import torch
from torch import nn

from videores.config import schema
from videores.models.registry import create_model
from videores.training import optim

NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def recipe(**values):
    return schema.TrainConfig(**{"epochs": 10, **values})


def rates(train, steps_per_epoch):
    return [optim.compute_lr_factor(step, steps_per_epoch, train) for step in range(train.epochs * steps_per_epoch)]


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


@pytest.mark.parametrize(
    "name", ["r2d_18", "f_r2d_50", "mc3_18", "r2plus1d_18", "ir_csn_50", "plain3d_18", "cifar3d_20"]
)
def test_convolutions_and_the_head_decay_norms_and_biases_do_not(name):
    with torch.device("meta"):
        model = create_model(name, 11, **({"frames": 8} if name == "r2d_18" else {}))
    decayed, plain = optim.make_parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    norms = [m for m in model.modules() if isinstance(m, NORM_TYPES)]
    assert len(norms) == len(convolutions) > 10
    ids = lambda parameters: sorted(map(id, parameters))
    assert ids(decayed["params"]) == ids(m.weight for m in [*convolutions, model.fc])
    assert ids(plain["params"]) == ids([model.fc.bias, *(p for m in norms for p in (m.weight, m.bias))])


def test_a_norm_is_told_by_its_type_not_by_its_shape_or_name():
    model = nn.ModuleDict({"conv": nn.GroupNorm(1, 4), "bn": nn.Conv1d(4, 4, 1), "layer": nn.LayerNorm(4)})
    decayed, plain = optim.make_parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(4, 4, 1)]
    assert len(plain["params"]) == 5


def test_optimizer_is_torchs_with_the_recipes_values():
    for name, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        optimizer = optim.make_optimizer(nn.Linear(2, 2), recipe(optimizer=name, momentum=0.8, weight_decay=0.3), 0.7)
        assert type(optimizer) is kind
        assert [group["lr"] for group in optimizer.param_groups] == [0.7, 0.7]
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
        assert name != "sgd" or optimizer.param_groups[0]["momentum"] == 0.8


def one_step(optimizer, decay, gradient=1.0):
    """Where a weight of 2 is after one step with a rate of 0.1."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    step = optim.make_optimizer(layer, recipe(optimizer=optimizer, weight_decay=decay), 0.1)
    layer.weight.grad = torch.full_like(layer.weight, gradient)
    step.step()
    return layer.weight.item()


def test_decay_is_a_part_of_the_gradient_or_apart_from_it():
    """Adam's first step is the rate times the gradient's sign, so that coupled decay changes nothing there."""
    assert one_step("sgd", 0.5) == pytest.approx(2 - 0.1 * (1 + 0.5 * 2))
    assert one_step("adam", 0.5) == pytest.approx(one_step("adam", 0.0))
    assert one_step("adam", 0.5, gradient=0.0) == pytest.approx(2 - 0.1)
    assert one_step("adamw", 0.5) == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1)
    assert one_step("adamw", 0.5, gradient=0.0) == pytest.approx(2 * (1 - 0.1 * 0.5))


# Rates by depth


@pytest.mark.parametrize("name", ["r2plus1d_18", "f_r2d_50"])
def test_every_parameter_has_the_rate_of_its_part(name):
    with torch.device("meta"):
        model = create_model(name, 5)
    optimizer = optim.make_optimizer(model, recipe(layer_decay=0.5, weight_decay=0.1), 0.8)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    plain = {id(p) for p in optim.make_parameter_groups(model, 0.1)[1]["params"]}
    for key, p in model.named_parameters():
        stage = int(key[5]) if key.startswith("layer") else 5 if key.startswith("fc.") else 0
        assert rate[id(p)] == pytest.approx(0.8 * 0.5 ** (5 - stage)), key
        assert decay[id(p)] == (0.0 if id(p) in plain else 0.1)
    assert optimizer.param_groups[0]["lr"] == 0.8  # the one that is logged


def test_a_pooling_that_learns_and_the_last_norm_have_the_classifiers_rate_and_frozen_parts_none():
    model = create_model("r3d_18", 5, layers=[1, 1], width=8, block="preact", pool="attention")
    model.stem.requires_grad_(False)
    optimizer = optim.make_optimizer(model, recipe(layer_decay=0.5), 0.8)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate.keys() == {id(p) for p in model.parameters() if p.requires_grad}
    assert {rate[id(p)] for m in (model.pool, model.last, model.fc) for p in m.parameters()} == {0.8}
    assert sorted(set(rate.values())) == pytest.approx([0.2, 0.4, 0.8])


# The rate


def test_rate_is_linear_in_the_batch_where_a_base_is_given():
    assert optim.scale_lr(recipe(lr=0.01, base_batch=32), 256) == pytest.approx(0.08)
    assert optim.scale_lr(recipe(lr=0.01, base_batch=32), 8) == pytest.approx(0.0025)
    assert optim.scale_lr(recipe(lr=0.01), 256) == 0.01


def test_cosine_equals_torchs():
    theirs = torchs_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=70), 70)
    assert rates(recipe(schedule="cosine"), 7) == pytest.approx(theirs, abs=1e-9)


def test_warm_up_is_linear_and_meets_the_schedule():
    found = rates(recipe(schedule="cosine", warmup=2), 5)
    assert found[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert found[10:] == pytest.approx([(1 + math.cos(math.pi * i / 40)) / 2 for i in range(40)])
    assert rates(recipe(schedule="constant", warmup=0.5), 6)[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    found = rates(recipe(schedule="step", milestones=[4], warmup=1), 10)
    assert found[0:41:10] == pytest.approx([1 / 11, 1, 1, 1, 0.1])


def test_step_falls_at_its_milestones():
    found = rates(recipe(schedule="step", milestones=[4, 6.5], gamma=0.1), 10)
    theirs = torchs_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [40, 65], gamma=0.1), 100)
    assert found == pytest.approx(theirs)
    assert [found[i] for i in (39, 40, 64, 65, 99)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("warmup", [1, 5.5])
def test_onecycle_equals_torchs(warmup):
    total, rise = 100, round(warmup * 10)
    make = lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o, 1.0, total_steps=total, pct_start=(rise + 1) / total, div_factor=25, final_div_factor=4000
    )
    assert rates(recipe(schedule="onecycle", warmup=warmup), 10) == pytest.approx(torchs_rates(make, total), abs=1e-9)


def test_onecycle_starts_low_and_a_run_of_one_step_has_a_rate():
    found = rates(recipe(schedule="onecycle", warmup=3), 10)
    assert (found[0], found[30], found[-1]) == pytest.approx((0.04, 1, 1e-5))
    for schedule in ("constant", "cosine", "onecycle"):
        for warmup in (0, 0.5):
            (rate,) = rates(recipe(epochs=1, schedule=schedule, warmup=warmup), 1)
            assert 0 < rate <= 1


VALUES = [1, 2, 2, 1.5, 2, 2.5, 2.5, 2.4, 2.3, 2.2, 2.1, 3, 3, 3]


def plateau_rates(train, values, steps_per_epoch=2):
    """The rate at each step, validated after every epoch, as Lightning drives the schedules."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    schedules, found = optim.make_schedules(optimizer, train, steps_per_epoch), []
    for value in values:
        for _ in range(steps_per_epoch):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            [s["scheduler"].step() for s in schedules if "monitor" not in s]
        [s["scheduler"].step(value) for s in schedules if "monitor" in s]
    return found


def test_plateau_lowers_the_rate_after_so_many_epochs_without_a_better_value():
    found = plateau_rates(recipe(schedule="plateau", plateau=3, gamma=0.5), VALUES)[::2]
    assert found == pytest.approx([0.4] * 5 + [0.2] * 4 + [0.1] * 5)


def test_plateau_has_as_many_schedules_however_few_steps_the_warm_up_has():
    """A run that is resumed with larger batches would give the state of one to another."""
    train = recipe(schedule="plateau", warmup=0.05, plateau=2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    assert len(optim.make_schedules(optimizer, train, 20)) == len(optim.make_schedules(optimizer, train, 2)) == 2
    assert plateau_rates(train, [1, 2, 3, 4]) == [0.4] * 8


def test_schedules_are_counted_without_making_them():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    for schedule in get_args(schema.TrainConfig.model_fields["schedule"].annotation):
        for warmup in (0, 1):
            train = recipe(schedule=schedule, warmup=warmup, **({"milestones": (2,)} if schedule == "step" else {}))
            assert len(optim.make_schedules(optimizer, train, 4)) == optim.count_schedules(train)


def test_plateau_after_a_warm_up_starts_as_every_schedule_does():
    train = recipe(schedule="plateau", warmup=2, plateau=2, gamma=0.5)
    constant = recipe(schedule="constant", warmup=2)
    found = plateau_rates(train, [1, 2, 3, 4, 4, 4, 4], 3)
    assert found[:18] == pytest.approx([0.4 * optim.compute_lr_factor(step, 3, constant) for step in range(18)])
    assert found[18:] == pytest.approx([0.2] * 3)


def test_biases_of_an_lstm_and_scales_of_skipinit_do_not_decay():
    model = create_model("r3d_18", 5, layers=[1, 1], width=8, pool="lstm", norm="none")
    plain = {id(p) for p in optim.make_parameter_groups(model, 0.05)[1]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in plain}
    assert {"pool.lstm.bias_ih_l0", "pool.lstm.bias_hh_l0", "layer1.0.scale", "fc.bias"} <= names
    assert not any("weight" in name for name in names)
