"""Augment the pixels of a training clip, one draw for all frames.

It happens in the worker, on uint8. Scale and crop are in transforms.py, speed and flip in dataset.py, hue, mixup and
cutmix, which are applied on the device, in mixing.py.

Sources and defaults of the keys are in docs/guide/augmentation.md. Every draw comes from the generator that is given.
"""

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from videores.data import transforms
from videores.errors import UserError
from videores.runtime.own_parts import call_part

ERASED_ASPECT = (0.3, 1 / 0.3)  # height / width of an erased box: Zhong et al. 2017, arXiv:1708.04896


def augment_clip(clip_THWC, augment, fill, rng):
    """Apply what config.AugmentConfig asks of the worker to a clip.

    `fill` is the RGB color outside the picture.
    """
    clip_TCHW = clip_THWC.permute(0, 3, 1, 2)
    if "height" in augment.flip_axes and rng.random() < 0.5:
        clip_TCHW = clip_TCHW.flip(2)
    if augment.rotation:
        angle = rng.uniform(-augment.rotation, augment.rotation)
        clip_TCHW = F.rotate(clip_TCHW, angle, F.InterpolationMode.BILINEAR, fill=fill)
    if augment.randaugment:
        operations, magnitude = augment.randaugment
        clip_TCHW = _draw_with_rng(rng, v2.RandAugment(operations, magnitude, fill=fill), clip_TCHW)
    if augment.trivialaugment:
        clip_TCHW = _draw_with_rng(rng, v2.TrivialAugmentWide(fill=fill), clip_TCHW)
    clip_TCHW = _jitter_color(clip_TCHW, augment, rng)
    if rng.random() < augment.grey:
        clip_TCHW = F.rgb_to_grayscale(clip_TCHW, num_output_channels=3)
    clip_THWC = clip_TCHW.permute(0, 2, 3, 1).contiguous()
    if rng.random() < augment.erasing:
        clip_THWC = erase_box(clip_THWC, augment.erasing_area, rng)
    return apply_own_step(augment.own, clip_THWC, rng) if augment.own else clip_THWC


def apply_own_step(path: str, clip_THWC: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Apply the augmentation of an import path to a uint8 clip.

    Raises UserError where what it returns is no clip of the same type and shape.
    """
    changed = call_part("data.augment.own", path, clip_THWC=clip_THWC, rng=rng)
    if not isinstance(changed, torch.Tensor) or (changed.shape, changed.dtype) != (clip_THWC.shape, torch.uint8):
        got = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, torch.Tensor) else type(changed).__name__
        raise UserError(
            f"data.augment.own={path} must return uint8 clips of the shape given, {tuple(clip_THWC.shape)}, got {got}"
        )
    return changed.contiguous()


def _draw_with_rng(rng, transform, clip_TCHW):
    """Call a torchvision transform with a state drawn from `rng`.

    Its transforms draw from torch's global state, which is set here and put back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))  # of CPUs alone, as is put back
        return transform(clip_TCHW)


def _jitter_color(clip_TCHW, augment, rng):
    """Jitter brightness, contrast and saturation as torchvision's ColorJitter does."""
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    strengths = (augment.brightness, augment.contrast, augment.saturation)
    factors = [rng.uniform(max(0, 1 - strength), 1 + strength) for strength in strengths]
    for i in rng.permutation(3):
        if strengths[i]:
            clip_TCHW = steps[i](clip_TCHW, factors[i])
    return clip_TCHW


def erase_box(clip_THWC, area, rng):
    """Fill one box through all frames with the same noise, where one fits.

    Source: Zhong et al. 2017, arXiv:1708.04896, algorithm 1 with random values (RE-R).
    """
    box = transforms.draw_rectangle(*clip_THWC.shape[1:3], area, ERASED_ASPECT, rng)
    if box is None:
        return clip_THWC
    top, left, height, width = box
    clip_THWC = clip_THWC.clone()  # it may be a view of frames that another clip shows too
    noise_HWC = torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    clip_THWC[:, top : top + height, left : left + width] = noise_HWC
    return clip_THWC
