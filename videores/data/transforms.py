"""Frames to a clip: one crop and one flip for all frames of a clip, in uint8; colour and normalisation on the device.

Scaling the short side to S and cutting a c x c square is the same as cutting a square of c * short / S source pixels
and scaling that to c: only the pixels that are needed are scaled. A box is (top, left, side) in source pixels.
"""

import torch
from torchvision.transforms.v2 import functional as F


def random_box(height, width, short_side, crop, rng):
    side = box_side(height, width, short_side, crop)
    return int(rng.integers(0, height - side, endpoint=True)), int(rng.integers(0, width - side, endpoint=True)), side


def view_boxes(height, width, short_side, crop, crops):
    """The centre box, or three along the longer side: first, centre, last."""
    side = box_side(height, width, short_side, crop)
    top, left = height - side, width - side
    centre = (top // 2, left // 2, side)
    if crops == 1:
        return [centre]
    if height > width:
        return [(0, left // 2, side), centre, (top, left // 2, side)]
    return [(top // 2, 0, side), centre, (top // 2, left, side)]


def box_side(height, width, short_side, crop):
    return max(1, round(crop * min(height, width) / short_side))


def cut(frames_THWC, box, crop, flip=False):
    """uint8 clip of `crop` x `crop` pixels, T H W C; antialiased bilinear scaling, none where the box has that size."""
    top, left, side = box
    clip_TCHW = torch.as_tensor(frames_THWC)[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    if side != crop:  # on the permuted view: torchvision scales it in the decoder's own memory order
        clip_TCHW = F.resize(clip_TCHW, [crop, crop], antialias=True)
    clip_TCHW = clip_TCHW.flip(-1) if flip else clip_TCHW
    return clip_TCHW.permute(0, 2, 3, 1).contiguous()


def normalise(clips_BKTHWC, mean, std):
    """uint8 clips from the loader to float clips_BKCTHW, (x / 255 - mean) / std; in memory channels stay innermost."""
    mean, std = (255 * torch.tensor(v, device=clips_BKTHWC.device) for v in (mean, std))
    return ((clips_BKTHWC - mean) / std).movedim(-1, 2)
