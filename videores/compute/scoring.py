"""Score clips: the one forward pass of validation, test and prediction."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from videores.compute import precision
from videores.data import streams
from videores.data.streams import ClipFormat


def score_clips(
    model: Callable[[Tensor], Tensor], clips_XTHWC: Tensor, clip_format: ClipFormat, number_format: str
) -> Tensor:
    """Return logits_XN of uint8 clips on the model's device, in a number format.

    Of the stream audio, clips are int16 sound_XS.
    """
    device = clips_XTHWC.device.type
    last = precision.use_channels_last_scores(device, number_format)
    clips_XCTHW = streams.make_input(clips_XTHWC[None], clip_format)[0]
    clips_XCTHW = clips_XCTHW.contiguous(memory_format=torch.channels_last_3d if last else torch.contiguous_format)
    with precision.autocast(device, number_format):
        return model(clips_XCTHW)


def set_score_layout(model: nn.Module, device: str, number_format: str) -> None:
    """Bring a network's weights to the memory layout that its scores are computed in.

    Which is that of the test, whatever training had.
    """
    model.to(memory_format=torch.contiguous_format)
    if precision.use_channels_last_scores(device, number_format):
        precision.to_channels_last(model)
