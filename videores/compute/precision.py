"""Choose the precision and memory layout that a device trains in, by a rule per device.

Scores (validation and test) are computed in float32 by the network as it stands, whatever was used for training, so
that they depend neither on the batch size nor on the number of processes by more than rounding;
`trainer.score_precision` asks for another format.
"""

import os
import shutil
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import nn

from videores.config.schema import TrainerConfig
from videores.errors import UserError

LIGHTNING_PRECISIONS = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class PrecisionSetting(NamedTuple):
    """How training steps are computed."""

    precision: str  # one of LIGHTNING
    channels_last: bool
    compiled: bool = False

    def __str__(self):
        return f"{self.precision}, channels {'last' if self.channels_last else 'first'}{', compiled' * self.compiled}"


def select_setting(trainer: TrainerConfig, device: str) -> PrecisionSetting:
    """Return the setting of the section `trainer` on a device, such as "cuda".

    On CPUs with bf16 instructions, bf16 with channels last trains r2plus1d_18 2.6 times (AVX-512) or 4.1 times (AMX) as
    fast as fp32 (docs/benchmark-step.md); without them bf16 is emulated. In fp32 a CPU is faster with channels first.
    CUDA needs Ampere or newer.
    """
    number_format, channels_last = trainer.precision, trainer.channels_last
    if number_format == "auto":
        number_format = "bf16" if has_bf16(device) else "fp32"
    if channels_last == "auto":
        channels_last = number_format in ("bf16", "fp16")
    return PrecisionSetting(number_format, channels_last, trainer.compile is True)


def use_channels_last_scores(device: str, number_format: str) -> bool:
    """Return whether scores are computed in channels-last memory.

    On CPUs it is faster in fp32 too, where there is no backward pass.
    """
    return device == "cpu" or number_format != "fp32"


def autocast(device: str, number_format: str) -> AbstractContextManager:
    """Return the autocast context of a number format, also inside that of another.

    None for fp32 and tf32, which is a switch of CUDA: `set_tf32`.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(number_format)
    return torch.autocast(device, dtype, enabled=dtype is not None)


def has_bf16(accelerator):
    if accelerator == "cuda":
        return is_ampere()
    return accelerator == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def is_ampere():
    """Or newer: the first GPUs with bf16 and TF32."""
    return torch.cuda.get_device_capability()[0] >= 8


def check_precision(trainer: TrainerConfig, device: str) -> None:
    """Check that the device can do what the configuration asks.

    Raises UserError.
    """
    if trainer.precision == "fp16" and device == "cpu":
        raise UserError("trainer.precision=fp16 is for GPUs: on a CPU use bf16, fp32 or auto")
    if trainer.precision == "tf32" and device != "cuda":
        raise UserError("trainer.precision=tf32 is a number format of CUDA GPUs: on a CPU use bf16, fp32 or auto")
    if trainer.precision == "tf32" and not is_ampere():
        raise UserError("trainer.precision=tf32 needs an Ampere GPU or a newer one: use fp16, fp32 or auto")
    if trainer.compile is True and device == "cpu" and not _find_compiler():
        raise UserError("trainer.compile=true needs a C++ compiler and finds none: install g++, or leave it out")


def _find_compiler():
    """Path of the C++ compiler that torch.compile would call on a CPU, or None."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))), None)


def set_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 on CUDA, process-wide.

    It rounds the factors of float32 products to 10 bits.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def to_channels_last(module: nn.Module) -> None:
    """Bring convolution weights, 2D and 3D, to channels-last memory.

    Values, names and shapes stay.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
