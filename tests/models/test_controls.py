"""The negative controls: each is what its paper says, and nothing else of the network changes."""

import pytest
import torch
from torch import nn

from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.resnet import Residual

TINY = {"layers": (2, 1), "width": 8, "stem": "small"}


def pair(name, control, **overrides):
    """The network and its control, with equal weights where they have the same."""
    torch.manual_seed(0)
    model = create_model(name, 5, **TINY, **overrides).eval()
    changed = create_model(name, 5, **TINY, **overrides, control=control).eval()
    own, theirs = changed.state_dict(), model.state_dict()
    renamed = {key.replace("downsample.0.", "downsample.") if key not in theirs else key: key for key in own}
    changed.load_state_dict({**own, **{renamed[key]: value for key, value in theirs.items() if key in renamed}})
    return model, changed


@pytest.fixture
def x():
    return torch.randn(2, 8, 4, 16, 16)


def test_scaled_halves_the_shortcut(x):
    model, changed = pair("r3d_18", "scaled")
    block, same = changed.layer1[0], model.layer1[0]
    branch = same.conv2(same.conv1(x))
    torch.testing.assert_close(block(x, 2), (branch + x / 2).relu())


def test_scaled_halves_projections_too(x):
    model, changed = pair("r3d_18", "scaled")
    block, same = changed.layer2[0], model.layer2[0]
    branch = same.conv2(same.conv1(x))
    torch.testing.assert_close(block(x, 2), (branch + same.downsample(x) / 2).relu())


def test_dropout_of_the_shortcut_acts_in_training_only(x):
    model, changed = pair("r3d_18", "dropout")
    assert torch.equal(changed.layer1[0](x, 2), model.layer1[0](x, 2))
    shortcut = changed.layer1[0].downsample.train()(torch.ones(1000))
    assert sorted(set(shortcut.tolist())) == [0, 2]
    assert 0.4 < shortcut.bool().float().mean() < 0.6


def test_no_relu_after_the_sum(x):
    model, changed = pair("r3d_18", "no_relu")
    block, same = changed.layer1[0], model.layer1[0]
    assert block(x, 2).min() < 0
    assert torch.equal(block(x, 2).relu(), same(x, 2))


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_a_shortcut_that_conv1x1_would_replace_is_refused(shortcut):
    with pytest.raises(UserError, match=r"control=conv1x1.*shortcut"):
        create_model("r3d_18", 5, **TINY, control="conv1x1", shortcut=shortcut)


@pytest.mark.parametrize("name", ["f_r2d_18", "r3d_50"])
def test_conv1x1_is_the_shortcut_of_every_block(name):
    changed = create_model(name, 5, **TINY, control="conv1x1")
    blocks = [m for m in changed.modules() if isinstance(m, Residual)]
    assert len(blocks) == 3
    for block in blocks:
        assert set(block.downsample.kernel_size) == {1}
        assert (block.downsample.in_channels, block.downsample.out_channels) == block.channels
    assert {block.downsample.stride[-1] for block in blocks} == {1, 2}


@pytest.mark.parametrize("name", ["f_r2d_18", "r3d_18", "cifar2d_20"])
def test_one_layer_has_a_shortcut_around_every_convolution_at_equal_depth(name):
    model, changed = (create_model(name, 5, **control) for control in ({}, {"control": "one_layer"}))
    blocks = [m for m in changed.modules() if isinstance(m, Residual)]
    assert len(blocks) == 2 * len([m for m in model.modules() if isinstance(m, Residual)])
    assert all(sum(key.startswith("conv") for key in block.branch) == 1 for block in blocks)
    assert sum(p.numel() for p in changed.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("r3d_18", {"control": "gated"}, "control: .*scaled.*conv1x1.*dropout.*no_relu.*one_layer"),
        ("plain3d_18", {"control": "scaled"}, "control=scaled .*shortcuts"),
        ("r3d_18", {"control": "no_relu", "block": "preact"}, "control=no_relu .*block=preact"),
        ("r3d_50", {"control": "one_layer"}, "control=one_layer .*basic"),
        ("r3d_18", {"control": "no_relu", "pool": "gem"}, "pool=gem .*control=no_relu"),
    ],
)
def test_controls_that_make_no_sense_are_refused(name, overrides, message):
    with pytest.raises(UserError, match=message):
        create_model(name, 5, **overrides)


def test_controls_train():
    for control in ("scaled", "conv1x1", "dropout", "no_relu", "one_layer"):
        model = create_model("r3d_18", 5, **TINY, control=control)
        nn.functional.cross_entropy(model(torch.randn(2, 3, 4, 32, 32)), torch.tensor([0, 1])).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
