"""The networks against torchvision's: names, outputs, gradients, initialisation; their stems; and what is refused."""

from dataclasses import fields

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.video import resnet as video

from videores.config import parse, schema
from videores.config.network import NetworkOptions
from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.resnet import MODELS

TINY = {"layers": (1, 1, 1), "width": 16, "stem": "small"}


class Depthwise(nn.Conv3d):
    """A convolution for torchvision's VideoResNet, as VMZ's ir-CSN has it."""

    def __init__(self, cin, cout, midplanes, stride=1, padding=1):
        super().__init__(cin, cout, 3, stride, padding, groups=cin, bias=False)

    @staticmethod
    def get_downsample_stride(stride):
        return (stride,) * 3


class AfterPointwise(nn.Sequential):
    """The same of ip-CSN."""

    def __init__(self, cin, cout, midplanes, stride=1):
        super().__init__(nn.Conv3d(cin, cout, 1, bias=False), nn.BatchNorm3d(cout), Depthwise(cout, cout, None, stride))

    get_downsample_stride = Depthwise.get_downsample_stride


IMAGE = {f"f_r2d_{n}": f"resnet{n}" for n in (18, 34, 50, 101, 152)}
IMAGE |= {f"f_{name}": name for name in ("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2")}
VIDEO_CONVS = {
    "r3d": [video.Conv3DSimple] * 4,
    **{f"mc{x}": [video.Conv3DSimple] * (x - 2) + [video.Conv3DNoTemporal] * (6 - x) for x in (2, 3, 4, 5)},
    "r2plus1d": [video.Conv2Plus1D] * 4,
    "ir_csn": [Depthwise] * 4,
    "ip_csn": [AfterPointwise] * 4,
}
DEPTHS = {
    "18": (video.BasicBlock, [2, 2, 2, 2]),
    "34": (video.BasicBlock, [3, 4, 6, 3]),
    "50": (video.Bottleneck, [3, 4, 6, 3]),
    "26": (video.Bottleneck, [2, 2, 2, 2]),
    "101": (video.Bottleneck, [3, 4, 23, 3]),
    "152": (video.Bottleneck, [3, 8, 36, 3]),
}
VIDEO = [name for name in MODELS if name.rsplit("_", 1)[0] in VIDEO_CONVS]


def torchvision_twin(name, num_classes, layers=None):
    if name in IMAGE:
        return getattr(torchvision.models, IMAGE[name])(num_classes=num_classes)
    family, depth = name.rsplit("_", 1)
    block, counts = DEPTHS[depth]
    stem = video.R2Plus1dStem if family == "r2plus1d" else video.BasicStem
    return video.VideoResNet(block, VIDEO_CONVS[family], layers or counts, stem, num_classes)


def twin_logits(twin, clips_BCTHW):
    """Those of torchvision's network; a 2D one sees every frame, and its logits are averaged."""
    if isinstance(twin, video.VideoResNet):
        return twin(clips_BCTHW)
    return twin(clips_BCTHW.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clips_BCTHW), -1)).mean(1)


# ------------------------------------------------------------------------------------------ parity with torchvision


@pytest.mark.parametrize("name", [*IMAGE, *VIDEO])
def test_names_shapes_and_order_are_torchvisions(name):
    with torch.device("meta"):
        model, twin = create_model(name, 400), torchvision_twin(name, 400)
    for ours, theirs in [(model.named_parameters(), twin.named_parameters()), (model.state_dict(), twin.state_dict())]:
        ours, theirs = dict(ours), dict(theirs)
        assert [(key, value.shape) for key, value in ours.items()] == [(key, v.shape) for key, v in theirs.items()]


# each kind of block once a stage, twice in the first; the test of names and shapes has all depths
FEW = [2, 1, 1, 1]


@pytest.mark.parametrize("name", ["f_r2d_18", "f_r2d_50", "f_resnext50_32x4d", "f_wide_resnet50_2"])
def test_outputs_and_gradients_of_2d_networks_are_torchvisions(name):
    torch.manual_seed(0)
    twin = torchvision_twin(name, 10)
    for stage in (twin.layer1, twin.layer2, twin.layer3, twin.layer4):
        del stage[2 if stage is twin.layer1 else 1 :]
    assert_equal(create_model(name, 10, layers=FEW), twin)


@pytest.mark.parametrize(
    "name", [*("r3d_18", "mc3_18", "r2plus1d_18"), *(f"{n}_50" for n in ("r3d", "mc3", "r2plus1d", "ir_csn", "ip_csn"))]
)
def test_outputs_and_gradients_of_3d_networks_without_a_stem_pool_are_torchvisions(name):
    torch.manual_seed(0)
    stem = {"stem": "nopool"} if name.endswith("50") else {}
    assert_equal(create_model(name, 10, **stem, layers=FEW), torchvision_twin(name, 10, layers=FEW))


def assert_equal(model, twin):
    """With torchvision's random weights, loaded strictly both ways, in both modes.

    In training mode in float64: in float32 the gradients of some networks with random weights are right to 1e-3 only,
    ours and torchvision's alike.
    """
    model.load_state_dict(twin.state_dict(), strict=True)
    twin.load_state_dict(model.state_dict(), strict=True)
    clips_BCTHW = torch.randn(2, 3, 1 if model.dim == 2 else 2, 48, 48)
    with torch.no_grad():
        ours_BN, theirs_BN = model.eval()(clips_BCTHW), twin_logits(twin.eval(), clips_BCTHW)
    assert (ours_BN - theirs_BN).norm() <= 1e-5 * theirs_BN.norm()
    model, twin, clips_BCTHW = model.double(), twin.double(), clips_BCTHW.double()
    for training in (False, True):
        ours = logits_and_gradients(model.train(training), model, clips_BCTHW)
        theirs = logits_and_gradients(twin.train(training), lambda x: twin_logits(twin, x), clips_BCTHW)
        for key, expected in theirs.items():
            assert (ours[key] - expected).norm() <= 1e-5 * expected.norm(), (key, training)


def logits_and_gradients(model, forward, clips_BCTHW):
    model.zero_grad()
    logits_BN = forward(clips_BCTHW)
    nn.functional.cross_entropy(logits_BN, torch.tensor([1, 2])).backward()
    return {"logits": logits_BN.detach()} | {key: p.grad for key, p in model.named_parameters()}


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


# ------------------------------------------------------------------------------------------ stems and other choices


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


def test_cifar_stem_keeps_the_size():
    with torch.device("meta"):
        model = create_model("cifar3d_20", 10)
        assert model.stem(torch.empty(1, 3, 8, 32, 32)).shape == (1, 16, 8, 32, 32)


def test_time_strides_follow_the_convolutions():
    with torch.device("meta"):
        model = create_model("r3d_18", 5, conv=("3d", "1x3x3", "2plus1d", "1x3x3"))
        assert model.features(torch.empty(1, 3, 16, 64, 64)).shape[1] == 8


def test_the_stem_may_have_a_convolution_of_its_own():
    with torch.device("meta"):
        model, same = create_model("r3d_18", 5, conv=("1x3x3", *["3d"] * 4)), create_model("rmc2_18", 5)
    assert model.design == same.design


def test_mid_is_the_inner_width_of_a_3x3_stem():
    with torch.device("meta"):
        options = {"conv": ("2plus1d", "3d", "3d", "3d", "3d"), "stem": "small"}
        assert create_model("r3d_18", 5, **options, mid="none").stem[0].out_channels == 64


def test_preact_keeps_bottlenecks():
    with torch.device("meta"):
        assert create_model("r3d_50", 5, block="preact").design.block == "preact_bottleneck"
        assert create_model("r3d_18", 5, block="preact").design.block == "preact"


@pytest.mark.parametrize(("block", "layers"), [("preact", 27), ("preact_bottleneck", 18)])
def test_a_cifar_name_counts_the_layers_of_either_block(block, layers):
    with torch.device("meta"):
        assert create_model("cifar2d_164", 10, block=block).design.layers == (layers,) * 3


def test_head_dropouts_act_in_training_only():
    for key in ("dropout", "spatial_dropout"):
        model, clips_BCTHW = create_model("r3d_18", 5, **TINY, **{key: 0.9}), torch.randn(1, 3, 4, 32, 32)
        features_BTD = model.features(clips_BCTHW).detach()
        assert not torch.equal(model.head(features_BTD), model.head(features_BTD))
        assert torch.equal(model.eval().head(features_BTD), model.head(features_BTD))


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("r3d18", {}, "did you mean r3d_18"),
        ("slowfast", {}, "did you mean pytorchvideo/slowfast_r50"),
        ("r2plus1d_19", {}, "did you mean r2plus1d_18"),
        ("cifar2d_21", {}, "the depth is 6n.2, such as 20"),
        ("cifar2d_2", {}, "the depth is 6n.2"),
        ("cifar2d_32", {"block": "bottleneck"}, "the depth is 9n.2"),
        ("r3d_18", {"layer": [1]}, "layer: .*did you mean layers"),
        ("r3d_18", {"layers": []}, "layers: "),
        ("r3d_18", {"layers": [1, 1, 1, 1, 1]}, "layers: .*at most 4"),
        ("r3d_18", {"layers": [1, 0]}, "layers: .*equal to 1"),
        ("r3d_18", {"layers": [1, True]}, "layers: "),
        ("r3d_18", {"layers": 3}, "layers: "),
        ("r3d_18", {"width": 0}, "width: "),
        ("r3d_18", {"width": 1.5}, "width: "),
        ("r3d_18", {"width": True}, "width: "),
        ("r3d_18", {"width": "64"}, "width: "),
        ("r3d_18", {"stem": "big"}, "stem: .*nopool.*pool.*small.*cifar.*got 'big'"),
        ("r3d_18", {"conv": "4d"}, "conv: .*2d.*3d.*1x3x3.*2plus1d"),
        ("r3d_18", {"conv": []}, "conv "),
        ("r3d_18", {"conv": ["3d", "3d"]}, "conv .*4 stages.*got 2"),
        ("r3d_18", {"conv": ["2d", "3d", "3d", "3d"]}, "conv .*2d.*1x3x3"),
        ("r2d_18", {"frames": 8, "conv": "3d"}, "conv .*2d"),
        ("r3d_18", {"mid": "paper"}, "r3d_18: mid .*2plus1d"),
        ("r3d_18", {"mid": "paper", "conv": ["2plus1d", *["3d"] * 4]}, "mid .*7x7"),
        ("r2plus1d_18", {"mid": "papers"}, "mid: .*torchvision.*paper.*round8.*none"),
        ("r2plus1d_50", {"mid": "paper", "connect": "depthwise"}, "mid .*connect.*depthwise"),
        ("r3d_18", {"connect": "depthwise"}, "connect=depthwise .*bottlenecks"),
        ("r3d_18", {"connect": "ip"}, "connect=ip .*bottlenecks"),
        ("r3d_50", {"connect": "depthwise", "groups": 4}, "groups .*connect=depthwise, got 4"),
        ("resnext3d_50", {"connect": "depthwise"}, "groups .*connect=depthwise, got 32"),
        ("r3d_18", {"groups": 64}, "groups .*< 64"),
        ("r3d_18", {"groups": 3}, "groups .*64 channels.*got 3"),
        ("r3d_50", {"groups": 48}, "groups .*got 48"),
        ("r3d_18", {"base_width": 4}, "base_width .*bottlenecks"),
        ("f_resnext50_32x4d", {"width": 8}, "width .*base_width=4.*got 8"),
        ("r3d_18", {"stride_in": "conv1"}, "stride_in .*bottlenecks"),
        ("r3d_50", {"stride_in": "conv1", "layers": [2]}, "stride_in .*stages"),
        ("r3d_18", {"shortcut": "D"}, "shortcut: .*'A', 'B', 'C' or 'none'"),
        ("plain3d_18", {"block": "preact"}, "preact .*shortcut=none"),
        ("plain3d_18", {"drop_path": 0.1}, "drop_path .*shortcut=none"),
        ("plain3d_18", {"zero_init": True}, "zero_init .*shortcut=none"),
        ("r3d_18", {"zero_init": True, "block": "preact"}, "zero_init .*preact"),
        ("r3d_18", {"zero_init": True, "norm": "none"}, "zero_init .*norm=none"),
        ("r3d_18", {"zero_init": True, "norm": "frozen"}, "zero_init .*norm=frozen"),
        ("r3d_18", {"norm": "none", "norm_eps": 1e-3}, "norm_eps .*norm=none"),
        ("r3d_18", {"norm": "layer"}, "norm: .*batch.*group.*frozen.*none"),
        ("r3d_18", {"shift": 8}, "shift .*2D"),
        ("f_r2d_18", {"shift": 1}, "shift: .*equal to 2"),
        ("f_r2d_18", {"shift": 8, "width": 4}, "shift .*4.*got 8"),
        ("f_r2d_18", {"causal": True}, "causal .*shift=null"),
        ("f_r2d_18", {"shift": 8, "causal": True, "stage_pool": True}, "causal .*stage_pool"),
        ("r3d_18", {"shift": 8, "causal": True}, "shift .*2D"),
        ("r3d_18", {"stage_pool": True}, "stage_pool .*2D"),
        ("f_r2d_18", {"stage_pool": True, "layers": [2]}, "stage_pool .*stages"),
        ("r2d_18", {}, "frames .*r2d"),
        ("r2d_18", {"frames": 8, "pool": "max"}, "pool .*mean.*got max"),
        ("f_r2d_18", {"pool": "weights"}, "frames .*pool=weights"),
        ("r3d_18", {"frames": 8}, "frames .*r2d or pool=weights"),
        ("f_r2d_18", {"pool": "gem", "consensus": "logits"}, "pool=gem .*consensus=logits"),
        ("f_r2d_18", {"pool": "median"}, "pool: .*mean.*max.*gem.*attention.*weights.*conv.*lstm"),
        ("r3d_18", {"dropout": 1}, "dropout: "),
        ("r3d_18", {"dropout": "half"}, "dropout: "),
        ("r3d_18", {"zero_init": 2}, "zero_init: "),
        ("r3d_18", {"checkpoint": "all"}, "checkpoint: .*none.*stages"),
        ("pytorchvideo/slow_r50", {"width": 8}, "takes dropout, widths and no other override"),
    ],
)
def test_wrong_options_are_refused(name, overrides, message):
    with pytest.raises(UserError, match=message):
        create_model(name, 5, **overrides)


def test_an_override_of_none_changes_nothing():
    keys = dict.fromkeys(field.name for field in fields(NetworkOptions))
    assert schema.ModelConfig(name="r3d_18", **keys).overrides() == {}
    with torch.device("meta"):
        assert create_model("f_r2d_18", 5, **keys).design == MODELS["f_r2d_18"]


@pytest.mark.parametrize(("key", "value"), [("stem", "big"), ("conv", "4d"), ("groups", 0), ("control", "gated")])
def test_a_configuration_and_create_model_refuse_the_same_values(key, value):
    with pytest.raises(UserError) as by_create_model:
        create_model("r3d_18", 5, **{key: value})
    with pytest.raises(UserError) as by_config:
        parse.load_config("r3d_ucf101.yaml", [f"model.{key}={value}"])
    refusal = str(by_config.value).partition("\n")[2].replace("model.", "")
    assert str(by_create_model.value).partition("\n")[2] == refusal


def test_a_network_made_for_another_clip_length_is_refused_with_the_configuration():
    overrides = ["model.name=r2d_18", "model.frames=8", "data.clip.frames=16"]
    with pytest.raises(UserError, match=r"model\.frames.*data\.clip\.frames"):
        parse.load_config("f_r2d_ucf101.yaml", overrides)
    cfg = parse.load_config("f_r2d_ucf101.yaml", [*overrides[:2], "data.clip.frames=8"])
    assert create_model(cfg.model.name, 5, **cfg.model.overrides()).conv1.in_channels == 24


def test_conv_may_be_a_word_or_a_list_in_a_configuration():
    for text, expected in (("1x3x3", ("1x3x3",) * 5), ("[3d, 1x3x3, 3d, 3d]", ("3d", "3d", "1x3x3", "3d", "3d"))):
        cfg = parse.load_config("r3d_ucf101.yaml", [f"model.conv={text}"])
        with torch.device("meta"):
            assert create_model(cfg.model.name, 5, **cfg.model.overrides()).design.conv == expected


def test_r2d_refuses_another_number_of_frames():
    model = create_model("r2d_18", 5, **TINY, frames=8)
    with pytest.raises(UserError, match="has 8 frames as channels and got a clip of 4"):
        model(torch.zeros(1, 3, 4, 32, 32))


def test_branches_of_different_shape_are_refused_where_torch_would_broadcast():
    block = create_model("f_r2d_18", 5, **TINY).layer1[0]
    block.downsample = nn.Conv2d(16, 1, 1)
    with pytest.raises(UserError, match=r"branch puts out \(1, 16, 8, 8\), its shortcut \(1, 1, 8, 8\)"):
        block(torch.zeros(1, 16, 8, 8), 1)


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
