"""Batch norms over all processes: the conversion, on a CPU, where torch's SyncBatchNorm scores but does not train."""

import pytest
import torch
from torch import nn

from videores.models import norms as norms_module
from videores.models import norms as sync
from videores.models import parts
from videores.models.registry import create_model
from videores.models.weights import compatibility

NETWORKS = [
    ("r3d_18", {"width": 8, "layers": (1, 1)}),
    ("f_r2d_18", {"width": 8, "layers": (1, 1)}),
    ("ir_csn_50", {"width": 8, "layers": (1, 1), "checkpoint": "stages"}),
]


def network(name, **overrides):
    torch.manual_seed(0)
    model = create_model(name, 3, **overrides)
    for norm in sync.list_batch_norms(model).values():  # as after some training
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.normal_()
    return model


@pytest.mark.parametrize(("name", "overrides"), NETWORKS)
def test_conversion_changes_the_type_of_all_batch_norms_and_nothing_else(name, overrides):
    model = network(name, **overrides)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters, training = list(model.parameters()), [m.training for m in model.modules()]
    clips = torch.randn(2, 3, 4, 32, 32)
    before = model.eval()(clips)
    model.train()
    sync.synchronize_batch_norms(model)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert [m.training for m in model.modules()] == training
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), parameters, strict=True))  # the optimizer's
    torch.testing.assert_close(model.eval()(clips), before, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "overrides"), NETWORKS)
def test_a_synchronised_network_is_the_one_that_its_checkpoint_is_of(name, overrides):
    """Else a run would be refused its own weights when it has trained."""
    model = network(name, **overrides)
    sync.synchronize_batch_norms(model)
    assert compatibility.find_differences({"name": name, **overrides}, model) == []


def test_frozen_batch_norms_stay_as_they_are():
    model = network("r3d_18", width=8, layers=(1,), norm="frozen")
    before = list(model.modules())
    sync.synchronize_batch_norms(model)
    assert all(ours is theirs for ours, theirs in zip(model.modules(), before, strict=True))
    norms = [m for m in model.train().modules() if isinstance(m, norms_module.FrozenBatchNorm3d)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_parts_that_training_leaves_alone_are_left_alone():
    model = network("r3d_18", width=8, layers=(1, 1))
    held = parts.freeze(model, ("stem", "layer1"))
    before = {id(m) for part in held for m in part.modules()}
    sync.synchronize_batch_norms(model)
    assert before <= {id(m) for m in model.modules()}
    assert isinstance(model.layer2[0].conv1[1], nn.SyncBatchNorm)


def test_networks_without_batch_norm_have_none_to_synchronise():
    for norm in ("group", "none", "frozen"):
        assert sync.list_batch_norms(network("r3d_18", width=8, layers=(1,), norm=norm)) == {}
