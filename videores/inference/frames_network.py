"""Put a network's preprocessing in front of it, as part of the network."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from videores.data import streams
from videores.inference.preprocessing import Preprocessing


class FramesNetwork(nn.Module):
    """A network with its preprocessing: uint8 frames_BTHWC of any size -> probabilities_BN.

    Frames are scaled as `transforms.scale_frame` does, and cut in the centre, as `transforms.compute_view_corners`.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing):
        super().__init__()
        t = preprocessing.transform
        self.network, self.short_side, self.crop = network, t.short_side, t.crop
        self.stream = preprocessing.one_stream
        mean, std = streams.select_normalization(self.stream, t)
        self.register_buffer("mean_C", 255 * torch.tensor(mean))
        self.register_buffer("std_C", 255 * torch.tensor(std))

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        clips, frames, height, width, _ = frames_BTHWC.shape
        shorter = torch.sym_min(height, width)
        size: list[Any] = [height * self.short_side // shorter, width * self.short_side // shorter]
        frames_XCHW = frames_BTHWC.flatten(0, 1).permute(0, 3, 1, 2)
        x_XHWC = interpolate(frames_XCHW, size, mode="bilinear", antialias=True).permute(0, 2, 3, 1)
        for axis, side in enumerate(size, 1):
            place = _round_half(side - self.crop) + torch.arange(self.crop, device=x_XHWC.device)
            x_XHWC = x_XHWC.index_select(axis, place)
        clips_BTHWC = (x_XHWC.unflatten(0, (clips, frames)) - self.mean_C) / self.std_C
        return self.network(streams.select_channels(clips_BTHWC, self.stream).movedim(-1, 1)).softmax(1)


def _round_half(room):
    """Return round(room / 2), halves to even numbers, of a size that is symbolic."""
    half = room // 2
    return half + (room % 2) * (half % 2)
