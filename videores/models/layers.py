"""Layers that torch has not, or not as the networks need them; nothing here knows of architectures.

Shapes: x is BCTHW in 3D; in 2D the frames of clips are rows, (B*T)CHW, and `clips` is B.
"""

from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import checkpoint

from videores.errors import UserError
from videores.models import depthwise


class Conv2d(nn.Conv2d):
    def forward(self, x):
        x, padding = write_padding(x, self.padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(nn.Conv3d):
    def forward(self, x):
        if self.bias is None and depthwise.applies(x, self.weight, self.groups, self.padding):
            return depthwise.conv3d(x, self.weight, self.stride)
        if self.kernel_size[1:] == self.stride[1:] == (1, 1) and self.groups == 1 and is_cpu_float(x):
            return conv_in_time(x, self.weight, self.bias, self.stride[0], self.padding[0])
        x, padding = write_padding(x, self.padding)
        return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def conv_in_time(x_BCTHW, weight, bias, stride, padding):
    """F.conv3d with a kernel that is 1 wide and high, as a 2D convolution over frames and all pixels.

    The sums are the same, and oneDNN takes 0.3 to 0.9 of the time for them (docs/benchmark-step.md).
    In bf16 neither its speed nor its gradients have been measured, so there `Conv3d` leaves it.
    """
    y = F.conv2d(x_BCTHW.flatten(3), weight.flatten(3), bias, (stride, 1), (padding, 0))
    return y.unflatten(3, x_BCTHW.shape[3:])


def is_cpu_float(x):
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def write_padding(x, padding):
    """x with zeros written around small dimensions, and the padding that is left to the convolution.

    The outcome is the same, but oneDNN's bf16 weight gradient on the CPU is garbage, often inf, if it pads two frames
    itself (the last stage of a 16-frame R3D) or strides over a map one or two pixels wide, where it may even crash.
    Seen with torch 2.14, oneDNN 3.12 and AVX-512; two frames cost the convolution up to a half more time this way.
    Its fp32 gradients are right, and keep its own padding.
    """
    if x.device.type != "cpu" or not (torch.is_autocast_enabled("cpu") or x.dtype == torch.bfloat16):
        return x, padding
    *time, height, width = x.shape[2:]
    small = [t == 2 for t in time] + [min(height, width) <= 2] * 2
    written = [p if is_small else 0 for p, is_small in zip(padding, small, strict=True)]
    if any(written):
        x = F.pad(x, [p for dimension in reversed(written) for p in (dimension, dimension)])
    return x, tuple(p - q for p, q in zip(padding, written, strict=True))


class Counted:
    """A batch norm that says what to do where it has one value a channel, whose variance would be 0."""

    def _check_input_dim(self, x):
        super()._check_input_dim(x)
        if self.training and x.numel() == x.shape[1]:
            raise UserError(
                f"training leaves a batch norm one value per channel (it got {' x '.join(map(str, x.shape))}): "
                "give larger clips, a larger batch, or model.norm=group"
            )


class BatchNorm2d(Counted, nn.BatchNorm2d):
    pass


class BatchNorm3d(Counted, nn.BatchNorm3d):
    pass


class Frozen:
    """A batch norm that is a constant map: it stays in eval mode, and its parameters want no gradient."""

    def __init__(self, *args):
        super().__init__(*args)
        self.requires_grad_(False).eval()

    def train(self, mode=True):
        return super().train(False)


class FrozenBatchNorm2d(Frozen, nn.BatchNorm2d):
    pass


class FrozenBatchNorm3d(Frozen, nn.BatchNorm3d):
    pass


def group_norm(channels, eps):
    """Wu and He 2018, arXiv:1803.08494: up to 32 groups, as many as divide the channels and hold two or more."""
    groups = max((g for g in range(1, 33) if channels % g == 0 and channels // g >= 2), default=1)
    return nn.GroupNorm(groups, channels, eps)


class Subsample(nn.Module):
    """Shortcut A: every stride-th frame and pixel, and zeros in the new channels."""

    def __init__(self, stride, new_channels):
        super().__init__()
        self.stride, self.new_channels = stride, new_channels

    def forward(self, x):
        t, s = self.stride
        x = x[:, :, ::t, ::s, ::s] if x.ndim == 5 else x[:, :, ::s, ::s]
        return F.pad(x, [0, 0] * (x.ndim - 2) + [0, self.new_channels])


class SqueezeExcite(nn.Module):
    """Channels scaled by a function of their means over H, W and, in 3D, T (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // reduction, 1))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, x):
        means = x.mean(tuple(range(2, x.ndim)))
        gate = self.excite(self.squeeze(means).relu()).sigmoid()
        return x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


def shift_frames(x, clips, part):
    """Temporal shift (Lin et al. 2019, arXiv:1811.08383) in 2D: 1/part of the channels come from the next frame, as
    many from the one before, and zeros come in at both ends of a clip."""
    x_BTCHW = x.unflatten(0, (clips, -1))
    n = x.shape[1] // part
    ahead, back, same = x_BTCHW.split([n, n, x.shape[1] - 2 * n], 2)
    ahead = torch.cat([ahead[:, 1:], torch.zeros_like(ahead[:, :1])], 1)
    back = torch.cat([torch.zeros_like(back[:, :1]), back[:, :-1]], 1)
    return torch.cat([ahead, back, same], 2).flatten(0, 1)


def halve_frames(x, clips):
    """A max over 3 frames with stride 2, in 2D."""
    x_BTP = x.unflatten(0, (clips, -1)).flatten(2)
    return F.max_pool2d(x_BTP, (3, 1), (2, 1), (1, 0)).flatten(0, 1).unflatten(1, x.shape[1:])


def drop_branch(y, clips, rate):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): a clip's branch is 0, or larger to make up for it."""
    kept = (torch.rand(clips, device=y.device) >= rate).to(y.dtype) / (1 - rate)
    return y * kept.repeat_interleave(y.shape[0] // clips).reshape(-1, *[1] * (y.ndim - 1))


def recomputed(module, function, *inputs):
    """function(*inputs), part of the module, whose activations are computed again in the backward pass."""
    contexts = lambda: (nullcontext(), statistics_kept(module))
    return checkpoint.checkpoint(function, *inputs, use_reentrant=False, context_fn=contexts)


class Stage(nn.Sequential):
    """Blocks in a row. `saves_memory`: what they compute is not kept for the backward pass, which computes it again."""

    def __init__(self, blocks, saves_memory):
        super().__init__(*blocks)
        self.saves_memory = saves_memory

    def forward(self, x, clips):
        if self.saves_memory and torch.is_grad_enabled():
            return recomputed(self, self.blocks, x, clips)
        return self.blocks(x, clips)

    def blocks(self, x, clips):
        for block in self:
            x = block(x, clips)
        return x


@contextmanager
def statistics_kept(module):
    """Batch norms write their running statistics elsewhere: a batch counts once, though it is computed twice."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(m._buffers) for m in norms]
    for m in norms:
        m._buffers.update({name: buffer.clone() for name, buffer in m._buffers.items()})
    try:
        yield
    finally:
        for m, buffers in zip(norms, kept, strict=True):
            m._buffers.update(buffers)


def check_clips(clips_BCTHW):
    shape = tuple(clips_BCTHW.shape)
    if len(shape) != 5 or shape[1] != 3 or 0 in shape:
        raise UserError(f"clips must be B x 3 x T x H x W (RGB, channels before frames), got {shape}")
    if not clips_BCTHW.is_floating_point():
        raise UserError(f"clips must be floating point, scaled and normalised, got {clips_BCTHW.dtype}")
