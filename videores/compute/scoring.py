"""Score clips: the one forward pass of validation, test and prediction."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from videores.compute import precision
from videores.data import streams
from videores.data.streams import ClipFormat


def score_clips(model: Callable[[Any], Any], clips_XTHWC: Any, clip_format: ClipFormat, number_format: str) -> Any:
    """Return what a network answers, logits_XN, in a number format.

    It answers uint8 clips, or int16 sound_XS, on its device. Where several sources are read, the clips are {source:
    clips}.
    """
    device = streams.pick_first(clips_XTHWC).device.type
    last = precision.use_channels_last_scores(device, number_format)
    layout = torch.channels_last_3d if last else torch.contiguous_format
    clips = streams.make_input(streams.map_sources(lambda x: x[None], clips_XTHWC), clip_format)
    clips = streams.map_sources(lambda x: x[0].contiguous(memory_format=layout), clips)
    with precision.autocast(device, number_format):
        return model(clips)


def set_score_layout(model: nn.Module, device: str, number_format: str) -> None:
    """Bring a network's weights to the memory layout that its scores are computed in.

    Which is that of the test, whatever training had.
    """
    model.to(memory_format=torch.contiguous_format)
    if precision.use_channels_last_scores(device, number_format):
        precision.to_channels_last(model)
