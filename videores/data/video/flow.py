"""Compute optical flow between the frames of a video, and write it as pictures.

A pixel of picture i says where it moves until frame i + 1: dx in its first byte, dy in its second, in short sides of
the picture a second. So equal motion has equal bytes at any size and frame rate. A byte is ZERO + STEPS * v / LIMIT,
rounded, from 1 to 255; faster motion is cut off, and counted. The last picture has no next frame: all is ZERO.

dis          Kroeger et al. 2016, arXiv:1603.03590, OpenCV's preset "medium"
farneback    Farneback 2003, doi:10.1007/3-540-45103-X_50, a window of 15 pixels
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from videores.errors import UserError
from videores.runtime.files import check_type

ZERO, STEPS, LIMIT = 128, 127, 4.0  # the byte of no motion, steps to either side, and what they reach to
VERSION = 1  # to be raised when the same frames come to give other bytes
TAG = "comment"  # the entry of a file's metadata in which flow says what it is


class FlowTag(TypedDict):
    """What a file of flow says of itself and of its video."""

    flow: int  # VERSION
    method: str
    limit: float  # short sides a second, of the largest byte
    beyond: float  # share of the vectors that were faster
    frames: int
    fps: float  # of file and video
    size: tuple[int, int]  # width, height of the file
    video_size: tuple[int, int]


@dataclass
class FlowCounts:
    """Count vectors while they are written, and those beyond LIMIT."""

    vectors: int = 0
    beyond: int = 0


def compute_flow(
    frames: Iterable[np.ndarray], seconds_T: np.ndarray, method: str, counts: FlowCounts
) -> Iterator[np.ndarray]:
    """Yield a picture of flow for each uint8 frame_HWC.

    `seconds_T` are the times at which the frames are shown.
    """
    cv2 = import_opencv()
    cv2.setNumThreads(1)  # as many helper processes run as there are cores
    compute, before, number = _make_method(cv2, method), None, 0
    for number, frame_HWC in enumerate(frames):
        grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
        if before is not None:
            seconds = seconds_T[number] - seconds_T[number - 1]
            yield encode_flow(compute(before, grey_HW) / (min(grey_HW.shape) * seconds), counts)
        before = grey_HW
    if before is not None:
        yield np.full((*before.shape, 3), ZERO, np.uint8)


def _make_method(cv2: Any, method: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of two grey pictures that gives float pixels_HW2 that the first one's move."""
    if method == "farneback":
        return lambda one, two: cv2.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda one, two: dis.calc(one, two, None)


def encode_flow(flow_HW2: np.ndarray, counts: FlowCounts) -> np.ndarray:
    """Return uint8 picture_HWC of flow in short sides a second.

    Its third byte is ZERO.
    """
    counts.vectors += flow_HW2.shape[0] * flow_HW2.shape[1]
    counts.beyond += int((np.abs(flow_HW2).max(-1) > LIMIT).sum())
    picture_HWC = np.full((*flow_HW2.shape[:2], 3), ZERO, np.uint8)
    picture_HWC[..., :2] = np.rint(ZERO + STEPS * np.clip(flow_HW2 / LIMIT, -1, 1))
    return picture_HWC


def decode_flow(picture_HWC: np.ndarray) -> np.ndarray:
    """Return float flow_HW2 in short sides a second."""
    return (picture_HWC[..., :2].astype(np.float32) - ZERO) * (LIMIT / STEPS)


def read_tag(metadata: Mapping[str, str]) -> str:
    """Return what a file says of its flow, "" where it holds none."""
    text = metadata.get(TAG, "")
    return text if text.startswith('{"flow": ') else ""


def parse_tag(text: str, path: Path | str) -> FlowTag:
    """Parse what `read_tag` returns of a file. Raises UserError."""
    return check_type(text.encode(), FlowTag, f"{path}: its flow", "write it again by tools/prepare.py --flow")


def format_tag(**values: Any) -> str:
    """Format what a file says of its flow."""
    return json.dumps({"flow": VERSION, "limit": LIMIT, **values})


def import_opencv() -> Any:
    """Import OpenCV. Raises UserError where it is absent."""
    try:
        import cv2
    except ImportError:
        raise UserError('--flow needs the package opencv-python-headless: pip install -e ".[flow]"') from None
    return cv2
