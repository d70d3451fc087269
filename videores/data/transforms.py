"""Cut and scale frames to square uint8 clips; normalize on the device.

Training cuts first: scaling the short side to S and cutting a c x c square is the same as cutting a square of
c * short / S source pixels and scaling that to c, so that only the pixels that are needed are kept and scaled. A box
is (top, left, height, width) in source pixels.

Test views are scaled first, as torchvision's Resize and CenterCrop do it: the short side to S, bilinear and
antialiased, then c x c squares are cut; so each frame is scaled once, and overlapping views are slices of it. The two
differ by less than a pixel's rounding.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

CORNERS_AND_CENTER = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))  # shares of the room below and to the right


# Boxes of training clips


def draw_training_box(height, width, transform, augment, rng):
    """Draw a random box, as config.TransformConfig and AugmentConfig ask."""
    if augment.resized_crop:
        return draw_resized_box(height, width, augment.resized_crop, augment.resized_aspect, rng)
    if augment.multi_scale:
        return draw_multi_scale_box(height, width, augment.multi_scale, rng)
    low, high = transform.jitter or (transform.short_side, transform.short_side)
    return draw_box(height, width, rng.integers(low, high, endpoint=True), transform.crop, rng)


def draw_box(height, width, short_side, crop, rng):
    """Draw a square that becomes the crop where the short side becomes `short_side`."""
    side = max(1, round(crop * min(height, width) / short_side))
    return _draw_position(height, width, side, side, rng)


def draw_resized_box(height, width, area, aspect, rng):
    """Draw a box of a random share of the area and a random aspect.

    Where none fits, it is the largest central one.

    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6, in torchvision's reading (RandomResizedCrop).
    """
    box = draw_rectangle(height, width, area, aspect, rng)
    if box is None:
        low, high = aspect
        box_height = min(height, max(1, round(width / low)))
        box_width = min(width, max(1, round(height * high)))
        box = (height - box_height) // 2, (width - box_width) // 2, box_height, box_width
    return box


def draw_rectangle(height, width, area, aspect, rng):
    """Draw a box with a uniform area share and a log-uniform width / height.

    None where ten draws were too large for the picture.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        ratio = math.exp(rng.uniform(*np.log(aspect)))
        box_height, box_width = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < box_height <= height and 0 < box_width <= width:
            return _draw_position(height, width, box_height, box_width, rng)
    return None


def draw_multi_scale_box(height, width, scales, rng):
    """Draw a box from neighboring scales of the short side, at a corner or center.

    Source: Wang et al. 2016, arXiv:1608.00859, section 3.2; that the scales are neighbours is from its authors' code.
    """
    sides = [max(1, round(scale * min(height, width))) for scale in sorted(scales)]
    pairs = [(h, w) for i, h in enumerate(sides) for w in sides[max(i - 1, 0) : i + 2]]
    box_height, box_width = pairs[rng.integers(len(pairs))]
    down, right = CORNERS_AND_CENTER[rng.integers(len(CORNERS_AND_CENTER))]
    return round(down * (height - box_height)), round(right * (width - box_width)), box_height, box_width


def _draw_position(height, width, box_height, box_width, rng):
    top = int(rng.integers(0, height - box_height, endpoint=True))
    return top, int(rng.integers(0, width - box_width, endpoint=True)), box_height, box_width


def compute_hull(boxes):
    """Return the smallest box around some boxes."""
    top, left = (min(box[axis] for box in boxes) for axis in (0, 1))
    bottom, right = (max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1))
    return top, left, bottom - top, right - left


def scale_box(box, size, other):
    """Return the same shares of a picture of another size (height, width), at least a pixel."""
    if size == other:
        return box
    edges = [(box[axis], box[axis] + box[axis + 2]) for axis in (0, 1)]
    firsts, lasts = zip(
        *(
            (min(round(first * b / a), b - 1), round(last * b / a))
            for (first, last), a, b in zip(edges, size, other, strict=True)
        ),
        strict=True,
    )
    return *firsts, *(max(1, last - first) for first, last in zip(firsts, lasts, strict=True))


# Clips


def crop_box(frames, box):
    """Return the box of one frame_HWC or many, without a copy."""
    top, left, height, width = box
    return frames[..., top : top + height, left : left + width, :]


def crop_and_scale(frames_THWC, box, crop, flip=False, chosen=None):
    """Return a uint8 clip_THWC of `crop` x `crop` pixels.

    It is scaled bilinearly with antialiasing, not at all where the box has that size.

    `chosen` are the frames that are cut, by default all.
    """
    clip_THWC = crop_box(torch.as_tensor(frames_THWC), box)
    clip_TCHW = (clip_THWC if chosen is None else clip_THWC[chosen]).permute(0, 3, 1, 2)
    if box[2:] != (crop, crop):  # on the permuted view: torchvision scales it in the decoder's own memory order
        clip_TCHW = F.resize(clip_TCHW, [crop, crop], antialias=True)
    clip_TCHW = clip_TCHW.flip(-1) if flip else clip_TCHW
    return clip_TCHW.permute(0, 2, 3, 1).contiguous()


def scale_frame(frame_HWC: np.ndarray, short_side: int) -> np.ndarray:
    """Scale the short side to `short_side` pixels, the other in proportion.

    It is rounded down.

    A frame of that size is not touched.
    """
    height, width = frame_HWC.shape[:2]
    shorter = min(height, width)
    if shorter == short_side:
        return frame_HWC
    size = [side * short_side // shorter for side in (height, width)]
    frames_BCHW = torch.as_tensor(frame_HWC)[None].permute(0, 3, 1, 2)  # so torch sees that channels are innermost
    # what torchvision's resize calls; at this size a third of its time would be its own
    return interpolate(frames_BCHW, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def crop_views(
    scaled_UHWC: np.ndarray | torch.Tensor,
    place_KT: np.ndarray | torch.Tensor,
    crop: int,
    crops: int | str,
    chosen: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return uint8 test views_VTHWC: each of K clips in each of the crops.

    `place_KT` numbers the frames of the clips.

    `chosen` are the numbers of those that are cut, clip by clip, by default all.
    """
    scaled_UHWC, place_KT = torch.as_tensor(scaled_UHWC), torch.as_tensor(place_KT)
    height, width = scaled_UHWC.shape[1:3]
    corners, size = compute_view_corners(height, width, crop, crops), compute_view_size(height, width, crop, crops)
    chosen = range(len(place_KT) * len(corners)) if chosen is None else chosen
    views = scaled_UHWC.new_empty(len(chosen), place_KT.shape[1], *size, 3)
    crops_UHWC = [crop_box(scaled_UHWC, (*corner, *size)) for corner in corners]
    places = place_KT.unbind()
    for view, number in zip(views.unbind(), chosen, strict=True):
        clip, corner = divmod(number, len(corners))
        torch.index_select(crops_UHWC[corner], 0, places[clip], out=view)
        if corner >= len(CORNERS_AND_CENTER):
            view.copy_(view.flip(2))
    return views


def compute_view_corners(height: int, width: int, crop: int, crops: int | str) -> list[tuple[int, int]]:
    """Return (top, left) of each test crop.

    1: the centre. 3: first, centre and last along the longer side. 5: the corners and the centre. 10: those, and then
    the same again, which are to be mirrored. full: the whole picture.
    """
    if crops == "full":
        return [(0, 0)]
    along = [0.5] if crops == 1 else [0, 0.5, 1]
    shares: Sequence[tuple[float, float]] = [(share, 0.5) if height > width else (0.5, share) for share in along]
    if crops in (5, 10):
        shares = CORNERS_AND_CENTER * (crops // 5)
    return [(round(down * (height - crop)), round(right * (width - crop))) for down, right in shares]


def compute_view_size(height: int, width: int, crop: int, crops: int | str) -> tuple[int, int]:
    """Return (height, width) of each test crop."""
    return (height, width) if crops == "full" else (crop, crop)


# On the device


def normalize_clips(clips_BKTHWC: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Convert clips of 0..255 to float clips_BKCTHW, (x / 255 - mean) / std.

    In memory channels stay innermost.
    """
    mean_C, std_C = (255 * make_constant(v, clips_BKTHWC.device) for v in (mean, std))
    return ((clips_BKTHWC - mean_C) / std_C).movedim(-1, 2)


def make_constant(values, device):
    """Make a tensor of numbers on a device without waiting for it.

    torch.tensor(values, device=...) would wait, at each step.
    """
    return torch.tensor(values).to(device, non_blocking=True)
