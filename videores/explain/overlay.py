"""Paint maps over frames: red speaks for the class, blue against it, and what is clear says nothing.

Values are relative to those of the same video. In time a map is not interpolated: frames of one step look alike.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from videores.data.video.encode import draw_on_video
from videores.explain.explanation import Explanation
from videores.inference.outputs import draw_label

OPACITY = 0.65  # of the largest value
FOR, AGAINST = np.array([255, 30, 0]), np.array([0, 90, 255])


def paint_heat(frame_HWC: np.ndarray, value_HW: np.ndarray) -> np.ndarray:
    """Return a uint8 frame with values painted over.

    1 and more have the full color of what speaks for the class, -1 and less the other one.
    """
    opacity_HW1 = OPACITY * np.abs(value_HW).clip(max=1)[..., None]
    color_HWC = np.where(value_HW[..., None] > 0, FOR, AGAINST)
    return np.round(frame_HWC * (1 - opacity_HW1) + color_HWC * opacity_HW1).astype(np.uint8)


def select_step(map_THW: np.ndarray, frame: int, frames: int) -> np.ndarray:
    """Return the step of a map in which a frame of a clip lies."""
    return map_THW[frame * len(map_THW) // frames]


def scale_heat(map_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate one step of a map over a frame."""
    return interpolate(torch.from_numpy(map_HW)[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()


def write_overlay(path: Path, source: Path, one: Explanation) -> int:
    """Write a video with its maps painted over, with the same frames and times; return the number of frames.

    Where views overlap, it is their mean. A frame between two frames of a clip shows the nearer one's, a frame outside
    of all explained clips nothing. Raises UnreadableVideo.
    """
    label = f"{one.name} {one.prediction.scores_N[one.label]:.2f}" + (" (zero map)" if one.is_zero else "")
    number = -1

    def draw(seconds: float, frame_HWC: np.ndarray) -> np.ndarray:
        nonlocal number
        number += 1
        heat_HW = None if one.is_zero else _find_heat(one, number)
        if heat_HW is not None:
            frame_HWC = paint_heat(frame_HWC, scale_heat(heat_HW, frame_HWC.shape[:2]))
        return draw_label(frame_HWC, label)

    return draw_on_video(path, source, draw)


def _find_heat(one, number):
    """Return the values of a frame, as large as the scaled frame, or None where no view shows it."""
    sum_HW, count_HW = np.zeros(one.scaled_size, np.float32), np.zeros(one.scaled_size, np.float32)
    for map_THW, frame_T, (top, left, height, width), flip in zip(
        one.maps_VTHW, one.frame_VT, one.box_V4, one.flip_V, strict=True
    ):
        if not frame_T.min() <= number <= frame_T.max():
            continue
        place = int(np.abs(frame_T - number).argmin())
        value_HW = scale_heat(select_step(map_THW, place, len(frame_T)), (int(height), int(width))) / one.full
        sum_HW[top : top + height, left : left + width] += value_HW[:, ::-1] if flip else value_HW
        count_HW[top : top + height, left : left + width] += 1
    return sum_HW / np.maximum(count_HW, 1) if count_HW.any() else None
