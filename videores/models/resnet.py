"""Build residual networks over clips: stem, stages, mean over H and W, temporal pooling, fc.

A network is a `Design`: the convolution of the stem and of each stage, the block, how convolutions connect channels,
the shortcut, the norm. The published ones are rows of the table at the end:
    f_r2d            2D convolutions, on every frame alone     He et al. 2015, arXiv:1512.03385
    audio_r2d        the same on spectrograms, one channel     as the audio network of arXiv:1905.12681
    f_resnext        their middle ones in groups               Xie et al. 2017, arXiv:1611.05431
    r2d              2D convolutions, the frames as channels   Tran et al. 2018, arXiv:1711.11248, as the next three
    r3d              3x3x3
    mc2 .. rmc5      3x3x3 before convX (layer1 is conv2), 1x3x3 from it on; rmcX the reverse
    r2plus1d         1x3x3 in space, norm, relu, 3x1x1 in time
    ir_csn, ip_csn   depthwise 3x3x3 bottlenecks               Tran et al. 2019, arXiv:1904.02811
    tsm_half         2D, channels shifted in time, half width  Lin et al. 2019, arXiv:1811.08383
    r2plus1d_separable   (2+1)D, depthwise, then 1x1x1         Howard et al. 2017, arXiv:1704.04861, of 2D

Parameters have torchvision's names, shapes and order, so public weights load with strict=True, both ways. There are two
styles of names, flat in 2D (layer1.0.bn1.weight) and nested in 3D (layer1.0.conv1.1.weight); `_name_units` knows them.

Shapes: B clips, C channels, T frames, H x W pixels, D features, N classes. A stride is (time, space).
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from videores.config.network import Conv
from videores.errors import UserError
from videores.models import layers, norms
from videores.models.cpu_conv import Conv2d, Conv3d
from videores.models.design import Design
from videores.models.layers import check_clips
from videores.models.temporal import make_pool


def _make_stem(d):
    """Make the first layers, by name.

    They keep T; H and W become a quarter ("pool"), a half, or stay ("cifar").
    """
    size, stride = (7, 2) if d.stem in ("pool", "nopool") else (3, 1 if d.stem == "cifar" else 2)
    # The paper's 45 channels between space and time, which is not what its own formula gives.
    mid = max(45 * d.width // 64, 1) if size == 7 else None
    cin = d.channels * d.frames if d.fold else d.channels
    first = CONVS[d.conv[0]](d, cin, d.width, (1, stride), mid=mid, size=size)
    if d.dim == 2:
        pool = {"maxpool": nn.MaxPool2d(3, 2, 1)} if d.stem == "pool" else {}
        return {"conv1": first, "bn1": _make_norm(d, d.width), "relu": _make_relu(), **pool}
    pool = [nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))] if d.stem == "pool" else []
    first = first if isinstance(first, nn.Sequential) else [first]  # (2+1)D, which torchvision has unnested in the stem
    return {"stem": nn.Sequential(*first, _make_norm(d, d.width), _make_relu(), *pool)}


# Convolutions. Those of CONVS look around; `mid` is the inner width of (2+1)D, `size` the kernel's height and width.


def conv2d(d, cin, cout, stride=(1, 1), groups=1, mid=None, size=3):
    return _make_conv(d, cin, cout, (size, size), stride[1:] * 2, groups)


def conv3d(d, cin, cout, stride=(1, 1), groups=1, mid=None, size=3):
    t, s = stride
    return _make_conv(d, cin, cout, (3, size, size), (t, s, s), groups)


def _conv1x3x3(d, cin, cout, stride=(1, 1), groups=1, mid=None, size=3):
    t, s = stride
    return _make_conv(d, cin, cout, (1, size, size), (t, s, s), groups)


def _conv2plus1d(d, cin, cout, stride=(1, 1), groups=1, mid=None, size=3):
    t, s = stride
    mid = mid or compute_mid_channels(d.mid, cin, cout)
    mid = max(mid // groups, 1) * groups
    space = _make_conv(d, cin, mid, (1, size, size), (1, s, s), groups)
    return nn.Sequential(
        space, _make_norm(d, mid), _make_relu(), _make_conv(d, mid, cout, (3, 1, 1), (t, 1, 1), groups)
    )


CONVS = {"2d": conv2d, "3d": conv3d, "1x3x3": _conv1x3x3, "2plus1d": _conv2plus1d}


def compute_mid_channels(rule, cin, cout):
    """Return the channels between the halves of a (2+1)D convolution.

    `paper` has as many weights as 3x3x3 (Tran et al. 2018).
    """
    if rule == "none":
        return cout
    width = 27 * cin * cout // (9 * cin + 3 * cout)
    return max(round(width / 8), 1) * 8 if rule == "round8" else width


def make_pointwise(d, cin, cout, stride=(1, 1)):
    t, s = stride
    return _make_conv(d, cin, cout, (1,) * d.dim, (t, s, s)[-d.dim :])


def _make_conv(d, cin, cout, kernel, stride, groups=1):
    """Make a convolution that keeps the size / stride.

    The kernel's length says whether it is 2D or 3D.
    """
    make = Conv2d if len(kernel) == 2 else Conv3d
    bias = d.norm == "none" if d.bias is None else d.bias
    return make(cin, cout, kernel, stride, tuple(k // 2 for k in kernel), groups=groups, bias=bias)


def _select_connection(d, kind, mid):
    """Return the wide convolution of a stage, make(cin, cout, stride).

    It has the network's connections between channels.
    """
    make = CONVS[kind]

    def depthwise(cin, cout, stride=(1, 1)):
        return make(d, cin, cout, stride, groups=cin, mid=cin)

    def interaction_preserved(cin, cout, stride=(1, 1)):
        return nn.Sequential(make_pointwise(d, cin, cout), _make_norm(d, cout), depthwise(cout, cout, stride))

    def separable(cin, cout, stride=(1, 1)):
        return nn.Sequential(depthwise(cin, cin, stride), _make_norm(d, cin), make_pointwise(d, cin, cout))

    def dense(cin, cout, stride=(1, 1)):
        return make(d, cin, cout, stride, d.groups, mid)

    return {"dense": dense, "depthwise": depthwise, "ip": interaction_preserved, "separable": separable}[d.connect]


def _make_norm(d, channels):
    if d.norm == "none":
        return nn.Identity()
    if d.norm == "group":
        return norms.group_norm(channels, d.norm_eps)
    if d.norm == "frozen":
        return (norms.FrozenBatchNorm2d if d.dim == 2 else norms.FrozenBatchNorm3d)(channels, d.norm_eps)
    return (norms.BatchNorm2d if d.dim == 2 else norms.BatchNorm3d)(channels, d.norm_eps)


def _make_relu(inplace=True):
    return nn.ReLU(inplace)


# Blocks. A block lists the convolutions of its residual branch as (module, channels out): `wide` makes the stage's
# convolution, `point` 1x1.


def _make_basic(d, cin, planes, stride, wide, point):
    return [(wide(cin, planes, stride), planes), (wide(planes, planes), planes)]


def _make_bottleneck(d, cin, planes, stride, wide, point):
    inner, strides = d.inner(planes), (stride, (1, 1)) if d.stride_in == "conv1" else ((1, 1), stride)
    narrow, look = point(cin, inner, strides[0]), wide(inner, inner, strides[1])
    return [(narrow, inner), (look, inner), (point(inner, 4 * planes), 4 * planes)]


BLOCKS = {
    "basic": _make_basic,
    "bottleneck": _make_bottleneck,
    "preact": _make_basic,
    "preact_bottleneck": _make_bottleneck,
}


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)), where the branch is conv-norm-relu-...-conv-norm.

    Pre-activated (He et al. 2016, arXiv:1603.05027): branch(relu(norm(x))) + x, where the branch ends with its last
    convolution. A projection sees the activated x, and the first block the stem's activation, as in the paper.
    """

    def __init__(self, d, cin, convs, stride, rate, first):
        super().__init__()
        if d.preact and not first:
            self.preact = nn.Sequential(
                _make_norm(d, cin), _make_relu(inplace=d.norm != "none")
            )  # without norm it would change x
        cout = convs[-1][1]
        self.channels, self.stride = (cin, cout), stride
        units = [[module, _make_norm(d, channels), _make_relu()] for module, channels in convs]
        if d.zero_init:
            nn.init.zeros_(units[-1][1].weight)
        del units[-1][1 if d.preact else 2 :]
        self.branch = _add_layers(self, _name_units(d.dim, units))
        self.se = layers.SqueezeExcite(cout, d.se) if d.se else None
        self.downsample = _make_shortcut(d, cin, cout, stride)
        self.shift = layers.Shift(d.shift, d.causal) if d.shift else None
        self.plain, self.rate, self.relu_after = d.shortcut == "none", rate, not d.preact
        self.scale = nn.Parameter(torch.zeros(())) if d.norm == "none" and not self.plain else None

    def forward(self, x, clips):
        """`clips` is B, which a 2D network needs to tell clips from frames."""
        activated = self.preact(x) if hasattr(self, "preact") else x
        y = _run_layers(self, self.branch, activated if self.shift is None else self.shift(activated, clips))
        y = y if self.se is None else self.se(y)
        y = y if self.scale is None else y * self.scale
        y = layers.drop_branch(y, clips, self.rate) if self.training and self.rate else y
        if not self.plain:
            y = _add_shortcut(y, x if self.downsample is None else self.downsample(activated))
        return y.relu_() if self.relu_after else y


def _add_shortcut(branch, shortcut):
    if branch.shape != shortcut.shape:  # torch would broadcast some
        raise UserError(f"a block's branch puts out {tuple(branch.shape)}, its shortcut {tuple(shortcut.shape)}")
    return branch + shortcut


def _name_units(dim, units):
    """Name layers as torchvision does.

    conv1, bn1, relu1, conv2, ... in 2D; conv1 = (conv, norm, relu), ... in 3D.
    """
    if dim == 3:
        return {f"conv{i}": nn.Sequential(*unit) for i, unit in enumerate(units, 1)}
    kinds = ("conv", "bn", "relu")
    return {f"{kind}{i}": layer for i, unit in enumerate(units, 1) for kind, layer in zip(kinds, unit, strict=False)}


def _add_layers(parent, layers):
    """Make the layers children of the parent by their own names, which are returned."""
    for name, layer in layers.items():
        parent.add_module(name, layer)
    return tuple(layers)


def _run_layers(parent, names, x):
    for name in names:
        x = getattr(parent, name)(x)
    return x


def _make_shortcut(d, cin, cout, stride):
    """Make the shortcut of a block (He et al. 2015, section 4.1); None is the block's input."""
    changes = stride != (1, 1) or cin != cout
    if d.shortcut == "C" or (d.shortcut == "B" and changes):
        return nn.Sequential(make_pointwise(d, cin, cout, stride), *([] if d.preact else [_make_norm(d, cout)]))
    return layers.Subsample(stride, cout - cin) if d.shortcut == "A" and changes else None


def _make_stage(d, i, cin, make_block):
    """Make stage i, whose first block strides and changes the width; return it and its channels."""
    planes, stride, blocks = d.width * 2**i, (d.time_stride(i), 1 if i == 0 else 2), []
    for nth in range(sum(d.layers[:i]), sum(d.layers[: i + 1])):
        mid = compute_mid_channels("paper", cin, planes) if d.mid == "torchvision" else None
        convs = make_block(
            d, cin, planes, stride, _select_connection(d, d.conv[1 + i], mid), partial(make_pointwise, d)
        )
        rate = d.drop_path * (nth + 1) / sum(d.layers)
        blocks.append(Residual(d, cin, convs, stride, rate, first=nth == 0))
        cin, stride = convs[-1][1], (1, 1)
    return layers.Stage(blocks, d.checkpoint == "stages"), cin


class ResNet(nn.Module):
    """clips_BCTHW -> logits_BN of a Design. `make_block` replaces its block by another function, for controls."""

    def __init__(self, num_classes, design, make_block=None):
        super().__init__()
        self.design, self.dim = design, design.dim
        self.first = _add_layers(self, _make_stem(design))
        self.stages, cin = tuple(f"layer{i + 1}" for i in range(len(design.layers))), design.width
        for i, name in enumerate(self.stages):
            stage, cin = _make_stage(design, i, cin, make_block or BLOCKS[design.block])
            self.add_module(name, stage)
        self.last = nn.Sequential(_make_norm(design, cin), _make_relu()) if design.preact else None
        pooled = num_classes if design.consensus == "logits" else cin
        self.pool = make_pool(design.pool, pooled, design.time_steps())
        self.spatial_dropout, self.dropout = nn.Dropout1d(design.spatial_dropout), nn.Dropout(design.dropout)
        self.num_features = cin
        self.fc = nn.Linear(cin, num_classes)
        self.reset_parameters()

    def reset_parameters(self):
        """Initialize as torchvision does, after He et al.; only its video networks draw a small fc."""
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Conv3d)) and not m.weight.is_meta:  # where drawing nothing takes long
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        if self.dim == 3:
            nn.init.normal_(self.fc.weight, std=0.01)
            nn.init.zeros_(self.fc.bias)

    def forward(self, clips_BCTHW):
        return self.head(self.features(clips_BCTHW))

    def features(self, clips_BCTHW):
        """Return features_BTD in float32 or better.

        T is the clip's in f-R2D, 1 in R2D, what the strides left in 3D.
        """
        check_clips(clips_BCTHW, self.design.channels)
        self.check_frames(clips_BCTHW.shape[2])
        x, clips = clips_BCTHW, clips_BCTHW.shape[0]  # len() would be a constant to torch.export
        if self.dim == 2:
            x = x.flatten(1, 2) if self.design.fold else x.transpose(1, 2).flatten(0, 1)
        x = _run_layers(self, self.first, x)
        for name in self.stages:
            x = getattr(self, name)(x, clips)
            if self.design.stage_pool and name != self.stages[-1]:
                x = layers.subsample_frames(x, clips)
        x = x if self.last is None else self.last(x)
        x = x.mean((-2, -1), dtype=torch.promote_types(x.dtype, torch.float32))
        return x.unflatten(0, (clips, -1)) if self.dim == 2 else x.transpose(1, 2)

    def check_frames(self, frames):
        if self.design.fold and frames != self.design.frames:
            raise UserError(f"the network has {self.design.frames} frames as channels and got a clip of {frames}")

    def head(self, features_BTD):
        """Return logits_BN in the precision of the parameters, under autocast too.

        f-R2D must answer the same for a clip and its reversal; bf16 would make the order of a sum visible.
        """
        with layers.disable_autocast(features_BTD.device.type):
            x_BTD = features_BTD.to(self.fc.weight.dtype)
            if self.spatial_dropout.p:
                x_BTD = self.spatial_dropout(x_BTD.transpose(1, 2)).transpose(1, 2)
            if self.design.consensus == "logits":
                return self.pool(self.fc(self.dropout(x_BTD)))
            return self.fc(self.dropout(self.pool(x_BTD)))

    def pool_features(self, features_BTD):
        """Return features_BD, what `head` classifies, for a classifier of several networks' features."""
        with layers.disable_autocast(features_BTD.device.type):
            return self.pool(features_BTD.to(self.fc.weight.dtype))


# The table: name -> Design. There are CIFAR networks of any depth, see `make_cifar`; the paper's have names here.

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK: dict[str, Any] = dict(block="bottleneck", stem="pool")
ALL_2D: tuple[Conv, ...] = ("2d",) * 5
ALL_2PLUS1D: tuple[Conv, ...] = ("2plus1d",) * 5


def _make_family(name, depths, **same):
    rows = {n: {"layers": DEPTHS[n], **(BOTTLENECK if n >= 50 else {}), **same} for n in depths}
    return {f"{name}_{n}": Design(**row) for n, row in rows.items()}


def _make_mixed_rows(before, after, depths=(18,)):
    """Make the rows mc2 .. mc5.

    The stem (conv1) and the stages (conv2 .. conv5) are of one kind before convX, of another from it on.
    """
    prefix = "mc" if before == "3d" else "rmc"
    convs = {x: (before,) * (x - 1) + (after,) * (6 - x) for x in (2, 3, 4, 5)}
    return {name: d for x, conv in convs.items() for name, d in _make_family(f"{prefix}{x}", depths, conv=conv).items()}


def make_cifar(kind, depth, block="basic"):
    """Make the design of He et al. 2015, section 4.2, for 32x32 pixels.

    3 stages of n blocks have 6n+2 layers (bottlenecks 9n+2).
    """
    a_block = 9 if block.endswith("bottleneck") else 6
    if depth <= 2 or (depth - 2) % a_block:
        near = max(round((depth - 2) / a_block), 1) * a_block + 2
        raise UserError(f"cifar{kind}_{depth}: with {block} blocks the depth is {a_block}n+2, such as {near}")
    n = (depth - 2) // a_block
    return Design(layers=(n,) * 3, block=block, conv=(kind,) * 5, stem="cifar", width=16, shortcut="A")


MODELS = {
    **_make_family("f_r2d", DEPTHS, conv=ALL_2D, stem="pool"),
    "f_resnext50_32x4d": Design(DEPTHS[50], **BOTTLENECK, conv=ALL_2D, groups=32, base_width=4),
    "f_resnext101_32x8d": Design(DEPTHS[101], **BOTTLENECK, conv=ALL_2D, groups=32, base_width=8),
    "f_wide_resnet50_2": Design(DEPTHS[50], **BOTTLENECK, conv=ALL_2D, base_width=128),
    **_make_family("audio_r2d", (18, 34, 50), conv=ALL_2D, stem="pool", channels=1),
    **_make_family("r2d", (18,), conv=ALL_2D, fold=True),
    **_make_family("r3d", DEPTHS),
    **_make_mixed_rows("3d", "1x3x3", (18, 34, 50)),
    **_make_mixed_rows("1x3x3", "3d"),
    **_make_family("r2plus1d", DEPTHS, conv=ALL_2PLUS1D),
    **_make_family("resnext3d", (50, 101), groups=32, base_width=4),
    **_make_family("ir_csn", (50, 101, 152), connect="depthwise"),
    "ir_csn_26": Design(DEPTHS[18], **BOTTLENECK, connect="depthwise"),
    **_make_family("ip_csn", (50, 101, 152), connect="ip"),
    **_make_family("plain3d", (18, 34), shortcut="none"),
    **_make_family("tsm_half", (18,), conv=ALL_2D, stem="pool", shift=8, width=32),
    **_make_family("r2plus1d_separable", (18,), conv=ALL_2PLUS1D, connect="separable"),
    **{f"cifar{kind}_{n}": make_cifar(kind, n) for kind in ("2d", "3d") for n in (20, 32, 44, 56, 110, 1202)},
}
