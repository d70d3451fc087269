"""In which number format and memory layout a device trains: a rule per device, so a machine always does the same.

Scores (validation and test) are computed in float32 whatever was used for training, so that they depend neither on the
batch size nor on the number of processes by more than rounding; `trainer.score_precision` asks for another format.
"""

import torch

LIGHTNING = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose(accelerator, precision="auto", channels_last="auto"):
    """(precision, channels_last) for "cpu", "cuda" or another accelerator, the automatic ones filled in.

    On CPUs with bf16 instructions (AVX-512 or AMX), bf16 with channels last trains r2plus1d_18 3.4 times as fast as
    fp32; without them bf16 is emulated. In fp32 a CPU is faster with channels first. CUDA needs Ampere or newer.
    """
    if precision == "auto":
        precision = "bf16" if has_bf16(accelerator) else "fp32"
    if channels_last == "auto":
        channels_last = precision != "fp32"
    return precision, channels_last


def scores_channels_last(device, number_format):
    """The layout for scores. On CPUs channels last is faster in fp32 too, where there is no backward pass."""
    return device == "cpu" or number_format != "fp32"


def autocast_scores(device, number_format):
    """A context in which scores are computed in the number format, inside a training in any other as well."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(number_format)
    return torch.autocast(device, dtype, enabled=dtype is not None)


def has_bf16(accelerator):
    if accelerator == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    return accelerator == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def to_channels_last(module):
    """Convolution weights to channels-last memory, 2D and 3D; values, names and shapes stay."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
