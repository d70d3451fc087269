"""Compute losses that need no labels, with modules that only training knows: `helpers`, which are in its checkpoints.

A projector compares clips by what the classifier reads; a small decoder rebuilds them from what the last stage, an
encoder, puts out. With hidden blocks (tubes: the same in all frames of a clip) the decoder is judged by what the
network did not see: Tong et al. 2022, arXiv:2203.12602, section 3.2. X clips, C channels, D features.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videores.config.schema import TrainConfig
from videores.errors import UserError
from videores.models import parts

SCALE = (2, 4, 4)  # frames, rows and columns that the decoder makes of each place of the last stage
BLOCK = 8  # pixels of a hidden block


class Decoder(nn.Module):
    """maps_XDTHW of the last stage -> a reduced clip, by two pointwise layers."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(features, features, 1), nn.ReLU(), nn.Conv3d(features, channels * math.prod(SCALE), 1)
        )

    def forward(self, maps_XDTHW):
        parts = self.layers(maps_XDTHW).unflatten(1, (-1, *SCALE))  # X, C, frames, rows, columns, T, H, W
        return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def make_helpers(model: nn.Module, train: TrainConfig) -> dict[str, nn.Module]:
    """Return the "projector" and "decoder" that a recipe needs.

    Raises UserError for a network without what they read.
    """
    helpers: dict[str, nn.Module] = {}
    if train.contrast:
        found = parts.find_classifier(model)
        if found is None:
            raise UserError("train.contrast needs a network with a linear classifier `fc`, of whose input it is")
        width = found[1].in_features
        helpers["projector"] = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
    if train.reconstruct:
        if not getattr(model, "stages", ()):
            raise UserError("train.reconstruct needs a network with stages layer1, ...: leave it out")
        helpers["decoder"] = Decoder(int(model.num_features), model.design.channels)  # type: ignore[arg-type, union-attr]
    return helpers


def hide_blocks(clips_XCTHW: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return clips with a share of their blocks at 0, the mean color, and what counts, hidden_X11HW.

    Without hidden blocks everything counts. Drawn from torch's generator of the CPU, which each step seeds.
    """
    clips, *_, height, width = clips_XCTHW.shape
    if not share:
        return clips_XCTHW, clips_XCTHW.new_ones(clips, 1, 1, height, width)
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    order_XN = torch.rand(clips, rows * columns).argsort(1).argsort(1)
    hidden_XN = (order_XN < max(1, round(share * rows * columns))).to(clips_XCTHW)
    hidden_XHW = hidden_XN.unflatten(1, (rows, columns)).repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
    hidden_X11HW = hidden_XHW[:, None, None, :height, :width]
    return clips_XCTHW * (1 - hidden_X11HW), hidden_X11HW


def reconstruction_loss(rebuilt_XCTHW: Tensor, clips_XCTHW: Tensor, hidden_X11HW: Tensor) -> Tensor:
    """Return the mean squared error of a reduced clip, against the clip averaged to its size, where it counts."""
    _, _, frames, height, width = rebuilt_XCTHW.shape
    target = F.adaptive_avg_pool3d(clips_XCTHW.float(), (frames, height, width))
    weight = F.adaptive_avg_pool3d(hidden_X11HW.float(), (1, height, width))
    error = (rebuilt_XCTHW.float() - target).square().mean((1, 2), keepdim=True)
    return (error * weight).sum() / weight.sum()


CONTRAST_TEMPERATURE = 0.1  # divides cosines


def contrastive_loss(projected_XD: Tensor, views: int) -> Tensor:
    """Return InfoNCE of clips: those of one video are alike, those of others differ.

    X clips follow each other by video, `views` of each. The loss is the mean over pairs of a video's clips, against all
    clips of the rank but the clip itself. Source: Chen et al. 2020, arXiv:2002.05709, section 2.1.
    """
    x_XD = projected_XD.float()
    cosine_XX = F.cosine_similarity(x_XD[:, None], x_XD, dim=-1) / CONTRAST_TEMPERATURE
    itself_XX = torch.eye(len(x_XD), dtype=torch.bool, device=x_XD.device)
    video_X = torch.arange(len(x_XD), device=x_XD.device) // views
    alike_XX = (video_X[:, None] == video_X) & ~itself_XX
    return -F.log_softmax(cosine_XX.masked_fill(itself_XX, -torch.inf), 1)[alike_XX].mean()
