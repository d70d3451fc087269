"""The networks: parity with torchvision, published sizes, properties of every variant, gradients in bf16, refusals."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.video import resnet as video

from videores.errors import UserError
from videores.models import MODELS, create_model

VIDEO_CONVS = {
    "r3d": [video.Conv3DSimple] * 4,
    "mc3": [video.Conv3DSimple] + [video.Conv3DNoTemporal] * 3,
    "r2plus1d": [video.Conv2Plus1D] * 4,
}
DEPTHS = {
    "18": (video.BasicBlock, [2, 2, 2, 2]),
    "34": (video.BasicBlock, [3, 4, 6, 3]),
    "50": (video.Bottleneck, [3, 4, 6, 3]),
}
TINY = {"layers": (1, 1, 1), "width": 16, "stem": "small"}


def torchvision_twin(name, num_classes, layers=None):
    family, depth = name.rsplit("_", 1)
    if family == "f_r2d":
        return getattr(torchvision.models, f"resnet{depth}")(num_classes=num_classes)
    block, counts = DEPTHS[depth]
    stem = video.R2Plus1dStem if family == "r2plus1d" else video.BasicStem
    return video.VideoResNet(block, VIDEO_CONVS[family], layers or counts, stem, num_classes)


def parameter_count(name, num_classes, **overrides):
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name, num_classes, **overrides).parameters())


def twin_logits(twin, clips_BCTHW):
    """Those of torchvision's network; a 2D one sees every frame, and its logits are averaged."""
    if isinstance(twin, video.VideoResNet):
        return twin(clips_BCTHW)
    return twin(clips_BCTHW.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clips_BCTHW), -1)).mean(1)


# ------------------------------------------------------------------------------------------ parity with torchvision


@pytest.mark.parametrize("name", MODELS)
def test_names_shapes_and_order_are_torchvisions(name):
    with torch.device("meta"):
        model, twin = create_model(name, 400), torchvision_twin(name, 400)
    for ours, theirs in [(model.named_parameters(), twin.named_parameters()), (model.state_dict(), twin.state_dict())]:
        ours, theirs = dict(ours), dict(theirs)
        assert [(key, value.shape) for key, value in ours.items()] == [(key, v.shape) for key, v in theirs.items()]


@pytest.mark.parametrize("name", ["f_r2d_18", "f_r2d_50", "r3d_18", "mc3_18", "r2plus1d_18"])
def test_outputs_are_torchvisions(name):
    assert_equal_outputs(create_model(name, 10), torchvision_twin(name, 10))


@pytest.mark.parametrize("family", VIDEO_CONVS)
def test_3d_bottlenecks_without_the_stem_pool_are_torchvisions(family):
    twin = torchvision_twin(f"{family}_50", 10, layers=[2, 1, 1, 1])
    assert_equal_outputs(create_model(f"{family}_50", 10, stem="nopool", layers=[2, 1, 1, 1]), twin)


def assert_equal_outputs(model, twin):
    """With torchvision's random weights, loaded strictly both ways, in both modes."""
    model.load_state_dict(twin.state_dict(), strict=True)
    twin.load_state_dict(model.state_dict(), strict=True)
    clips_BCTHW = torch.randn(2, 3, 4, 48, 48)
    with torch.no_grad():
        for training in (False, True):
            ours, theirs = model.train(training)(clips_BCTHW), twin_logits(twin.train(training), clips_BCTHW)
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


ANCHORS = {
    "f_r2d_18": ["conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight"],
    "f_r2d_50": ["layer1.0.conv3.weight", "layer1.0.bn3.bias", "layer4.2.bn1.num_batches_tracked", "fc.bias"],
    "r3d_18": ["stem.0.weight", "stem.1.bias", "layer1.0.conv1.0.weight", "layer2.0.downsample.1.weight", "fc.weight"],
    "mc3_18": ["stem.0.weight", "layer4.1.conv2.0.weight", "layer4.1.conv2.1.running_var"],
    "r2plus1d_18": ["stem.0.weight", "stem.3.weight", "stem.4.weight", "layer1.0.conv1.0.3.weight"],
    "r2plus1d_50": ["layer1.0.conv2.0.0.weight", "layer1.0.conv2.0.1.bias", "layer1.0.conv3.1.weight"],
}


@pytest.mark.parametrize("name", ANCHORS)
def test_anchor_names(name):
    with torch.device("meta"):
        keys = create_model(name, 400).state_dict()
    assert set(ANCHORS[name]) <= set(keys)


@pytest.mark.parametrize("name", ["f_r2d_18", "r2plus1d_18"])
def test_initialisation_is_torchvisions(name):
    """The same distribution: per tensor, the mean and the standard deviation agree within the sampling error."""
    torch.manual_seed(0)
    twin = dict(torchvision_twin(name, 400).named_parameters())
    for key, p in create_model(name, 400).named_parameters():
        expected, error = twin[key].std(correction=0), 5 / p.numel() ** 0.5
        assert abs(p.mean() - twin[key].mean()) <= 2 * error * expected + 1e-7, key
        assert abs(p.std(correction=0) / expected - 1 if expected else p.std(correction=0)) <= 2 * error, key


# ------------------------------------------------------------------------------------------ published sizes


@pytest.mark.parametrize(
    ("name", "num_classes", "overrides", "expected"),
    [
        ("f_r2d_18", 1000, {}, 11_689_512),  # He et al. 2015, as torchvision counts them
        ("f_r2d_34", 1000, {}, 21_797_672),
        ("f_r2d_50", 1000, {}, 25_557_032),
        ("f_r2d_18", 400, {}, 11_381_712),  # Tran et al. 2018, Kinetics-400
        ("r3d_18", 400, {}, 33_371_472),
        ("r3d_34", 400, {}, 63_681_104),
        ("mc3_18", 400, {}, 11_695_440),
        ("r2plus1d_18", 400, {}, 31_505_325),
        ("r2plus1d_18", 400, {"mid": "paper"}, 33_370_839),
        ("r2plus1d_34", 400, {"mid": "paper"}, 63_697_175),
        ("r3d_50", 400, {}, 46_980_944),  # Tran et al. 2019: 46.98 M
        ("f_r2d_18", 8, TINY, 77_912),  # the tiny family: 78, 226, 227, 88 and 225 thousand
        ("r3d_18", 8, TINY, 226_232),
        ("r2plus1d_18", 8, {**TINY, "mid": "paper"}, 226_925),
        ("mc3_18", 8, TINY, 87_992),
        ("r3d_50", 8, TINY, 224_760),
    ],
)
def test_parameter_counts(name, num_classes, overrides, expected):
    assert parameter_count(name, num_classes, **overrides) == expected


@pytest.mark.parametrize(
    ("name", "frames", "expected"),
    [
        ("f_r2d_18", 8, 8),
        ("r3d_18", 8, 1),
        ("r3d_18", 16, 2),
        ("r2plus1d_18", 16, 2),
        ("mc3_18", 8, 8),
        ("r3d_50", 8, 1),
    ],
)
def test_final_number_of_frames(name, frames, expected):
    with torch.device("meta"):
        model = create_model(name, 5)
        features_BTD = model.features(torch.empty(2, 3, frames, 112, 112))
    assert features_BTD.shape == (2, expected, model.num_features)


@pytest.mark.parametrize(
    ("name", "stem", "size"),
    [("f_r2d_18", "default", 28), ("f_r2d_18", "nopool", 56), ("f_r2d_18", "small", 56)]
    + [("r3d_18", stem, 56) for stem in ("default", "nopool", "small")]
    + [("r3d_50", "default", 28), ("r3d_50", "nopool", 56), ("r2plus1d_18", "small", 56)],
)
def test_stems_reduce_space_and_keep_time(name, stem, size):
    sizes = []
    with torch.device("meta"):
        model = create_model(name, 5, stem=stem)
        model.layer1.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape))
        model(torch.empty(2, 3, 8, 112, 112))
    time = () if name.startswith("f_r2d") else (8,)
    assert sizes[0][2:] == (*time, size, size)


# ------------------------------------------------------------------------------------------ every variant

VARIANTS = [(name, {}) for name in MODELS]
VARIANTS += [(name, {**TINY, "pool": "max", "dropout": 0.5}) for name in MODELS]
VARIANTS += [(f"r2plus1d_{depth}", {**TINY, "mid": "paper", "layers": [2]}) for depth in (18, 50)]


def variant_id(variant):
    name, overrides = variant
    return "-".join([name, *(f"{key}={value}" for key, value in overrides.items())])


def small(variant):
    """The variant at a width that is quick, and with four stages if it does not say otherwise."""
    name, overrides = variant
    return create_model(name, 7, **{"layers": (2, 1, 1, 1), "width": 8, **overrides})


@pytest.fixture(params=VARIANTS, ids=variant_id)
def variant(request):
    torch.manual_seed(0)
    return request.param


def test_variant_trains(variant):
    model = small(variant)
    logits_BN = model(torch.randn(2, 3, 8, 40, 36))
    assert logits_BN.shape == (2, 7)
    assert logits_BN.isfinite().all()
    logits_BN.logsumexp(1).sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.any(), key


def test_variant_halves_make_the_whole(variant):
    model, clips_BCTHW = small(variant).eval(), torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        features_BTD = model.features(clips_BCTHW)
        assert features_BTD.shape[::2] == (2, model.num_features)
        assert torch.equal(model.head(features_BTD), model(clips_BCTHW))


def test_variant_deepcopy_is_equal_and_apart(variant):
    model, clips_BCTHW = small(variant).eval(), torch.randn(1, 3, 4, 32, 32)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = model(clips_BCTHW)
        assert torch.equal(twin(clips_BCTHW), before)
        twin.fc.weight.zero_()
        assert torch.equal(model(clips_BCTHW), before)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_only_f_r2d_ignores_the_order_of_frames(variant, bf16):
    model, clips_BCTHW = small(variant).eval(), torch.randn(2, 3, 8, 32, 32)
    model.fc.weight.data.normal_()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits_BN, backwards_BN = model(clips_BCTHW), model(clips_BCTHW.flip(2))
        shuffled_BN = model(clips_BCTHW[:, :, torch.tensor([3, 0, 6, 1, 7, 4, 2, 5])])
    scale = logits_BN.abs().max()
    assert logits_BN.dtype == torch.float32
    for other_BN in (backwards_BN, shuffled_BN):
        difference = (other_BN - logits_BN).abs().max() / scale
        assert difference < 2e-6 if variant[0].startswith("f_r2d") else difference > 1e-4


def test_memory_format_does_not_change_the_answer(variant):
    model, clips_BCTHW = small(variant).eval(), torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = model(clips_BCTHW)
        clips_BCTHW = clips_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(model(clips_BCTHW), expected, rtol=1e-4, atol=1e-5)


def test_head_dropout_acts_in_training_only():
    model, clips_BCTHW = create_model("r3d_18", 5, **TINY, dropout=0.9), torch.randn(1, 3, 4, 32, 32)
    features_BTD = model.features(clips_BCTHW).detach()
    assert not torch.equal(model.head(features_BTD), model.head(features_BTD))
    assert torch.equal(model.eval().head(features_BTD), model.head(features_BTD))


# ------------------------------------------------------------------------------------------ bf16 gradients

needs_bf16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="this CPU has no bf16 convolutions in oneDNN",
)


def signature(layer):
    return type(layer), layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding


def inputs_of_convolutions(model, clips_BCTHW):
    """Every distinct (signature, shape of the input) of a network, without computing anything."""
    seen = set()
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            layer.register_forward_pre_hook(lambda m, inputs: seen.add((signature(m), tuple(inputs[0].shape[1:]))))
    model(clips_BCTHW)
    return seen


def distinct_convolutions(variants):
    """Those of the named networks for (name, overrides, frames, size)."""
    seen = set()
    with torch.device("meta"):
        for name, overrides, frames, size in variants:
            model = create_model(name, 8, **overrides)
            seen |= inputs_of_convolutions(model, torch.empty(2, 3, frames, size, size))
    return sorted(seen, key=str)


def gradients(layer, x, upstream):
    """(dx, dw), by autograd."""
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(upstream.to(y.dtype))
    return x.grad, layer.weight.grad


def bf16_error(convolution, max_size):
    """Relative errors of dx and dw in bf16 autocast, channels last, to fp64. H and W of inputs are cut to max_size."""
    (make, cin, cout, kernel, stride, padding), (_, *shape) = convolution
    shape = [*shape[:-2], *(min(n, max_size) for n in shape[-2:])]
    layer = make(cin, cout, kernel, stride, padding, bias=False)
    memory_format = torch.channels_last_3d if len(kernel) == 3 else torch.channels_last
    # Values that bf16 holds exactly, so that only the sums are rounded.
    x = torch.randn(2, cin, *shape).bfloat16().float().contiguous(memory_format=memory_format)
    layer.weight.data = layer.weight.data.bfloat16().float()
    upstream = torch.randn(layer(x).shape).bfloat16().float()
    expected = gradients(copy.deepcopy(layer).double(), x.double(), upstream)
    with torch.autocast("cpu", torch.bfloat16):
        got = gradients(layer.to(memory_format=memory_format), x, upstream)
    errors = [
        ((a.double() - b).norm() / b.norm()).nan_to_num(torch.inf).item() for a, b in zip(got, expected, strict=True)
    ]
    return max(errors)


def wrong_gradients(convolutions, max_size=8):
    torch.manual_seed(0)
    errors = {c: bf16_error(c, max_size) for c in convolutions}
    return {c: error for c, error in errors.items() if not error < 0.02}


@needs_bf16
@pytest.mark.parametrize(("frames", "size"), [(16, 112), (2, 32), (8, 8)])
@pytest.mark.parametrize("name", ["f_r2d_18", "r3d_18", "mc3_50", "r2plus1d_18", "r2plus1d_50"])
def test_bf16_gradients_of_narrow_networks(name, frames, size):
    """Every length and size that comes up, at an eighth of the width; 8x8 pixels shrink to maps of a single one."""
    narrow = {"width": 8, "layers": (1, 1, 1, 1)}
    assert not wrong_gradients(distinct_convolutions([(name, narrow, frames, size)]), max_size=28)


@needs_bf16
def test_bf16_gradients_of_the_tiny_network_and_of_the_last_stages():
    tiny = {"layers": (1, 1, 1), "width": 32, "stem": "small"}
    convolutions = distinct_convolutions([(name, tiny, 12, 32) for name in MODELS])
    real = distinct_convolutions([(name, {}, 16, 112) for name in ("r3d_18", "r2plus1d_18")])
    convolutions += [c for c in real if c[1][-3:] == (2, 7, 7)]  # where two frames remain
    assert any(c[0][1] == 921 for c in convolutions)
    assert not wrong_gradients(convolutions, max_size=16)


@needs_bf16
@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 8])
def test_bf16_gradients_of_every_convolution(frames):
    """Every signature, with this many frames at its own input, on 4x4 pixels."""
    convolutions = distinct_convolutions([(name, {}, 16, 112) for name in MODELS])
    signatures = sorted({c[0] for c in convolutions if c[0][0].__name__ == "Conv3d"}, key=str)
    assert not wrong_gradients([(s, (s[1], frames, 8, 8)) for s in signatures], max_size=4)


@pytest.mark.parametrize("shape", [(2, 7, 7), (2, 2, 2), (3, 1, 5), (1, 1, 1), (4, 8, 8)])
@pytest.mark.parametrize("stride", [1, (1, 2, 2), 2])
def test_written_padding_changes_nothing_in_fp32(shape, stride):
    torch.manual_seed(0)
    make = type(create_model("r3d_18", 2, **TINY).stem[0])
    layer, x = make(6, 5, 3, stride, 1, bias=False), torch.randn(2, 6, *shape)
    torch.testing.assert_close(layer(x), nn.functional.conv3d(x, layer.weight, None, stride, 1), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("r3d18", {}, "did you mean 'r3d_18'"),
        ("r2plus1d_19", {}, "did you mean 'r2plus1d_18'"),
        ("r3d_18", {"layer": [1]}, "unknown model option 'layer'; did you mean 'layers'"),
        ("r3d_18", {"layers": []}, "layers must be the blocks of 1 to 4 stages"),
        ("r3d_18", {"layers": [1, 1, 1, 1, 1]}, "1 to 4 stages"),
        ("r3d_18", {"layers": [1, 0]}, "each at least 1"),
        ("r3d_18", {"layers": 3}, "layers must be"),
        ("r3d_18", {"width": 0}, "width must be"),
        ("r3d_18", {"width": 1.5}, "width must be"),
        ("r3d_18", {"stem": "big"}, "stem must be one of default, nopool, small"),
        ("r3d_18", {"mid": "paper"}, "r3d_18 has none"),
        ("r2plus1d_18", {"mid": "papers"}, "mid must be one of torchvision, paper"),
        ("f_r2d_18", {"pool": "median"}, "pool must be one of mean, max"),
        ("r3d_18", {"dropout": 1}, "dropout must be"),
        ("r3d_18", {"dropout": "half"}, "dropout must be"),
    ],
)
def test_wrong_options_are_refused(name, overrides, message):
    with pytest.raises(UserError, match=message):
        create_model(name, 5, **overrides)


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, True, None])
def test_wrong_num_classes_is_refused(num_classes):
    with pytest.raises(UserError, match="num_classes"):
        create_model("r3d_18", num_classes)


@pytest.mark.parametrize("name", ["f_r2d_18", "r3d_18"])
@pytest.mark.parametrize("shape", [(3, 8, 32, 32), (2, 8, 3, 32, 32), (2, 1, 3, 8, 32, 32), (2, 3, 0, 32, 32)])
def test_wrong_shapes_are_refused(name, shape):
    with pytest.raises(UserError, match="clips must be B x 3 x T x H x W"):
        create_model(name, 5, **TINY)(torch.zeros(shape))


def test_uint8_clips_are_refused():
    with pytest.raises(UserError, match="floating point"):
        create_model("r3d_18", 5, **TINY)(torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8))
