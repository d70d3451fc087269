"""Apply hue shifts, mixup and cutmix to a training batch on the device.

All numbers are drawn by the loader and travel in the batch, so that nothing waits for the device: "hue" is hue_BK,
"mix" is what `draw_mix` returns. Pixels are 0..255 throughout. N classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from videores.data import streams, transforms


def finish_batch(batch: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Apply a batch's hue shift and mixture; mixed labels are probabilities label_BKN."""
    batch = dict(batch)
    hue_BK, mix = batch.pop("hue", None), batch.pop("mix", None)
    if hue_BK is not None:
        batch["clips"] = _shift_hue_of_pictures(batch["clips"], hue_BK)
    if mix is not None:
        label_BK = batch["label"] if batch["label"].ndim == 2 else batch["label"][:, None].expand_as(mix["partner"])
        batch["clips"] = streams.map_sources(lambda clips: _mix_clips(clips.float(), mix), batch["clips"])
        batch["label"] = _mix_pairs(F.one_hot(label_BK, classes).float(), mix["partner"], mix["share"])
    return batch


def _shift_hue_of_pictures(clips, hue_BK):
    if isinstance(clips, Mapping):
        return {**clips, "rgb": shift_hue(clips["rgb"], hue_BK)}
    return shift_hue(clips, hue_BK)


def _mix_clips(clips_BK, mix):
    """Mix pictures pixel by pixel, and sound, which mixup mixes alone, as a whole."""
    is_sound = clips_BK.ndim == 3
    return _mix_pairs(clips_BK, mix["partner"], mix["weight"][0, 0] if is_sound else mix["weight"][:, :, None])


def _mix_pairs(x_BK, partner_BK, weight):
    """Return weight * x + (1 - weight) * partner's x, exact for weights 1 and 0."""
    return torch.lerp(x_BK.flatten(0, 1)[partner_BK], x_BK, weight)


def draw_mix(augment, views, size, rng):
    """Draw one mixture for a batch of `views` = (B, K) clips of size x size pixels.

    {"partner": partner_BK by its number among the B * K clips, "weight": weight_HW of a clip's own pixels, "share": the
    weight of its own label, which is the mean of weight_HW}. Where mixup and cutmix are both on, a batch takes either.
    """
    kinds = [(make, alpha) for make, alpha in ((mixup, augment.mixup), (cutmix, augment.cutmix)) if alpha]
    make, alpha = kinds[rng.integers(len(kinds))]
    weight_HW = make(rng.beta(alpha, alpha), size, rng)
    partner_BK = rng.permutation(views[0] * views[1]).reshape(views)
    share = torch.tensor(weight_HW.mean(dtype=np.float64), dtype=torch.float32)
    return {"partner": torch.from_numpy(partner_BK), "weight": torch.from_numpy(weight_HW), "share": share}


def mixup(share, size, rng):
    """Return the same weight for all pixels.

    Source: Zhang et al. 2018, arXiv:1710.09412, section 2.
    """
    return np.full((size, size), share, dtype=np.float32)


def cutmix(share, size, rng):
    """Return weights 0 in the partner's box, in all frames, and 1 around it.

    Source: Yun et al. 2019, arXiv:1905.04899, eqs. 1 and 2.

    The box has 1 - share of the area and its centre anywhere, so that the picture's edge may cut it off.
    """
    half = int(size * np.sqrt(1 - share)) // 2
    row, column = rng.integers(size, size=2)
    weight_HW = np.ones((size, size), dtype=np.float32)
    weight_HW[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0
    return weight_HW


def shift_hue(clips_BKTHWC, hue_BK):
    """Turn the hue of float clips by a share of the color circle (HSV)."""
    clips = clips_BKTHWC.float()
    value, lowest = clips.amax(-1), clips.amin(-1)
    chroma = value - lowest
    hue = _compute_hue(clips, value, chroma) + 6 * hue_BK[..., None, None, None].to(clips)
    k = (hue[..., None] + transforms.make_constant([5.0, 3.0, 1.0], clips.device)) % 6
    return value[..., None] - chroma[..., None] * torch.minimum(k, 4 - k).clamp(0, 1)


def _compute_hue(clips, value, chroma):
    """Return the hue of each pixel: red 0, green 2, blue 4; 0 for grays."""
    red, green, blue = clips.unbind(-1)
    over = chroma.clamp(min=1e-6)
    of_blue = torch.where(value == green, 2 + (blue - red) / over, 4 + (red - green) / over)
    return torch.where(value == red, (green - blue) / over, of_blue)
