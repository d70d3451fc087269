"""Make a network's input from uint8 clips: colors, their differences in time, or flow.

What is read, cached, cut and augmented are pictures of three bytes a pixel, whatever the stream. It is here, on the
device, that they become the stream's channels. So a stream costs no decoding, and clips of several streams that are
cut from the same frames show the same moments.

difference   x[t + 1] - x[t] of the normalized colors of a clip, 0 for its last frame: a clip and its reversal have
             differences of opposite sign in opposite order, and equal absolute ones ("unsigned").
rgb+...      the colors, and then the differences, as channels of one clip.
grey         luma of the normalized colors (BT.601), which is exactly the color of grey pictures and volumes.
flow         (dx, dy) to the next frame, in short sides of the picture a second: data/video/flow.py says how they are
             written as bytes.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from videores.config.schema import ClipConfig, TransformConfig
from videores.config.streams import STREAMS, StreamName
from videores.data import transforms
from videores.data.lists import preview, split_segment, warn
from videores.data.probe import VideoInfo
from videores.data.video import flow
from videores.errors import UserError

MAX_BEYOND = 0.01  # share of vectors that are cut off before a warning


class ClipFormat(Protocol):
    """Tell how clips are made: `data` of a configuration, or a Preprocessing."""

    @property
    def stream(self) -> StreamName:
        """Return the stream."""

    @property
    def clip(self) -> ClipConfig:
        """Return how clips are sampled."""

    @property
    def transform(self) -> TransformConfig:
        """Return how frames are scaled, cut and normalized."""


def make_input(clips_BKTHWC: Tensor, clip_format: ClipFormat) -> Tensor:
    """Return float clips_BKCTHW of uint8 pictures, with the channels of the stream."""
    mean, std = select_normalization(clip_format)
    clips_BKCTHW = transforms.normalize_clips(clips_BKTHWC, mean, std)
    if clip_format.stream == "rgb":
        return clips_BKCTHW
    return select_channels(clips_BKCTHW.movedim(2, -1), clip_format.stream).movedim(-1, 2)


def select_normalization(clip_format: ClipFormat) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of the three bytes of a pixel, as shares of 255."""
    if clip_format.stream == "flow":
        return (flow.ZERO / 255,) * 3, (flow.STEPS / (255 * flow.LIMIT),) * 3
    return clip_format.transform.mean, clip_format.transform.std


def select_channels(pixels_XTHWC: Tensor, stream: StreamName) -> Tensor:
    """Return the channels of a stream, innermost, of normalized clips.

    Any dimensions may stand before T.
    """
    if stream == "flow":
        return pixels_XTHWC[..., : STREAMS[stream].channels]
    if stream == "rgb":
        return pixels_XTHWC
    if stream == "grey":
        return _compute_luma(pixels_XTHWC)
    step = pixels_XTHWC[..., 1:, :, :, :] - pixels_XTHWC[..., :-1, :, :, :]
    difference = F.pad(step.abs() if "unsigned" in stream else step, (0, 0, 0, 0, 0, 0, 0, 1))
    return torch.cat([pixels_XTHWC, difference], -1) if stream.startswith("rgb+") else difference


def _compute_luma(pixels_XTHWC):
    """Return .299 R + .587 G + .114 B, in a form that is exactly G where the three are equal."""
    red, green, blue = pixels_XTHWC.split(1, -1)
    return green + 0.299 * (red - green) + 0.114 * (blue - green)


def check_content(infos: Mapping[str, VideoInfo], stream: StreamName) -> None:
    """Check that files hold what a stream is made of.

    It is pictures, or flow as it was written for its video. Raises UserError that names those that do not.
    """
    wrong = [path for path, info in infos.items() if describe_mismatch(info.flow, stream)]
    if wrong:
        what = describe_mismatch(infos[wrong[0]].flow, stream)
        raise UserError(f"data.stream={stream}: {len(wrong)} files are of another: {what}\n  {preview(wrong)}")
    if stream == "flow":
        _check_flow({path: (flow.parse_tag(info.flow, path), info) for path, info in infos.items()})


def describe_mismatch(tag: str, stream: StreamName) -> str:
    """Say what a file lacks for a stream, "" where nothing.

    `tag` is that of flow, "" of a file without one.
    """
    if bool(tag) == (stream == "flow"):
        return ""
    if tag:
        return f"it holds optical flow, and the stream {stream} needs pictures: give the video, or the stream flow"
    return "it holds no optical flow: write it by tools/prepare.py --flow, and give that file or folder"


def _check_flow(files):
    """Check that flow is of one kind, and that each file still is what its tag says."""
    kinds = {(tag["flow"], tag["method"], tag["limit"]): path for path, (tag, _) in files.items()}
    if len(kinds) > 1:
        shown = "\n  ".join(
            f"{path}: version {v}, {method}, to {limit:g}" for (v, method, limit), path in kinds.items()
        )
        raise UserError(
            f"data.root must have flow of one method; write it again by tools/prepare.py --flow:\n  {shown}"
        )
    if kinds and {kind[::2] for kind in kinds} != {(flow.VERSION, flow.LIMIT)}:
        raise UserError("data.root has flow of another version of videores; write it again by tools/prepare.py --flow")
    wrong = [f"{path}: {line}" for path, (tag, info) in files.items() if (line := _compare_tag(path, tag, info))]
    if wrong:
        raise UserError(
            f"{len(wrong)} files of flow are not as they were written; write them again by tools/prepare.py --flow:\n  "
            + preview(wrong)
        )
    beyond = [path for path, (tag, _) in files.items() if tag["beyond"] > MAX_BEYOND]
    if beyond:
        warn(f"more than {MAX_BEYOND:.0%} of the flow is cut off in {len(beyond)} files:\n  {preview(beyond, 5)}")


def _compare_tag(path, tag, info):
    """Say in what a file differs from its tag; a part of a file has fewer frames."""
    now, then = f"{info.width}x{info.height}", "{}x{}".format(*tag["size"])
    if now != then:
        return f"{now} pixels, written as {then}"
    if split_segment(path)[1] is None and info.num_frames != tag["frames"]:
        return f"{info.num_frames} frames, written as {tag['frames']}"
    return (
        "" if abs(info.fps - tag["fps"]) <= 0.02 * tag["fps"] else f"{info.fps:g} frames/s, written as {tag['fps']:g}"
    )


def mirror_values(clip_THWC: Tensor, stream: StreamName) -> None:
    """Change, in place, the values of a uint8 clip that was mirrored left to right.

    dx of flow becomes -dx; colors stay.
    """
    if stream == "flow":
        clip_THWC[..., 0] = 2 * flow.ZERO - clip_THWC[..., 0].int()
