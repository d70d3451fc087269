"""Pruned networks: what goes, what follows it, what cannot be followed, and the plan that builds them again."""

import copy

import pytest
import torch
from helpers.weights import randomise
from torch.utils.flop_counter import FlopCounterMode

from videores.compress import structured
from videores.compute import cost
from videores.errors import UserError
from videores.models import create_model
from videores.models.registry import find_clip_shape
from videores.models.widths import is_depthwise, read_widths

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

SMALL = dict(layers=[1, 1], width=8)
NETWORKS = {
    "residual": ("r3d_18", {**SMALL, "layers": [2, 1]}),
    "(2+1)D": ("r2plus1d_18", SMALL),
    "2D": ("f_r2d_18", SMALL),
    "frames as channels": ("r2d_18", {**SMALL, "frames": 4}),
    "bottlenecks": ("r3d_50", SMALL),
    "groups": ("r3d_50", {**SMALL, "groups": 4}),
    "depthwise": ("ir_csn_50", SMALL),
    "interaction-preserved": ("ip_csn_50", SMALL),
    "separable": ("r3d_18", {**SMALL, "connect": "separable"}),
    "pre-activated": ("r3d_18", {**SMALL, "block": "preact"}),
    "projections everywhere": ("r3d_18", {**SMALL, "shortcut": "C"}),
    "plain": ("plain3d_18", SMALL),
    "group norm": ("r3d_18", {**SMALL, "width": 16, "norm": "group"}),
    "no norm": ("r3d_18", {**SMALL, "norm": "none"}),
    "squeeze and excite": ("r3d_18", {**SMALL, "se": 2}),
    "pooling that learns": ("r3d_18", {**SMALL, "pool": "conv"}),
    "pytorchvideo": ("pytorchvideo/x3d_xs", {}),
}


def make(kind):
    name, options = NETWORKS[kind]
    return randomise(create_model(name, 3, **options)).eval(), name, options


def clip_of(model):
    frames = 4 if hasattr(model, "builder") else (getattr(model.design, "frames", None) or 8)
    return torch.randn(2, 3, frames, 32, 32, generator=torch.Generator().manual_seed(0))


def halve(model, importance="magnitude"):
    parts = dict.fromkeys([part for part in structured.split_into_parts(model) if part not in ("pool", "fc")], 0.5)
    wanted, widths = structured.plan_widths(model, parts), read_widths(model)
    ratio = {name: 1 - width / widths[name] - 1e-9 for name, width in wanted.items()}
    return structured.prune_channels(model, find_clip_shape(model), ratio, importance), wanted


@pytest.mark.parametrize("kind", NETWORKS)
def test_half_of_all_channels_go_and_a_plan_builds_the_network_again(kind):
    model, name, options = make(kind)
    pruned, wanted = halve(model)
    assert structured.find_whole_layers(pruned, read_widths(model), wanted) == []
    again = create_model(name, 3, **options, widths=wanted).eval()
    again.load_state_dict(pruned.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(clip_of(model)), pruned(clip_of(model)))
    assert model.state_dict().keys() == again.state_dict().keys()
    depthwise = [name for name, layer in model.named_modules() if is_depthwise(layer)]
    assert all(2 * again.get_submodule(n).out_channels == model.get_submodule(n).out_channels for n in depthwise)


@pytest.mark.parametrize("kind", ["residual", "(2+1)D", "groups", "depthwise"])
def test_parameters_and_multiply_adds_are_those_of_the_weights_and_of_torch(kind):
    model, name, options = make(kind)
    pruned, wanted = halve(model)
    again = create_model(name, 3, **options, widths=wanted)
    buffers = {key for key, _ in again.named_buffers()}
    counted = sum(value.numel() for key, value in pruned.state_dict().items() if key not in buffers)
    with torch.device("meta"):
        costs = cost.count_costs(create_model(name, 3, **options, widths=wanted), 8, 32)
    assert costs["params"] == counted
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        pruned(torch.randn(1, 3, 8, 32, 32))
    assert 2e9 * costs["gmacs"] == pytest.approx(flops.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize("importance", ["magnitude", "bn"])
def test_channels_that_nothing_comes_from_are_those_that_go(importance):
    model, _, _ = make("residual")
    block = model.layer1[0]
    with torch.no_grad():
        for layer in (block.conv1[0].weight, block.conv1[1].weight, block.conv1[1].bias):
            layer[[1, 3, 4, 6]] = 0
        block.conv2[0].weight[:, [1, 3, 4, 6]] = 0
    ratio = {"layer1.0.conv1.0": 0.5 - 1e-9}
    pruned = structured.prune_channels(model, find_clip_shape(model), ratio, importance)
    assert pruned.layer1[0].conv1[0].out_channels == pruned.layer1[0].conv2[0].in_channels == 4
    with torch.no_grad():
        torch.testing.assert_close(pruned(clip_of(model)), model(clip_of(model)))


def test_the_whole_network_can_be_the_scope():
    model, _, _ = make("residual")
    before = read_widths(model)
    pruned = structured.prune_channels(model, find_clip_shape(model), 0.4, "magnitude")
    shares = {name: width / before[name] for name, width in read_widths(pruned).items()}
    assert len(set(shares.values())) > 2
    assert shares["fc"] == 1
    assert shares["stem.0"] == shares["layer1.0.conv2.0"] == shares["layer1.1.conv2.0"]


def test_the_network_itself_stays_as_it_is():
    model, _, _ = make("(2+1)D")
    before = copy.deepcopy(model.state_dict())
    halve(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {type(layer).__module__ for layer in model.modules() if isinstance(layer, torch.nn.Conv3d)} == {
        "videores.models.cpu_conv"
    }


@pytest.mark.parametrize(("ratio", "named"), [({"layer1": 0.95}, "layer1.0.conv1.0"), ({"layer9": 0.5}, "layer9")])
def test_ratios_that_empty_a_layer_or_name_none_are_refused(ratio, named):
    with pytest.raises(UserError, match=named):
        structured.plan_widths(make("residual")[0], ratio)


def test_a_ratio_of_the_network_that_empties_a_layer_is_refused():
    model, _, _ = make("residual")
    with pytest.raises(UserError, match=r"--ratio must leave \S+ a channel"):
        structured.prune_channels(model, find_clip_shape(model), 0.95, "magnitude")


def test_layers_whose_outputs_are_added_need_one_ratio():
    model, _, _ = make("residual")
    wanted = structured.plan_widths(model, {"stem": 0.5, "layer1": 0.25})
    before = read_widths(model)
    ratio = {name: 1 - width / before[name] - 1e-9 for name, width in wanted.items()}
    pruned = structured.prune_channels(model, find_clip_shape(model), ratio, "magnitude")
    with pytest.raises(UserError, match="--ratio"):
        structured.find_whole_layers(pruned, before, wanted)


def test_torch_pruning_that_cannot_follow_is_told_with_its_reason():
    model, _, _ = make("residual")
    model.features = lambda clips: model.layer1(model.stem(clips), 1).detach().mean((3, 4)).transpose(1, 2)
    with pytest.raises(UserError, match="Torch-Pruning"):
        structured.prune_channels(model, find_clip_shape(model), {"layer1.0.conv1.0": 0.5}, "magnitude")
