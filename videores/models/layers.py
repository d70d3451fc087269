"""Define layers that torch lacks; nothing here knows of architectures.

Shapes: x is BCTHW in 3D; in 2D the frames of clips are rows, (B*T)CHW, and `clips` is B.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import checkpoint

from videores.errors import UserError
from videores.models.norms import keep_statistics


def disable_autocast(device: str) -> AbstractContextManager:
    """Return a context without autocast, for a device that may know none, as "meta", which is used to count."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


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


class Shift(nn.Module):
    """Move channels of each frame to its neighbors in a clip, in 2D.

    1/part of the channels come from the next frame, as many from the one before, and zeros come in at both ends of a
    clip (Lin et al. 2019, arXiv:1811.08383).

    `causal`: the first 1/part come from the frame before, and no others move (the paper's online models).
    """

    def __init__(self, part: int, causal: bool):
        super().__init__()
        self.part, self.causal = part, causal

    def forward(self, x: torch.Tensor, clips: int) -> torch.Tensor:
        x_BTCHW = x.unflatten(0, (clips, -1))
        n = x.shape[1] // self.part
        ahead, back, same = x_BTCHW.split([0 if self.causal else n, n, x.shape[1] - (2 - self.causal) * n], 2)
        ahead = torch.cat([ahead[:, 1:], torch.zeros_like(ahead[:, :1])], 1)
        back = torch.cat([torch.zeros_like(back[:, :1]), back[:, :-1]], 1)
        return torch.cat([ahead, back, same], 2).flatten(0, 1)


def subsample_frames(x, clips):
    """Take the maximum over 3 frames with stride 2, in 2D."""
    x_BTP = x.unflatten(0, (clips, -1)).flatten(2)
    return F.max_pool2d(x_BTP, (3, 1), (2, 1), (1, 0)).flatten(0, 1).unflatten(1, x.shape[1:])


def drop_branch(y, clips, rate):
    """Drop a clip's branch at random, or enlarge it to make up for that.

    Stochastic depth (Huang et al. 2016, arXiv:1603.09382).
    """
    kept = (torch.rand(clips, device=y.device) >= rate).to(y.dtype) / (1 - rate)
    return y * kept.repeat_interleave(y.shape[0] // clips).reshape(-1, *[1] * (y.ndim - 1))


def _checkpoint_activations(module, function, *inputs):
    """Call function(*inputs), part of the module, computing its activations again in backward."""
    contexts = lambda: (nullcontext(), keep_statistics(module))
    return checkpoint.checkpoint(function, *inputs, use_reentrant=False, context_fn=contexts)


class Stage(nn.Sequential):
    """Blocks in a row. `saves_memory`: what they compute is not kept for the backward pass, which computes it again."""

    def __init__(self, blocks, saves_memory):
        super().__init__(*blocks)
        self.saves_memory = saves_memory

    def forward(self, x, clips):
        if self.saves_memory and torch.is_grad_enabled():
            return _checkpoint_activations(self, self.blocks, x, clips)
        return self.blocks(x, clips)

    def blocks(self, x, clips):
        for block in self:
            x = block(x, clips)
        return x


def check_clips(clips_BCTHW, channels=3):
    shape = tuple(clips_BCTHW.shape)
    if len(shape) != 5 or shape[1] != channels or 0 in shape:
        raise UserError(f"clips must be B x {channels} x T x H x W (channels before frames), got {shape}")
    if not clips_BCTHW.is_floating_point():
        raise UserError(f"clips must be floating point, scaled and normalised, got {clips_BCTHW.dtype}")
