"""Residual networks over clips: stem -> layer1..4 -> mean over H and W -> temporal pooling -> fc.

A network is a row of the table at the end: its block, and the blocks and the convolution of each stage.
    f_r2d      2D convolutions, on every frame alone                          He et al. 2015, arXiv:1512.03385
    r3d        3x3x3                                                          Tran et al. 2018, arXiv:1711.11248
    mc3        3x3x3 up to layer1 (the paper's conv2), 1x3x3 from layer2 on   the same
    r2plus1d   1x3x3 in space, norm, relu, 3x1x1 in time                      the same
    *_50       bottlenecks; in 3D with the stem max-pool of                   Tran et al. 2019, arXiv:1904.02811

Parameters have torchvision's names, shapes and order, so public weights load with strict=True, both ways. There are two
styles of names, flat in 2D (layer1.0.bn1.weight) and nested in 3D (layer1.0.conv1.1.weight); `named` knows them.

Shapes: B clips, C channels, T frames, H x W pixels, D features, N classes. A stride is (time, space).
"""

from contextlib import nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from videores.errors import UserError
from videores.models.temporal import POOLS


def make_stem(make, kind, width):
    """The first layers, by name. They halve H and W (quarter them: "pool") and keep T.

    "small" is 3x3 in space, for clips of about 32x32 pixels; the others are 7x7, in (2+1)D with the paper's 45 channels
    between space and time when the width is 64.
    """
    size, mid = (3, None) if kind == "small" else (7, max(45 * width // 64, 1))
    first = make(3, width, (1, 2), mid=mid, size=size)
    if make is conv2d:
        pool = {"maxpool": nn.MaxPool2d(3, 2, 1)} if kind == "pool" else {}
        return {"conv1": first, "bn1": norm(2, width), "relu": relu(), **pool}
    pool = [nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))] if kind == "pool" else []
    first = first if make is conv2plus1d else [first]  # a sequence, which torchvision has unnested in the stem
    return {"stem": nn.Sequential(*first, norm(3, width), relu(), *pool)}


# Convolutions. The wide ones are called make(cin, cout, stride, mid, size): `mid` is the inner width of (2+1)D, `size`
# the kernel's height and width.


def conv2d(cin, cout, stride=(1, 1), mid=None, size=3):
    return conv(cin, cout, (size, size), stride[1])


def conv3d(cin, cout, stride=(1, 1), mid=None, size=3):
    t, s = stride
    return conv(cin, cout, (3, size, size), (t, s, s))


def conv1x3x3(cin, cout, stride=(1, 1), mid=None, size=3):
    t, s = stride
    return conv(cin, cout, (1, size, size), (t, s, s))


def conv2plus1d(cin, cout, stride=(1, 1), mid=None, size=3):
    t, s = stride
    mid = mid or factor_width(cin, cout)
    space, time = conv(cin, mid, (1, size, size), (1, s, s)), conv(mid, cout, (3, 1, 1), (t, 1, 1))
    return nn.Sequential(space, norm(3, mid), relu(), time)


def factor_width(cin, cout):
    """The inner width that gives a (2+1)D convolution the parameter count of a 3x3x3 one (Tran et al. 2018)."""
    return 27 * cin * cout // (9 * cin + 3 * cout)


def pointwise(dim, cin, cout, stride=(1, 1)):
    t, s = stride
    return conv(cin, cout, (1,) * dim, (t, s, s)[-dim:])


def conv(cin, cout, kernel, stride):
    """A convolution that keeps the size / stride; the kernel's length says whether it is 2D or 3D."""
    make = Conv2d if len(kernel) == 2 else Conv3d
    return make(cin, cout, kernel, stride, tuple(k // 2 for k in kernel), bias=False)


class Conv2d(nn.Conv2d):
    def forward(self, x):
        x, padding = write_padding(x, self.padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(nn.Conv3d):
    def forward(self, x):
        x, padding = write_padding(x, self.padding)
        return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def write_padding(x, padding):
    """x with zeros written around small dimensions, and the padding that is left to the convolution.

    The outcome is the same, but oneDNN's bf16 weight gradient on the CPU is garbage, often inf, if it pads two frames
    itself (the last stage of a 16-frame R3D) or strides over a map one or two pixels wide, where it may even crash.
    Seen with torch 2.14, oneDNN 3.12 and AVX-512; two frames cost the convolution up to a half more time this way.
    """
    *time, height, width = x.shape[2:]
    small = [t == 2 for t in time] + [min(height, width) <= 2] * 2
    written = [p if is_small and x.device.type == "cpu" else 0 for p, is_small in zip(padding, small, strict=True)]
    if any(written):
        x = F.pad(x, [p for dimension in reversed(written) for p in (dimension, dimension)])
    return x, tuple(p - q for p, q in zip(padding, written, strict=True))


def norm(dim, channels):
    return nn.BatchNorm2d(channels) if dim == 2 else nn.BatchNorm3d(channels)


def relu():
    return nn.ReLU(inplace=True)


# Blocks. A block lists the convolutions of its residual branch as (module, channels out): `wide` makes the stage's
# convolution, `point` 1x1.


def basic(cin, planes, stride, wide, point):
    return [(wide(cin, planes, stride), planes), (wide(planes, planes), planes)]


def bottleneck(cin, planes, stride, wide, point):
    """He et al. stride the first convolution; torchvision ("v1.5") and the video papers the wide one."""
    cout = 4 * planes
    return [(point(cin, planes), planes), (wide(planes, planes, stride), planes), (point(planes, cout), cout)]


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); the branch is conv-norm-relu-...-conv-norm."""

    def __init__(self, dim, convs, downsample=None):
        super().__init__()
        units = [[module, norm(dim, channels), relu()] for module, channels in convs]
        units[-1].pop()  # the last relu comes after the sum
        self.branch = adopt(self, named(dim, units))
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return (run(self, self.branch, x) + shortcut).relu_()


def named(dim, units):
    """Layers by torchvision's names: conv1, bn1, relu1, conv2, ... in 2D; conv1 = (conv, norm, relu), ... in 3D."""
    if dim == 3:
        return {f"conv{i}": nn.Sequential(*unit) for i, unit in enumerate(units, 1)}
    kinds = ("conv", "bn", "relu")
    return {f"{kind}{i}": layer for i, unit in enumerate(units, 1) for kind, layer in zip(kinds, unit, strict=False)}


def adopt(parent, layers):
    """Make the layers children of the parent by their own names, which are returned for `run`."""
    for name, layer in layers.items():
        parent.add_module(name, layer)
    return tuple(layers)


def run(parent, names, x):
    for name in names:
        x = getattr(parent, name)(x)
    return x


def make_stage(dim, block, count, cin, planes, stride, make, mid):
    """`count` residual blocks, the first of which strides and changes the width; and their channels out."""
    point, blocks = partial(pointwise, dim), []
    for _ in range(count):
        wide = partial(make, mid=factor_width(cin, planes)) if mid == "torchvision" else make
        convs = block(cin, planes, stride, wide, point)
        cout = convs[-1][1]
        changes = stride != (1, 1) or cin != cout
        downsample = nn.Sequential(point(cin, cout, stride), norm(dim, cout)) if changes else None
        blocks.append(Residual(dim, convs, downsample))
        cin, stride = cout, (1, 1)
    return nn.Sequential(*blocks), cin


class ResNet(nn.Module):
    """clips_BCTHW -> logits_BN.

    block, layers, convs, time_strides: the rows below; one entry a stage, as many stages as `layers` has
    stem: "pool" (7x7, then max-pool), "nopool" (7x7), "small" (3x3)
    width: channels of the stem and, in a basic block's terms, of the first stage; each stage doubles them
    mid: inner width of (2+1)D convolutions, "torchvision" (one a block, from its input and planes) or "paper" (its own)
    pool, dropout: temporal pooling, and dropout of the pooled features
    """

    def __init__(
        self,
        num_classes,
        block,
        layers,
        convs,
        time_strides=(1, 1, 1, 1),
        stem="nopool",
        width=64,
        mid="torchvision",
        pool="mean",
        dropout=0.0,
    ):
        super().__init__()
        self.dim = 2 if conv2d in convs else 3
        trunk, cin = make_stem(convs[0], stem, width), width
        for i, (count, make, t) in enumerate(zip(layers, convs, time_strides, strict=False)):
            stride = (t, 1 if i == 0 else 2)
            trunk[f"layer{i + 1}"], cin = make_stage(self.dim, block, count, cin, width * 2**i, stride, make, mid)
        self.trunk = adopt(self, trunk)
        self.pool = POOLS[pool]
        self.dropout = nn.Dropout(dropout)
        self.num_features = cin
        self.fc = nn.Linear(cin, num_classes)
        self.reset_parameters()

    def reset_parameters(self):
        """He et al.'s initialisation as torchvision has it; only its video networks draw a small fc."""
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        if self.dim == 3:
            nn.init.normal_(self.fc.weight, std=0.01)
            nn.init.zeros_(self.fc.bias)

    def forward(self, clips_BCTHW):
        return self.head(self.features(clips_BCTHW))

    def features(self, clips_BCTHW):
        """features_BTD in float32 or better; T is the clip's in 2D and what the strides left in 3D."""
        check_clips(clips_BCTHW)
        x = clips_BCTHW
        if self.dim == 2:
            x = x.transpose(1, 2).flatten(0, 1)
        x = run(self, self.trunk, x)
        x = x.mean((-2, -1), dtype=torch.promote_types(x.dtype, torch.float32))
        return x.unflatten(0, (len(clips_BCTHW), -1)) if self.dim == 2 else x.transpose(1, 2)

    def head(self, features_BTD):
        """logits_BN in the precision of the parameters, under autocast too.

        f-R2D must answer the same for a clip and its reversal; bf16 would make the order of a sum visible.
        """
        device = features_BTD.device.type  # "meta", used to count, knows no autocast
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            pooled_BD = self.pool(features_BTD.to(self.fc.weight.dtype))
            return self.fc(self.dropout(pooled_BD))


def check_clips(clips_BCTHW):
    shape = tuple(clips_BCTHW.shape)
    if len(shape) != 5 or shape[1] != 3 or 0 in shape:
        raise UserError(f"clips must be B x 3 x T x H x W (RGB, channels before frames), got {shape}")
    if not clips_BCTHW.is_floating_point():
        raise UserError(f"clips must be floating point, scaled and normalised, got {clips_BCTHW.dtype}")


# The table: name -> the keywords of ResNet.

BASIC_18 = {"block": basic, "layers": (2, 2, 2, 2)}
BASIC_34 = {"block": basic, "layers": (3, 4, 6, 3)}
BOTTLENECK_50 = {"block": bottleneck, "layers": (3, 4, 6, 3)}

F_R2D = {"convs": (conv2d,) * 4, "stem": "pool"}
R3D = {"convs": (conv3d,) * 4, "time_strides": (1, 2, 2, 2)}
MC3 = {"convs": (conv3d, conv1x3x3, conv1x3x3, conv1x3x3)}  # its 2D stages keep T, and so does layer1 everywhere
R2PLUS1D = {"convs": (conv2plus1d,) * 4, "time_strides": (1, 2, 2, 2)}

MODELS = {
    "f_r2d_18": BASIC_18 | F_R2D,
    "f_r2d_34": BASIC_34 | F_R2D,
    "f_r2d_50": BOTTLENECK_50 | F_R2D,
    "r3d_18": BASIC_18 | R3D,
    "r3d_34": BASIC_34 | R3D,
    "r3d_50": BOTTLENECK_50 | R3D | {"stem": "pool"},
    "mc3_18": BASIC_18 | MC3,
    "mc3_34": BASIC_34 | MC3,
    "mc3_50": BOTTLENECK_50 | MC3 | {"stem": "pool"},
    "r2plus1d_18": BASIC_18 | R2PLUS1D,
    "r2plus1d_34": BASIC_34 | R2PLUS1D,
    "r2plus1d_50": BOTTLENECK_50 | R2PLUS1D | {"stem": "pool"},
}
