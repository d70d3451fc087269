"""Map other libraries' names of parameters to ours (torchvision's) by rules.

A layout is a list of (regular expression, replacement), of which the first that matches a whole key applies; a key that
none matches stays as it is, and then shows up as unused in the report. Checked against the libraries' sources:
    vmz            facebookresearch/VMZ pt/vmz/models, moabitcoin/ig65m-pytorch: torchvision's own names
    mmaction2      open-mmlab/mmaction2 mmaction/models/backbones/resnet.py, resnet3d.py, resnet3d_csn.py
    pytorchvideo   pytorchvideo 0.1.5 models/csn.py, resnet.py, stem.py, head.py
    akamaster      akamaster/pytorch_resnet_cifar10 resnet.py; channel_order.py for its shortcuts
"""

import re
from dataclasses import dataclass

BLOCK = r"layer(\d+)\.(\d+)"

FLAT_TO_NESTED = [  # a 2D network's names to those of the same network in 3D
    (r"conv1\.(\w+)", r"stem.0.\1"),
    (r"bn1\.(\w+)", r"stem.1.\1"),
    (rf"{BLOCK}\.conv(\d)\.(\w+)", r"layer\1.\2.conv\3.0.\4"),
    (rf"{BLOCK}\.bn(\d)\.(\w+)", r"layer\1.\2.conv\3.1.\4"),
]

MMACTION2 = [  # mmcv's ConvModule has a `conv` and a `bn`
    (rf"backbone\.{BLOCK}\.downsample\.conv\.(\w+)", r"layer\1.\2.downsample.0.\3"),
    (rf"backbone\.{BLOCK}\.downsample\.bn\.(\w+)", r"layer\1.\2.downsample.1.\3"),
    (r"cls_head\.fc_cls\.(\w+)", r"fc.\1"),
]
MMACTION2_2D = [
    *MMACTION2,
    (r"backbone\.conv1\.conv\.(\w+)", r"conv1.\1"),
    (r"backbone\.conv1\.bn\.(\w+)", r"bn1.\1"),
    (rf"backbone\.{BLOCK}\.conv(\d)\.conv\.(\w+)", r"layer\1.\2.conv\3.\4"),
    (rf"backbone\.{BLOCK}\.conv(\d)\.bn\.(\w+)", r"layer\1.\2.bn\3.\4"),
]
MMACTION2_TSM = [  # in a network that shifts, the first convolution of a block is wrapped
    (rf"backbone\.{BLOCK}\.conv(\d)\.conv\.net\.(\w+)", r"layer\1.\2.conv\3.\4"),
    *MMACTION2_2D,
]
MMACTION2_IR = [  # the wide convolution is a sequence: depthwise alone in ir-CSN
    *MMACTION2,
    (r"backbone\.conv1\.conv\.(\w+)", r"stem.0.\1"),
    (r"backbone\.conv1\.bn\.(\w+)", r"stem.1.\1"),
    (rf"backbone\.{BLOCK}\.conv2\.0\.conv\.(\w+)", r"layer\1.\2.conv2.0.\3"),
    (rf"backbone\.{BLOCK}\.conv2\.0\.bn\.(\w+)", r"layer\1.\2.conv2.1.\3"),
    (rf"backbone\.{BLOCK}\.conv(\d)\.conv\.(\w+)", r"layer\1.\2.conv\3.0.\4"),
    (rf"backbone\.{BLOCK}\.conv(\d)\.bn\.(\w+)", r"layer\1.\2.conv\3.1.\4"),
]
MMACTION2_IP = [  # and 1x1x1, then depthwise, in ip-CSN
    (rf"backbone\.{BLOCK}\.conv2\.0\.conv\.(\w+)", r"layer\1.\2.conv2.0.0.\3"),
    (rf"backbone\.{BLOCK}\.conv2\.0\.bn\.(\w+)", r"layer\1.\2.conv2.0.1.\3"),
    (rf"backbone\.{BLOCK}\.conv2\.1\.conv\.(\w+)", r"layer\1.\2.conv2.0.2.\3"),
    (rf"backbone\.{BLOCK}\.conv2\.1\.bn\.(\w+)", r"layer\1.\2.conv2.1.\3"),
    *MMACTION2_IR,
]
PYTORCHVIDEO_BLOCK = r"blocks\.(\d)\.res_blocks\.(\d+)"
PYTORCHVIDEO = [
    (r"blocks\.0\.conv\.(\w+)", r"stem.0.\1"),
    (r"blocks\.0\.norm\.(\w+)", r"stem.1.\1"),
    (rf"{PYTORCHVIDEO_BLOCK}\.branch1_conv\.(\w+)", r"layer\1.\2.downsample.0.\3"),
    (rf"{PYTORCHVIDEO_BLOCK}\.branch1_norm\.(\w+)", r"layer\1.\2.downsample.1.\3"),
    *[
        (rf"{PYTORCHVIDEO_BLOCK}\.branch2\.{kind}_{letter}\.(\w+)", rf"layer\1.\2.conv{number}.{place}.\3")
        for number, letter in enumerate("abc", 1)
        for place, kind in enumerate(("conv", "norm"))
    ],
    (r"blocks\.5\.proj\.(\w+)", r"fc.\1"),
]
AKAMASTER = [(r"linear\.(\w+)", r"fc.\1"), (rf"{BLOCK}\.shortcut\.(\d)\.(\w+)", r"layer\1.\2.downsample.\3.\4")]
ZOO = [(r"(blocks\..+)", r"net.\1")]  # into a pytorchvideo/... network, which wraps theirs


@dataclass(frozen=True)
class _Layout:
    """How a library writes its weights: the rules, the norms' epsilon, and the preprocessing its own weights had."""

    rules: list
    eps: float
    usual: str


KINETICS = "mean (0.43216, 0.394666, 0.37645), std (0.22803, 0.22145, 0.216989)"
IMAGENET = "mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)"


def detect_layout(name, state, model):
    """Return the layout called `name`.

    The file's names and the model's kind tell a library's own variants apart.
    """
    if name == "torchvision":
        return _Layout([], 1e-5, f"{KINETICS} (video), {IMAGENET} (images)")
    if name == "vmz":  # "exact Caffe2" norms, in pt/vmz/models/utils.py
        return _Layout([], 1e-3, KINETICS)
    if name == "akamaster":
        return _Layout(AKAMASTER, 1e-5, IMAGENET)
    if name == "pytorchvideo":
        return _Layout(
            ZOO if hasattr(model, "net") else PYTORCHVIDEO, 1e-5, "mean (0.45, 0.45, 0.45), std (0.225, 0.225, 0.225)"
        )
    first = state.get("backbone.conv1.conv.weight")
    if first is None or first.ndim == 4:
        shifts = getattr(getattr(model, "design", None), "shift", None)
        return _Layout(MMACTION2_TSM if shifts else MMACTION2_2D, 1e-5, IMAGENET)
    is_ip = any(re.search(r"\.conv2\.1\.conv\.", key) for key in state)
    return _Layout(MMACTION2_IP if is_ip else MMACTION2_IR, 1e-3, KINETICS)


def rename_keys(state, rules):
    """Return `state` under our names."""
    return {_translate_key(key, rules): value for key, value in state.items()}


def _translate_key(key, rules):
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(replacement)
    return key


def guess_layout(state):
    """Return the layout that the names in a file look like, or None."""
    if "linear.weight" in state:
        return "akamaster"
    marks = {"mmaction2": "backbone.", "pytorchvideo": "blocks.", "torchvision": "layer1."}
    return next((name for name, mark in marks.items() if any(key.startswith(mark) for key in state)), None)
