"""Weights from elsewhere: they arrive exactly, or are refused with what differs; nothing is skipped in silence.

The files of other libraries are made from random weights: by their own builders where those are installed (torchvision,
pytorchvideo), else under the names that their sources give (mmaction2, VMZ).
"""

import argparse
import datetime
import os
import re
from copy import deepcopy
from pathlib import PurePosixPath

import pytest
import torch
import torchvision
from helpers.weights import PREPROCESSING, TINY, clips, logits, randomise, refusal, same_states, save
from PIL import Image
from pytorchvideo.models.csn import create_csn
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.functional import to_tensor

from videores.models.registry import create_model
from videores.models.weights import loading

# torchvision


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch hub's cache, as a download would leave it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("ours", "theirs", "name"),
    [
        ("r3d_18", "r3d_18", "KINETICS400_V1"),
        ("r2plus1d_18", "r2plus1d_18", "KINETICS400_V1"),
        ("f_r2d_18", "resnet18", "IMAGENET1K_V1"),
    ],
)
def test_torchvisions_weights_by_name(hub, ours, theirs, name):
    published = torchvision.models.get_model_weights(theirs)[name]
    source = randomise(torchvision.models.get_model(theirs))
    save(source.state_dict(), hub / os.path.basename(published.url))
    model = create_model(ours, len(published.meta["categories"]))
    report = loading.load_weights(model, f"torchvision/{theirs}/{name}", published.meta["categories"])
    assert same_states(model.state_dict(), source.state_dict())
    assert (report.loaded, report.new, report.unused) == (len(source.state_dict()), [], [])
    x = clips(1, 3, 1, 64, 64)
    torch.testing.assert_close(logits(model, x), logits(source, x if ours == theirs else x[:, :, 0]))


def test_another_number_of_classes_starts_a_new_classifier(hub):
    published = torchvision.models.get_model_weights("r3d_18")["KINETICS400_V1"]
    source = randomise(torchvision.models.get_model("r3d_18"))
    save(source.state_dict(), hub / os.path.basename(published.url))
    model = create_model("r3d_18", 101)
    before = {key: value.clone() for key, value in model.fc.state_dict().items()}
    report = loading.load_weights(model, "torchvision/r3d_18/KINETICS400_V1", [f"c{i}" for i in range(101)])
    assert report.new == report.unused == ["fc.weight", "fc.bias"]
    assert same_states(model.fc.state_dict(), before)
    assert torch.equal(model.layer4[1].conv2[0].weight, source.layer4[1].conv2[0].weight)
    assert "new: fc.weight, fc.bias" in str(report)


def test_what_torchvision_knows_of_its_weights_is_compared(hub):
    published = torchvision.models.get_model_weights("r3d_18")["KINETICS400_V1"]
    save(torchvision.models.get_model("r3d_18").state_dict(), hub / os.path.basename(published.url))
    model, source = create_model("r3d_18", 101), "torchvision/r3d_18/KINETICS400_V1"
    report = loading.load_weights(model, source, preprocessing=PREPROCESSING)
    assert report.notes == ["note: fps is None here, 15.0 where it was trained"]
    report = loading.load_weights(model, source, preprocessing=PREPROCESSING | {"crop": 56, "frames": 8})
    assert "note: crop is 56 here, 112 where it was trained" in report.notes
    message = refusal(model, source, preprocessing=PREPROCESSING | {"mean": [0.5, 0.5, 0.5]})
    assert "data.transform.mean=[0.43216, 0.394666, 0.37645]" in message
    assert "std" not in message


def test_a_damaged_download_is_named(hub):
    published = torchvision.models.get_model_weights("r3d_18")["KINETICS400_V1"]
    path = hub / os.path.basename(published.url)
    path.write_bytes(b"not weights")
    message = refusal(create_model("r3d_18", 400), "torchvision/r3d_18/KINETICS400_V1")
    assert str(path) in message
    assert "delete it" in message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("torchvision/r3d_19/KINETICS400_V1", ["no network 'r3d_19'", "did you mean r3d_18"]),
        ("torchvision/r3d_18/KINETICS", ["KINETICS400_V1"]),
        ("torchvision/r3d_18", ["KINETICS400_V1"]),
    ],
)
def test_an_unknown_name_lists_the_known_ones(source, words):
    message = refusal(create_model("r3d_18", 400), source)
    assert [word for word in words if word not in message] == []


def test_weights_of_another_network_are_refused_with_keys_and_shapes(tmp_path):
    path = save(torchvision.models.get_model("r3d_18").state_dict(), tmp_path / "r3d.pth")
    model = create_model("mc3_18", 400)
    before = deepcopy(model.state_dict())
    message = refusal(model, f"torchvision:{path}")
    assert "layer2.0.conv1.0.weight: [128, 64, 3, 3, 3] / [128, 64, 1, 3, 3]" in message
    assert "12 tensors differ" in message
    assert same_states(model.state_dict(), before)


# Whose classifier


@pytest.fixture
def ten(tmp_path):
    return save(randomise(create_model("r3d_18", 10, **TINY)).state_dict(), tmp_path / "ten.pth")


def test_as_many_classes_without_names_must_be_decided(ten):
    names, model = [str(i) for i in range(10)], create_model("r3d_18", 10, **TINY)
    message = refusal(model, f"torchvision:{ten}", names)
    assert "model.head=keep" in message
    assert "model.head=new" in message
    assert loading.load_weights(model, f"torchvision:{ten}", names, head="keep").new == []
    assert loading.load_weights(model, f"torchvision:{ten}", names, head="new").new == ["fc.weight", "fc.bias"]


def test_a_classifier_of_other_classes_cannot_be_kept(ten):
    message = refusal(create_model("r3d_18", 11, **TINY), f"torchvision:{ten}", head="keep")
    assert "10 classes" in message
    assert "11" in message


def test_a_file_without_classifier_needs_a_new_one_asked_for(ten):
    state = torch.load(ten, weights_only=True)
    save({key: value for key, value in state.items() if not key.startswith("fc.")}, ten)
    model = create_model("r3d_18", 11, **TINY)
    assert "fc.weight: absent / [11, 16]" in refusal(model, f"torchvision:{ten}")
    assert loading.load_weights(model, f"torchvision:{ten}", head="new").new == ["fc.weight", "fc.bias"]


def test_temporal_pooling_that_the_configuration_adds_is_new(ten):
    report = loading.load_weights(create_model("r3d_18", 10, pool="attention", **TINY), f"torchvision:{ten}")
    assert report.new
    assert all(key.startswith("pool.") for key in report.new)


def test_older_files_lack_the_norms_counters(ten):
    state = torch.load(ten, weights_only=True)
    save({key: value for key, value in state.items() if "num_batches" not in key}, ten)
    model = create_model("r3d_18", 10, **TINY)
    assert loading.load_weights(model, f"torchvision:{ten}").new == []
    assert torch.equal(model.stem[1].running_var, state["stem.1.running_var"])
    assert model.stem[1].num_batches_tracked == 0


# VMZ and IG-65M: torchvision's names, another epsilon


class Depthwise(nn.Conv3d):
    """What VMZ hands to torchvision's VideoResNet as a convolution: its signature, layers and strides."""

    def __init__(self, cin, cout, mid, stride=1, padding=1):
        super().__init__(cin, cout, 3, stride, padding, groups=cin, bias=False)

    @staticmethod
    def get_downsample_stride(stride):
        return (stride, stride, stride)


class InteractionPreserved(nn.Sequential):
    def __init__(self, cin, cout, mid, stride=1, padding=1):
        narrow = nn.Conv3d(cin, cout, 1, bias=False)
        super().__init__(narrow, nn.BatchNorm3d(cout), Depthwise(cout, cout, mid, stride))

    get_downsample_stride = Depthwise.get_downsample_stride


class Factored(nn.Sequential):
    def __init__(self, cin, cout, mid, stride=1, padding=1):
        mid = 27 * cin * cout // (9 * cin + 3 * cout)
        space = nn.Conv3d(cin, mid, (1, 3, 3), (1, stride, stride), (0, padding, padding), bias=False)
        time = nn.Conv3d(mid, cout, (3, 1, 1), (stride, 1, 1), (padding, 0, 0), bias=False)
        super().__init__(space, nn.BatchNorm3d(mid), nn.ReLU(), time)

    get_downsample_stride = Depthwise.get_downsample_stride


@pytest.mark.parametrize(
    ("name", "options", "block", "maker", "layers", "stem"),
    [
        ("r2plus1d_34", {"mid": "paper"}, "BasicBlock", Factored, [3, 4, 6, 3], "R2Plus1dStem"),
        ("r2plus1d_152", {"mid": "paper"}, "Bottleneck", Factored, [3, 8, 36, 3], "R2Plus1dStem"),
        ("ir_csn_152", {}, "Bottleneck", Depthwise, [3, 8, 36, 3], "BasicStem"),
        ("ip_csn_152", {}, "Bottleneck", InteractionPreserved, [3, 8, 36, 3], "BasicStem"),
    ],
)
def test_vmzs_networks_have_our_names_and_shapes(name, options, block, maker, layers, stem):
    parts = torchvision.models.video.resnet
    with torch.device("meta"):
        theirs = parts.VideoResNet(getattr(parts, block), [maker] * 4, layers, getattr(parts, stem), 400)
        ours = create_model(name, 400, **options)
    shapes = lambda model: [(key, value.shape) for key, value in model.state_dict().items()]
    assert shapes(ours) == shapes(theirs)


@pytest.mark.parametrize(("name", "options"), [("r2plus1d_34", {"mid": "paper"}), ("ir_csn_50", {}), ("ip_csn_50", {})])
def test_vmz_files_evaluate_as_they_did_with_their_epsilon(tmp_path, name, options):
    small = {"layers": [1, 2], "width": 16, **options}
    source = randomise(create_model(name, 7, **small, norm_eps=1e-3))
    path = save(source.state_dict(), tmp_path / "vmz.pth")
    x = clips(2, 3, 4, 32, 32)
    exact, plain = create_model(name, 7, **small), create_model(name, 7, **small)
    loading.load_weights(exact, f"vmz:{path}")
    torch.testing.assert_close(logits(exact, x), logits(source, x), rtol=1e-5, atol=1e-5)
    loading.load_weights(plain, f"torchvision:{path}")
    assert not torch.allclose(logits(plain, x), logits(source, x), rtol=1e-5, atol=1e-5)


def test_vmz_weights_are_taken_as_they_are_by_a_network_of_their_epsilon(tmp_path):
    source = randomise(create_model("ir_csn_50", 7, norm_eps=1e-3, **TINY))
    path = save(source.state_dict(), tmp_path / "vmz.pth")
    model = create_model("ir_csn_50", 7, norm_eps=1e-3, **TINY)
    loading.load_weights(model, f"vmz:{path}")
    assert same_states(model.state_dict(), source.state_dict())


# mmaction2


class ConvModule(nn.Sequential):
    """mmcv's names, and nothing else of it."""

    def __init__(self, conv, norm):
        super().__init__()
        self.add_module("conv", conv)
        self.add_module("bn", norm)


class MmactionBlock(nn.Module):
    """mmaction2's CSN bottleneck (its names and its forward), around the layers of one of ours."""

    def __init__(self, block, mode):
        super().__init__()
        wide, norm = block.conv2[0], block.conv2[1]
        self.conv1 = ConvModule(*block.conv1[:2])
        parts = [ConvModule(wide, norm)] if mode == "ir" else [ConvModule(*wide[:2]), ConvModule(wide[2], norm)]
        self.conv2 = nn.Sequential(*parts)
        self.conv3 = ConvModule(*block.conv3[:2])
        self.downsample = None if block.downsample is None else ConvModule(*block.downsample)

    def forward(self, x):
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class MmactionCSN(nn.Module):
    def __init__(self, ours, mode):
        super().__init__()
        ours = deepcopy(ours)
        self.backbone = nn.Module()
        self.backbone.conv1 = ConvModule(*ours.stem[:2])
        for i, stage in enumerate((ours.layer1, ours.layer2), 1):
            self.backbone.add_module(f"layer{i}", nn.Sequential(*[MmactionBlock(block, mode) for block in stage]))
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = ours.fc

    def forward(self, x):
        b = self.backbone
        x = F.max_pool3d(F.relu(b.conv1(x)), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return self.cls_head.fc_cls(b.layer2(b.layer1(x)).mean((2, 3, 4)))


@pytest.mark.parametrize("mode", ["ir", "ip"])
def test_mmaction2s_csn(tmp_path, mode):
    small = {"layers": [2, 2], "width": 16}
    theirs = randomise(MmactionCSN(create_model(f"{mode}_csn_50", 7, norm_eps=1e-3, **small), mode))
    assert f"backbone.layer1.0.conv2.{0 if mode == 'ir' else 1}.conv.weight" in theirs.state_dict()
    path = save({"meta": {"epoch": 58}, "state_dict": theirs.state_dict()}, tmp_path / "csn.pth")
    model, x = create_model(f"{mode}_csn_50", 7, **small), clips(2, 3, 4, 32, 32)
    assert loading.load_weights(model, f"mmaction2:{path}").unused == []
    torch.testing.assert_close(logits(model, x), logits(theirs, x), rtol=1e-5, atol=1e-5)


def mmaction2_2d(state, wrapped=""):
    """A 2D network's state under mmaction2's names; `wrapped` is what TSM adds."""
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"(layer\d\.\d+\.conv1)\.", rf"\1.conv{wrapped}.", key)
        key = re.sub(r"(layer\d\.\d+\.conv[23])\.", r"\1.conv.", key)
        key = re.sub(r"^conv1\.", "conv1.conv.", key)
        key = re.sub(r"\bbn(\d)\.", r"conv\1.bn.", key)
        key = key.replace("downsample.0", "downsample.conv").replace("downsample.1", "downsample.bn")
        renamed[f"cls_head.fc_cls.{key[3:]}" if key.startswith("fc.") else f"backbone.{key}"] = value
    return renamed


def test_mmaction2s_2d_networks(tmp_path):
    source = randomise(create_model("f_r2d_50", 7, **TINY))
    path = save({"state_dict": mmaction2_2d(source.state_dict())}, tmp_path / "tsn.pth")
    model = create_model("f_r2d_50", 7, **TINY)
    loading.load_weights(model, f"mmaction2:{path}")
    assert same_states(model.state_dict(), source.state_dict())


def test_mmaction2s_tsm_goes_into_a_network_that_shifts_alone(tmp_path):
    source = randomise(create_model("f_r2d_50", 7, shift=8, **TINY))
    path = save({"state_dict": mmaction2_2d(source.state_dict(), ".net")}, tmp_path / "tsm.pth")
    model = create_model("f_r2d_50", 7, shift=8, **TINY)
    loading.load_weights(model, f"mmaction2:{path}")
    assert same_states(model.state_dict(), source.state_dict())
    message = refusal(create_model("f_r2d_50", 7, **TINY), f"mmaction2:{path}")
    assert "backbone.layer1.0.conv1.conv.net.weight" in message


def test_mmaction2s_r2plus1d_is_another_network_than_the_papers(tmp_path):
    """Its stem has 83 inner channels and its shortcuts are (2+1)D."""
    state = {
        "backbone.conv1.conv.conv_s.weight": torch.zeros(83, 3, 1, 7, 7),
        "backbone.conv1.conv.conv_t.weight": torch.zeros(64, 83, 3, 1, 1),
        "cls_head.fc_cls.weight": torch.zeros(400, 512),
    }
    path = save({"state_dict": state}, tmp_path / "r2plus1d.pth")
    assert "tensors differ" in refusal(create_model("r2plus1d_34", 400, mid="paper"), f"mmaction2:{path}")


# pytorchvideo


def test_pytorchvideos_csn_101(tmp_path):
    theirs = randomise(create_csn(model_depth=101, stem_pool=nn.MaxPool3d, head_pool_kernel_size=(1, 2, 2)))
    path = save({"model_state": theirs.state_dict()}, tmp_path / "CSN_32x2_R101.pyth")
    model, x = create_model("ir_csn_101", 400), clips(1, 3, 8, 64, 64)
    report = loading.load_weights(model, f"pytorchvideo:{path}")
    assert (report.new, report.unused) == ([], [])
    assert report.loaded == len(model.state_dict())
    torch.testing.assert_close(logits(model, x), logits(theirs, x), rtol=1e-4, atol=1e-5)


def test_pytorchvideos_file_into_its_own_network(tmp_path):
    source = randomise(create_model("pytorchvideo/x3d_xs", 7))
    path = save({"model_state": source.net.state_dict()}, tmp_path / "X3D_XS.pyth")
    model = create_model("pytorchvideo/x3d_xs", 7)
    loading.load_weights(model, f"pytorchvideo:{path}", head="keep")
    assert same_states(model.state_dict(), source.state_dict())
    fewer = create_model("pytorchvideo/x3d_xs", 3)
    assert loading.load_weights(fewer, f"pytorchvideo:{path}").new == [
        "net.blocks.5.proj.weight",
        "net.blocks.5.proj.bias",
    ]


# Inflation

PAIRS = [("f_r2d_18", "r3d_18"), ("f_r2d_18", "mc3_18"), ("f_r2d_50", "r3d_50"), ("f_resnext50_32x4d", "resnext3d_50")]
SMALL = {"layers": [1, 2], "width": 32, "stem": "pool"}


def still(frames, seed=0):
    """A clip of one frame repeated, and the frame as a clip."""
    frame = clips(2, 3, 1, 48, 48, seed=seed)
    return frame.expand(-1, -1, frames, -1, -1), frame


def inflate(tmp_path, flat_name, name, how, **options):
    flat = randomise(create_model(flat_name, 7, **(SMALL | options)))
    path = save(flat.state_dict(), tmp_path / "flat.pth")
    solid = create_model(name, 7, **(SMALL | options))
    loading.load_weights(solid, f"torchvision:{path}", inflate=how)
    return flat, solid


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
@pytest.mark.parametrize(("flat_name", "name"), PAIRS)
def test_centre_inflation_on_a_still_clip_equals_the_2d_network(tmp_path, flat_name, name, frames):
    flat, solid = inflate(tmp_path, flat_name, name, "centre")
    clip, frame = still(frames)
    torch.testing.assert_close(logits(solid, clip), logits(flat, frame), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [4, 8])
@pytest.mark.parametrize(("flat_name", "name"), PAIRS)
def test_mean_inflation_equals_it_too_where_the_padding_repeats_the_ends(tmp_path, flat_name, name, frames):
    flat, solid = inflate(tmp_path, flat_name, name, "mean")
    for module in solid.modules():
        if isinstance(module, nn.Conv3d) and module.padding[0]:
            repeat_ends(module)
    clip, frame = still(frames)
    torch.testing.assert_close(logits(solid, clip), logits(flat, frame), rtol=1e-4, atol=1e-5)


def repeat_ends(conv):
    """Pads time with copies of the first and last frame instead of zeros."""
    t = conv.padding[0]
    conv.padding = (0, *conv.padding[1:])
    conv.register_forward_pre_hook(lambda _, x: F.pad(x[0], (0, 0, 0, 0, t, t), mode="replicate"))


def test_mean_inflation_equals_the_2d_network_in_frames_that_no_kernel_carries_over_the_ends(tmp_path):
    """Three 3x3x3 convolutions reach three frames: the first and last three see zeros beyond the clip, and differ."""
    flat, solid = inflate(tmp_path, "f_r2d_18", "r3d_18", "mean", layers=[1])
    clip, frame = still(9)
    with torch.no_grad():
        ours_BTD, theirs_BTD = solid.eval().features(clip), flat.eval().features(frame)
    torch.testing.assert_close(ours_BTD[:, 3:6], theirs_BTD.expand(-1, 3, -1), rtol=1e-4, atol=1e-5)
    assert all((ours_BTD[:, t] - theirs_BTD[:, 0]).abs().max() > 1e-2 for t in (0, 1, 2, 6, 7, 8))


def inflate_cifar(path, how):
    """The CIFAR network of a file, and its inflation into 3D."""
    flat, solid = create_model("cifar2d_20", 10), create_model("cifar3d_20", 10)
    loading.load_weights(flat, f"torchvision:{path}")
    loading.load_weights(solid, f"torchvision:{path}", inflate=how)
    return flat, solid


@pytest.mark.parametrize("weights", ["random", "real"])
def test_inflated_cifar_networks_answer_still_clips_as_in_2d_only_with_centre(tmp_path, request, weights):
    """Mean inflation loses a third at both ends of the clip in each of 19 layers."""
    if weights == "real":
        data = request.getfixturevalue("shared_data")
        path = data / "weights" / "cifar_resnet20.pth"
        pictures = sorted((data / "cifar10-jpeg" / "test").glob("*/*.jpg"))[::20]
        frame = torch.stack([to_tensor(Image.open(picture)) for picture in pictures])[:, :, None]
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 1, 3, 1, 1, 1)
        frame = (frame - mean) / std
    else:
        path = save(randomise(create_model("cifar2d_20", 10)).state_dict(), tmp_path / "flat.pth")
        frame = clips(50, 3, 1, 32, 32)
    answers = {}
    for how in ("centre", "mean"):
        flat, solid = inflate_cifar(path, how)
        answers[how], truth = logits(solid, frame.expand(-1, -1, 4, -1, -1)), logits(flat, frame)
    torch.testing.assert_close(answers["centre"], truth, rtol=1e-5, atol=5e-5)
    assert (answers["mean"] - truth).abs().max() > 0.1 * truth.abs().max()


def test_mean_inflation_divides_by_the_frames(tmp_path):
    flat, solid = inflate(tmp_path, "f_r2d_18", "r3d_18", "mean")
    torch.testing.assert_close(solid.stem[0].weight.sum(2), flat.conv1.weight)
    assert torch.equal(solid.stem[0].weight[:, :, 0], flat.conv1.weight / 3)


def test_inflation_is_by_centre_unless_asked_and_only_of_2d_networks(tmp_path):
    path = save(create_model("f_r2d_18", 7, **SMALL).state_dict(), tmp_path / "flat.pth")
    by_default, centre = create_model("r3d_18", 7, **SMALL), create_model("r3d_18", 7, **SMALL)
    report = loading.load_weights(by_default, f"torchvision:{path}")
    assert any("model.inflate=centre" in note for note in report.notes)
    loading.load_weights(centre, f"torchvision:{path}", inflate="centre")
    assert same_states(by_default.state_dict(), centre.state_dict())
    for name in ("f_r2d_18", "r2plus1d_18"):
        assert refusal(create_model(name, 7, **SMALL), f"torchvision:{path}", inflate="mean")
    assert "is for 2D weights" in refusal(create_model("f_r2d_18", 7, **SMALL), f"torchvision:{path}", inflate="mean")


@pytest.mark.parametrize(("option", "known"), [({"inflate": "center"}, "mean, centre"), ({"head": "old"}, "keep, new")])
def test_unknown_choices_are_refused(tmp_path, option, known):
    path = save(create_model("f_r2d_18", 7, **SMALL).state_dict(), tmp_path / "flat.pth")
    assert known in refusal(create_model("r3d_18", 7, **SMALL), f"torchvision:{path}", **({"inflate": "mean"} | option))


# Bad files


class Code:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("prefix", ["", "torchvision:", "mmaction2:"])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, prefix):
    trace = tmp_path / "ran"
    path = save({"state_dict": create_model("r3d_18", 7, **TINY).state_dict(), "meta": Code(trace)}, tmp_path / "evil")
    assert "evil" in refusal(create_model("r3d_18", 7, **TINY), f"{prefix}{path}")
    assert not trace.exists()


@pytest.mark.parametrize("container", [None, "state_dict", "model_state", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module."])
def test_wrappers_and_containers_of_trainers_are_taken_off(tmp_path, container, prefix):
    state = randomise(create_model("r3d_18", 7, **TINY)).state_dict()
    content = {prefix + key: value for key, value in state.items()}
    path = save({container: content, "epoch": 3} if container else content, tmp_path / "file.pth")
    model = create_model("r3d_18", 7, **TINY)
    assert loading.load_weights(model, f"torchvision:{path}", head="keep").loaded == len(state)
    assert same_states(model.state_dict(), state)


def test_a_compiled_network_takes_weights(ten):
    model = create_model("r3d_18", 10, **TINY)
    loading.load_weights(torch.compile(model), f"torchvision:{ten}", head="keep")
    assert same_states(model.state_dict(), torch.load(ten, weights_only=True))


def test_what_is_not_shared_by_all_names_stays_and_both_sides_are_shown(tmp_path):
    state = create_model("r3d_18", 7, **TINY).state_dict()
    content = {f"model.{key}": value for key, value in state.items()} | {"criterion.weight": torch.zeros(7)}
    path = save(content, tmp_path / "file.pth")
    message = refusal(create_model("r3d_18", 7, **TINY), f"torchvision:{path}")
    assert f"{2 * len(state) + 1} tensors differ" in message
    assert "\n  model.stem.0.weight: " in message
    assert "\n  stem.0.weight: absent / " in message


@pytest.mark.parametrize("name", ["argparse.Namespace", "pathlib.PurePosixPath", "datetime.date", "TorchScript"])
def test_objects_are_named_with_how_to_save_the_tensors(tmp_path, name):
    model = create_model("r3d_18", 7, **TINY).eval()
    objects = {
        "argparse.Namespace": argparse.Namespace(lr=0.1),
        "pathlib.PurePosixPath": PurePosixPath("x"),
        "datetime.date": datetime.date(2024, 1, 1),
    }
    path = tmp_path / "file.pth"
    if name == "TorchScript":
        with torch.no_grad():
            torch.jit.trace(model, torch.zeros(1, 3, 8, 32, 32)).save(path)
    else:
        save({"model": model.state_dict(), "args": objects[name]}, path)
    message = refusal(model, f"torchvision:{path}")
    assert name in message
    assert "state_dict()" in message
    assert not {"weights_only", "add_safe_globals", "re-running"} & {*message.split()}
    assert "\n" not in message


@pytest.mark.parametrize("size", [0, 10, 1000, -10])
def test_a_truncated_file_is_refused(ten, size):
    ten.write_bytes(ten.read_bytes()[:size])
    assert "ten.pth is not a checkpoint that loads safely" in refusal(create_model("r3d_18", 10, **TINY), f"vmz:{ten}")


def test_a_flipped_bit_is_refused(ten):
    """torch reads it without a word, as another number."""
    content = bytearray(ten.read_bytes())
    content[len(content) // 2] ^= 4
    ten.write_bytes(content)
    torch.load(ten, weights_only=True)
    assert "ten.pth is damaged: a checksum is wrong" in refusal(create_model("r3d_18", 10, **TINY), f"vmz:{ten}")


def test_files_from_before_torch_1_6_have_no_checksums(ten):
    state = torch.load(ten, weights_only=True)
    torch.save(state, ten, _use_new_zipfile_serialization=False)
    assert loading.load_weights(create_model("r3d_18", 10, **TINY), f"torchvision:{ten}").loaded == len(state)


def test_a_missing_file_is_named(tmp_path):
    assert "there is no checkpoint" in refusal(create_model("r3d_18", 7, **TINY), f"vmz:{tmp_path / 'none'}")
    assert "there is no checkpoint" in refusal(create_model("r3d_18", 7, **TINY), tmp_path / "none")


@pytest.mark.parametrize("content", [{}, [1], {"state_dict": {}}, {"a": 1}, torch.zeros(2), None], ids=repr)
def test_a_file_without_weights_is_refused(tmp_path, content):
    path = save(content, tmp_path / "file.pth")
    assert "names of parameters" in refusal(create_model("r3d_18", 7, **TINY), f"torchvision:{path}")
    assert "whose file" in refusal(create_model("r3d_18", 7, **TINY), path)


@pytest.mark.parametrize(
    ("key", "looks"), [("backbone.conv1.conv.weight", "mmaction2"), ("blocks.0.conv.weight", "pytorchvideo")]
)
def test_a_file_of_another_library_asks_for_its_name(tmp_path, key, looks):
    path = save({"state_dict": {key: torch.zeros(2)}}, tmp_path / "file.pth")
    message = refusal(create_model("r3d_18", 7, **TINY), path)
    assert f"look like {looks}'s" in message
    assert f"{looks}:{path}" in message
