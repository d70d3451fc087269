"""Change test videos to probe what a network uses: frame order, corruptions.

Everything drawn at random follows from the seed and the video's path alone, so that all views, runs and processes see
the same damage. Strengths at 224 pixels are those of Hendrycks & Dietterich 2019, arXiv:1903.12261 (ImageNet-C, their
code); frames are damaged as the network sees them, scaled to the short side. docs/guide/evaluation.md has the table.
"""

import io
import zlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

ORDER, DROP, NOISE = 1, 2, 3  # streams of random numbers

NOISE_LEVELS = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of 0..1
BLUR_RADII = (1, 2, 3, 4, 6)  # standard deviation in pixels where the short side has 224
BRIGHTNESS_SHIFTS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to HSV's value, of 0..1
JPEG_QUALITIES = (25, 18, 15, 10, 7)
DROP_PROBABILITIES = (0.1, 0.25, 0.4, 0.6, 0.8)  # probability of a frame; ours


def derive_seed(seed, path):
    """Derive the seed of a video, the same on every machine and in every list."""
    return (seed, zlib.crc32(path.encode()))


def select_shown_frames(index_KT, num_frames, views, seed):
    """Return index_KT of the frames that clips show under views.order and frame_drop."""
    if views.order != "normal":
        index_KT = reorder_frames(index_KT, views.order, np.random.default_rng((*seed, ORDER)))
    if views.corruption != "frame_drop":
        return index_KT
    rng = np.random.default_rng((*seed, DROP))
    return _find_last_kept(rng.random(num_frames) >= DROP_PROBABILITIES[views.severity - 1])[index_KT]


def reorder_frames(index_KT, order, rng):
    """Reorder the frames of each clip.

    shuffled: at random, each clip by itself. reversed: the last first. frozen: all are the middle one, frame T // 2.
    static: all are the first one. subsampled: every second one is replaced by the one before, so that time passes in
    half as many steps.
    """
    frames = index_KT.shape[1]
    if order == "shuffled":
        return rng.permuted(index_KT, axis=1)
    if order == "reversed":
        return index_KT[:, ::-1].copy()
    if order in ("frozen", "static"):
        return np.repeat(index_KT[:, frames // 2 if order == "frozen" else 0, None], frames, axis=1)
    return index_KT[:, np.arange(frames) // 2 * 2] if order == "subsampled" else index_KT


def _find_last_kept(kept_N):
    """Return for each frame the last one kept up to it; the first always is."""
    numbers = np.where(kept_N, np.arange(len(kept_N)), 0)
    return np.maximum.accumulate(numbers)


def corrupt_frames(scaled_UHWC, number_U, views, seed):
    """Apply views.corruption of views.severity to frames of given numbers."""
    if views.corruption not in CORRUPTIONS:
        return scaled_UHWC
    damage, level = CORRUPTIONS[views.corruption], views.severity - 1
    frames = [
        damage(frame_HWC, level, np.random.default_rng((*seed, NOISE, int(number))))
        for frame_HWC, number in zip(torch.as_tensor(scaled_UHWC), number_U, strict=True)
    ]
    return torch.stack(frames)


def _add_noise(frame_HWC, level, rng):
    """Add Gaussian noise, independent for each value and frame."""
    grains = torch.from_numpy(rng.standard_normal(frame_HWC.shape, dtype=np.float32))
    return _to_uint8(frame_HWC + 255 * NOISE_LEVELS[level] * grains)


def _blur_frame(frame_HWC, level, _):
    """Blur with a Gaussian out to four standard deviations; edges are mirrored."""
    sigma = BLUR_RADII[level] * min(frame_HWC.shape[:2]) / 224
    reach = min(max(1, round(4 * sigma)), min(frame_HWC.shape[:2]) - 1)
    if reach == 0:  # a picture of one pixel
        return frame_HWC
    return F.gaussian_blur(frame_HWC.permute(2, 0, 1), [2 * reach + 1] * 2, [sigma] * 2).permute(1, 2, 0)


def _brighten_frame(frame_HWC, level, _):
    """Raise the value of HSV; hue and saturation stay, black becomes gray."""
    value = frame_HWC.amax(-1, keepdim=True) / 255
    raised = (value + BRIGHTNESS_SHIFTS[level]).clamp(max=1)
    return _to_uint8(torch.where(value > 0, frame_HWC * (raised / value.clamp(min=1 / 255)), 255 * raised))


def _compress_jpeg(frame_HWC, level, _):
    """Compress each frame by itself as JPEG."""
    file = io.BytesIO()
    Image.fromarray(frame_HWC.numpy()).save(file, "JPEG", quality=JPEG_QUALITIES[level])
    return torch.from_numpy(np.array(Image.open(file)))


def _to_uint8(frame):
    return frame.round().clamp(0, 255).to(torch.uint8)


CORRUPTIONS = {"noise": _add_noise, "blur": _blur_frame, "brightness": _brighten_frame, "compression": _compress_jpeg}
