"""Frozen parts: bit for bit as they were, their statistics too, whatever the network is told."""

import pytest
import torch
from helpers.training import differing, fit, make_config, make_task, state

from videores.errors import UserError
from videores.models.parts import count_depths, freeze, split_into_parts
from videores.models.registry import create_model

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

NET = {"layers": [1, 1], "dropout": 0.1, "drop_path": 0.2}


def trained(root, **train):
    """What changed in training, by part of the network; and the fitted task."""
    cfg = make_config(root, model=NET, data={"batch_size": 4}, train={"epochs": 1, "weight_decay": 0.1, **train})
    before = state(make_task(cfg))
    task = fit(cfg)[0]
    return {key.removeprefix("model.") for key in differing(before, state(task))}, task


def test_frozen_stages_and_their_statistics_stay_bit_for_bit(root):
    changed, task = trained(root, freeze=["stem", "layer1"])
    assert {key.split(".")[0] for key in changed} == {"layer2", "fc"}
    assert {"layer2.0.conv1.1.running_mean", "layer2.0.conv1.1.num_batches_tracked", "fc.weight"} <= changed
    assert not task.train().model.layer1.training
    assert not task.model.layer1[0].conv1[1].training
    assert task.model.layer2[0].conv1[1].training


def test_a_linear_probe_trains_the_classifier_alone(root):
    changed, task = trained(root, freeze="all-but-fc")
    assert changed == {"fc.weight", "fc.bias"}
    assert {id(p) for g in task.configure_optimizers()[0][0].param_groups for p in g["params"]} == {
        id(p) for p in task.model.fc.parameters()
    }


def test_frozen_batch_norms_keep_statistics_and_parameters_and_the_rest_learns(root):
    changed, task = trained(root, freeze_bn=True)
    weights = {name for name, p in task.model.named_parameters() if p.ndim > 1} | {"fc.bias"}
    assert changed == weights


def test_without_freezing_everything_changes(root):
    changed, task = trained(root)
    assert changed == set(task.model.state_dict())


def test_freezing_may_be_given_as_one_name():
    model = create_model("r3d_18", 3, layers=[1, 1], width=8)
    assert freeze(model, "layer2") == freeze(model, ["layer2"]) == [model.layer2]


def test_a_linear_probe_may_be_given_as_a_list(root):
    assert make_config(root, train={"freeze": ["all-but-fc"]}) == make_config(root, train={"freeze": "all-but-fc"})


def test_an_unknown_part_is_told_the_nearest_and_all_there_are():
    model = create_model("r3d_18", 3, layers=[1, 1], width=8)
    with pytest.raises(UserError, match=r"no part 'layer3' \(did you mean layer2\?\).*stem, layer1, layer2, fc"):
        freeze(model, ["layer3"])
    with pytest.raises(UserError, match="did you mean all-but-fc"):
        freeze(model, "all_but_fc")


@pytest.mark.parametrize("norms", [False, True])
def test_freezing_everything_is_refused(norms):
    model = create_model("r3d_18", 3, layers=[1, 1], width=8)
    with pytest.raises(UserError, match=r"train\.freeze leaves nothing to learn"):
        freeze(model, ["stem", "layer1", "layer2", "fc"], norms)


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("r2plus1d_18", {}, ["stem", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("f_r2d_18", {"pool": "attention"}, ["stem", "layer1", "layer2", "layer3", "layer4", "pool", "fc"]),
        ("cifar3d_20", {"block": "preact"}, ["stem", "layer1", "layer2", "layer3", "last", "fc"]),
        ("pytorchvideo/x3d_xs", {}, ["block0", "block1", "block2", "block3", "block4", "fc"]),
        ("pytorchvideo/slowfast_r50", {}, ["block0", "block1", "block2", "block3", "block4", "fc"]),
    ],
)
def test_parts_hold_every_parameter_once(name, overrides, expected):
    with torch.device("meta"):
        model = create_model(name, 5, **overrides)
    found = split_into_parts(model)
    assert list(found) == expected
    owned = [id(p) for modules in found.values() for m in modules for p in m.parameters()]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    assert list(count_depths(model).values()) == sorted(count_depths(model).values())
