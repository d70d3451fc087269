"""Wrap pytorchvideo's networks as ours: clips_BCTHW -> logits_BN, random weights.

Their builders are used as they are but for five things: there is no softmax (their R(2+1)D has one); the head's pooling
window, which they fix for one input size, shrinks to what is there; SlowFast makes its slow pathway itself; the
convolutions write small padding out, as ours do (layers.write_padding); and norms refuse what is too small to train on.
Where theirs runs, the logits are equal.
"""

import warnings

import torch
from torch import nn
from torch.nn import functional as F

from videores.errors import UserError
from videores.models import cpu_conv, norms
from videores.models.layers import check_clips

# name -> the (frames, size) that the published ones were trained at; any other that a network accepts will do
BUILDERS = {
    "slow_r50": (8, 224),
    "csn_r101": (32, 224),
    "r2plus1d_r50": (16, 224),
    "x3d_xs": (4, 160),
    "x3d_s": (13, 160),
    "x3d_m": (16, 224),
    "x3d_l": (16, 312),
    "slowfast_r50": (32, 224),
}
NAMES = [f"pytorchvideo/{builder}" for builder in BUILDERS]
ALPHA = 4  # SlowFast's slow pathway has every fourth frame


def create_zoo_model(name: str, num_classes: int, dropout: float | None = None) -> nn.Module:
    """Create the network "pytorchvideo/<builder>".

    `dropout` replaces its own rate before the classifier.
    """
    if name not in NAMES:
        raise UserError(f"unknown model {name!r}; of pytorchvideo's networks there are: {', '.join(NAMES)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.jit, which they script a function with
        from pytorchvideo.models import hub  # here: a second of imports; none of its readers of video

    builder = name.removeprefix("pytorchvideo/")
    softmax = {"head_activation": None} if not builder.startswith("slowfast") else {}
    net = getattr(hub, builder)(model_num_class=num_classes, **softmax)
    if dropout is not None:
        net.blocks[-1].dropout = nn.Dropout(dropout)
    return _ZooNet(builder, net)


class _ZooNet(nn.Module):
    """One of pytorchvideo's networks, `net`, whose parameters keep their names under it."""

    def __init__(self, builder, net):
        super().__init__()
        self.builder, self.net = builder, net
        for module in list(net.modules()):
            _replace_pools(module)
            replace_layers(module)

    def forward(self, clips_BCTHW):
        check_clips(clips_BCTHW)
        if not self.builder.startswith("slowfast"):
            return self.net(clips_BCTHW).float()
        return self.net(split_pathways(clips_BCTHW)).float()


def split_pathways(clips_BCTHW):
    """Return [slow, fast].

    pytorchvideo spreads the slow pathway's frames from the first to the last.
    """
    frames = clips_BCTHW.shape[2]
    if frames % ALPHA or frames > 32:
        raise UserError(
            f"slowfast_r50 takes clips of 4, 8, ... or 32 frames (its slow pathway has every fourth), got {frames}"
        )
    chosen = torch.linspace(0, frames - 1, frames // ALPHA, device=clips_BCTHW.device).long()
    return [clips_BCTHW[:, :, chosen], clips_BCTHW]


class _ShrinkingPool(nn.Module):
    """Average pooling with stride 1 whose window is at most as large as its input."""

    def __init__(self, window):
        super().__init__()
        self.window = window

    def forward(self, x):
        return F.avg_pool3d(x, [min(w, size) for w, size in zip(self.window, x.shape[2:], strict=True)], stride=1)


def _replace_pools(module):
    for name, child in module.named_children():
        if isinstance(child, nn.AvgPool3d):
            setattr(module, name, _ShrinkingPool([int(size) for size in child.kernel_size]))


OWN_LAYERS = {nn.Conv2d: cpu_conv.Conv2d, nn.Conv3d: cpu_conv.Conv3d, nn.BatchNorm3d: norms.BatchNorm3d}


def replace_layers(module: nn.Module) -> None:
    """Replace a layer of torch by the same with our checks and our convolution.

    That avoids oneDNN's wrong bf16 gradients.
    """
    module.__class__ = OWN_LAYERS.get(type(module), type(module))
