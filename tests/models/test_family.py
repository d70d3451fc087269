"""What holds for every network that the builder makes: all names, all overrides, and their combinations."""

import copy
import itertools
import pickle
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from videores.config.network import Pool
from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.resnet import BLOCKS, CONVS, MODELS
from videores.models.temporal import ORDERLESS

FRAMES = 8
SMALL = {"layers": (1, 1, 1, 1), "width": 8}


def small(name):
    """Overrides that make the network called `name` quick and keep what is special about it."""
    if name.startswith("cifar"):
        return {"layers": (2, 1, 1), "width": 8}
    wide = {"width": 16} if MODELS[name].base_width == 4 else {}  # less would leave no channels
    return {**SMALL, **wide, **({"frames": FRAMES} if MODELS[name].fold else {})}


def single_overrides():
    """(name, overrides) that show each value of each option at least once."""
    for pool in get_args(Pool):
        frames = {"frames": FRAMES} if pool == "weights" else {}
        yield "f_r2d_18", {"pool": pool, **frames}
        yield "r3d_18", {"pool": pool, "layers": (1, 1), **frames}
        if pool != "gem":
            yield "f_r2d_18", {"pool": pool, "consensus": "logits", **frames}
    for shortcut, name in itertools.product("ABC", ("f_r2d_18", "r3d_18", "r2plus1d_50", "ir_csn_50")):
        yield name, {"shortcut": shortcut}
    for norm, name in itertools.product(("group", "frozen", "none"), ("f_r2d_50", "r3d_18", "r2plus1d_18")):
        yield name, {"norm": norm}
    for block, norm in itertools.product(("preact", "preact_bottleneck"), ("group", "none")):
        yield "r2plus1d_18", {"block": block, "norm": norm}
    for mid, name in itertools.product(("paper", "round8", "none"), ("r2plus1d_18", "r2plus1d_50")):
        yield name, {"mid": mid}
    for stem, name in itertools.product(("nopool", "pool", "small", "cifar"), ("f_r2d_18", "r3d_50", "r2plus1d_18")):
        yield name, {"stem": stem}
    for name in ("f_r2d_18", "r3d_50", "r2plus1d_18"):
        yield name, {"zero_init": True}
        yield name, {"bias": True}
        yield name, {"se": 4}
        yield name, {"drop_path": 0.1, "dropout": 0.2, "spatial_dropout": 0.2}
        yield name, {"checkpoint": "stages"}
    yield "f_r2d_50", {"stride_in": "conv1"}
    yield "r3d_50", {"base_width": 128, "norm_eps": 1e-3}
    yield "f_r2d_18", {"shift": 8}
    yield "f_r2d_18", {"shift": 4, "causal": True}
    yield "f_r2d_50", {"shift": 4, "stage_pool": True, "block": "preact"}
    yield "f_r2d_18", {"stage_pool": True, "layers": (1, 1), "pool": "weights", "frames": FRAMES}
    yield "plain3d_18", {"norm": "none"}
    yield "r3d_18", {"layers": (2,)}
    yield "r3d_18", {"conv": ("2plus1d", "1x3x3", "3d", "2plus1d")}
    yield "cifar3d_8", {}
    yield "cifar2d_11", {"block": "bottleneck"}
    for control in ("scaled", "conv1x1", "dropout", "no_relu"):
        yield "r3d_50", {"control": control}
    yield "f_r2d_18", {"control": "one_layer"}


def combinations():
    """Every convolution x block x connection, on two stages."""
    connections = [{"connect": c} for c in ("dense", "depthwise", "ip", "separable")] + [{"groups": 4}]
    for conv, block, connection in itertools.product(CONVS, BLOCKS, connections):
        yield "r3d_18", {"conv": conv, "block": block, "layers": (2, 1), **connection}


def is_refused(overrides):
    """Basic blocks whose convolutions are all depthwise."""
    return overrides.get("connect") in ("depthwise", "ip") and not overrides["block"].endswith("bottleneck")


NAMES = [(name, {}) for name in MODELS if not name.endswith(("_1202", "_110", "_56", "_44", "_32"))]
VARIANTS = [*NAMES, *single_overrides(), *(v for v in combinations() if not is_refused(v[1]))]
STEP = 5  # every so manieth variant is tried by default, all of them in the slow tests


def variant_id(variant):
    name, overrides = variant
    return "-".join([name, *(f"{key}={value}" for key, value in overrides.items())])


@pytest.fixture(
    params=[pytest.param(v, marks=[pytest.mark.slow] if i % STEP else []) for i, v in enumerate(VARIANTS)],
    ids=variant_id,
)
def variant(request):
    return request.param


def build(variant, awake=True):
    """A small version. `awake`: branches that start at 0 are given values, so that everything takes part."""
    torch.manual_seed(0)
    name, overrides = variant
    row = small(name) if name in MODELS else {"width": 8}
    model = create_model(name, 7, **{**row, **overrides})
    if awake:
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.uniform_(parameter, 0.5, 1)
        nn.init.normal_(model.fc.weight)
    return model


def is_orderless(model):
    """Whether nothing in the network knows which frame comes first."""
    d = model.design
    kinds = set(d.conv[: 1 + len(d.layers)])
    return kinds <= {"2d", "1x3x3"} and not (d.fold or d.shift or d.stage_pool) and d.pool in ORDERLESS


def test_a_variant_trains_copies_and_knows_the_order_of_frames_or_not(variant):
    model = build(variant)
    clips_BCTHW = torch.randn(2, model.design.channels, FRAMES, 40, 36)
    assert_every_parameter_learns(model, clips_BCTHW)
    model.eval()
    with torch.no_grad():
        logits_BN = model(clips_BCTHW)
        assert_halves_make_the_whole(model, clips_BCTHW, logits_BN)
        assert_memory_format_is_free(model, clips_BCTHW, logits_BN)
        assert_copies_are_equal_and_apart(model, clips_BCTHW, logits_BN)
        assert_order_matters_where_it_should(model, clips_BCTHW, logits_BN)


def assert_every_parameter_learns(model, clips_BCTHW):
    torch.manual_seed(1)  # with which no block is dropped in all clips
    logits_BN = model(clips_BCTHW)
    assert logits_BN.shape == (2, 7)
    assert logits_BN.dtype == torch.float32
    assert logits_BN.isfinite().all()
    (logits_BN * torch.randn(2, 7)).sum().backward()
    frozen = model.design.norm == "frozen"
    for key, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
            assert p.grad.any(), key
        else:
            assert frozen, key


def assert_halves_make_the_whole(model, clips_BCTHW, logits_BN):
    features_BTD = model.features(clips_BCTHW)
    assert features_BTD.shape[::2] == (2, model.num_features)
    assert torch.equal(model.head(features_BTD), logits_BN)


def assert_memory_format_is_free(model, clips_BCTHW, logits_BN):
    clips_BCTHW = clips_BCTHW.contiguous(memory_format=torch.channels_last_3d)
    assert relative(model(clips_BCTHW), logits_BN) < 1e-4


def assert_copies_are_equal_and_apart(model, clips_BCTHW, logits_BN):
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not twin.training
        assert torch.equal(twin(clips_BCTHW), logits_BN)
        twin.fc.weight.zero_()
    assert torch.equal(model(clips_BCTHW), logits_BN)


def assert_order_matters_where_it_should(model, clips_BCTHW, logits_BN):
    shuffled = torch.tensor([3, 0, 6, 1, 7, 4, 2, 5])
    for other_BN in (model(clips_BCTHW.flip(2)), model(clips_BCTHW[:, :, shuffled])):
        difference = relative(other_BN, logits_BN)
        assert difference < 5e-6 if is_orderless(model) else difference > 1e-4


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


SHAPES = [(1, 32, 32), (2, 33, 47), (3, 40, 32), (5, 32, 65), (7, 36, 35)]


def test_a_variant_takes_any_length_and_size_or_says_which(variant):
    model = build(variant).eval()
    with torch.no_grad():
        for frames, height, width in [*SHAPES, (FRAMES, 48, 32)]:
            clips_BCTHW = torch.randn(1, model.design.channels, frames, height, width)
            if model.design.frames in (None, frames) or (model.design.pool == "weights" and steps_agree(model, frames)):
                assert model(clips_BCTHW).isfinite().all()
            else:
                with pytest.raises(UserError, match="frames"):
                    model(clips_BCTHW)


def steps_agree(model, frames):
    return replace(model.design, frames=frames).time_steps() == model.design.time_steps()


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("overrides", [o for _, o in combinations() if is_refused(o)], ids=str)
def test_combinations_that_would_not_mix_channels_are_refused(overrides):
    with pytest.raises(UserError, match=r"connect=.*mix the channels"):
        create_model("r3d_18", 5, **overrides)


# ------------------------------------------------------------------------------------------ compiled and exported

REPRESENTATIVES = [
    ("f_r2d_18", {"pool": "attention"}),
    ("f_r2d_50", {"shift": 8, "se": 4}),
    ("r3d_18", {"shortcut": "A", "norm": "group"}),
    ("mc3_18", {"block": "preact"}),
    ("r2plus1d_18", {}),
    ("ip_csn_50", {"pool": "conv"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("variant", REPRESENTATIVES, ids=variant_id)
def test_a_representative_compiles(variant):
    name, overrides = variant
    model, clips_BCTHW = build((name, {"layers": (1, 1), **overrides})).eval(), torch.randn(2, 3, FRAMES, 40, 36)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    expected_BN, got_BN = model(clips_BCTHW), compiled(clips_BCTHW)
    assert relative(got_BN, expected_BN) < 1e-4
    expected = torch.autograd.grad(expected_BN.square().sum(), list(model.parameters()))
    got = torch.autograd.grad(got_BN.square().sum(), list(model.parameters()))
    assert all((a - b).norm() <= 1e-3 * b.norm() + 1e-6 for a, b in zip(got, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("variant", REPRESENTATIVES, ids=variant_id)
def test_a_representative_is_exported_with_a_free_batch(variant):
    model = build(variant).eval()
    free = {"clips_BCTHW": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(model, (torch.randn(2, 3, FRAMES, 40, 36),), dynamic_shapes=free)
    clips_BCTHW = torch.randn(3, 3, FRAMES, 40, 36)
    with torch.no_grad():
        assert relative(program.module()(clips_BCTHW), model(clips_BCTHW)) < 1e-4
