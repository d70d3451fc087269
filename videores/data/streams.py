"""Make a network's input of pictures or sound: colors, differences, flow, audio.

What is read, cached, cut and augmented are pictures of three bytes a pixel, or samples of sound. It is here, on the
device, that they become the stream's channels. So a stream costs no decoding, and clips of several streams that are
cut from the same frames show the same moments.

difference   x[t + 1] - x[t] of the normalized colors of a clip, 0 for its last frame: a clip and its reversal have
             differences of opposite sign in opposite order, and equal absolute ones ("unsigned").
rgb+...      the colors, and then the differences, as channels of one clip.
flow         (dx, dy) to the next frame, in short sides of the picture a second: data/video/flow.py says how they are
             written as bytes.
audio        the log-mel spectrogram of the clip's sound: data/audio.py.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from videores.config.schema import AudioConfig, AugmentConfig, ClipConfig, TransformConfig
from videores.config.streams import (
    COLOR_KEYS,
    STREAMS,
    Source,
    StreamName,
    Streams,
    format_streams,
    has_sound,
    list_sources,
)
from videores.data import audio, transforms
from videores.data.lists import preview, split_segment, warn
from videores.data.probe import VideoInfo
from videores.data.video import flow
from videores.errors import UserError

MAX_BEYOND = 0.01  # share of vectors that are cut off before a warning


class ClipFormat(Protocol):
    """Tell how clips are made: `data` of a configuration, or a Preprocessing."""

    @property
    def stream(self) -> Streams:
        """Return the stream, or several."""

    @property
    def clip(self) -> ClipConfig:
        """Return how clips are sampled."""

    @property
    def transform(self) -> TransformConfig:
        """Return how frames are scaled, cut and normalized."""

    @property
    def audio(self) -> AudioConfig:
        """Return how spectrograms are made."""


def map_sources(function: Callable[[Any], Any], clips: Any) -> Any:
    """Apply a function to clips, or to those of each source or stream."""
    return {name: function(some) for name, some in clips.items()} if isinstance(clips, Mapping) else function(clips)


def add_batch(shape: Any, count: int) -> Any:
    """Return the shape of a batch of clips of a shape, or of {stream: shape}."""
    return map_sources(lambda shape_CTHW: (count, *shape_CTHW), shape)


def pick_first(clips: Any) -> Any:
    """Return clips, or those of the first source or stream."""
    return next(iter(clips.values())) if isinstance(clips, Mapping) else clips


def make_input(clips_BKTHWC: Any, clip_format: ClipFormat) -> Any:
    """Return float clips_BKCTHW with the channels of the stream.

    They are made of uint8 pictures, or of int16 sound_BKS. Of several streams it is {stream: clips_BKCTHW}; it takes
    {source: clips} where several sources are read.
    """
    if isinstance(clip_format.stream, str):
        return _make_stream(clips_BKTHWC, clip_format.stream, clip_format)
    by_source = clips_BKTHWC if isinstance(clips_BKTHWC, Mapping) else {"rgb": clips_BKTHWC}
    return {name: _make_stream(by_source[STREAMS[name].source], name, clip_format) for name in clip_format.stream}


def _make_stream(clips_BKTHWC, stream, clip_format):
    if STREAMS[stream].is_sound:
        return audio.make_spectrograms(clips_BKTHWC, clip_format.audio)
    mean, std = select_normalization(stream, clip_format.transform)
    clips_BKCTHW = transforms.normalize_clips(clips_BKTHWC, mean, std)
    if stream == "rgb":
        return clips_BKCTHW
    return select_channels(clips_BKCTHW.movedim(2, -1), stream).movedim(-1, 2)


def select_normalization(stream: StreamName, transform: TransformConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of the three bytes of a pixel, as shares of 255."""
    if stream == "flow":
        return (flow.ZERO / 255,) * 3, (flow.STEPS / (255 * flow.LIMIT),) * 3
    return transform.mean, transform.std


def select_channels(pixels_XTHWC: Tensor, stream: StreamName) -> Tensor:
    """Return the channels of a stream, innermost, of normalized clips.

    Any dimensions may stand before T.
    """
    if stream == "flow":
        return pixels_XTHWC[..., : STREAMS[stream].channels]
    if stream == "rgb":
        return pixels_XTHWC
    step = pixels_XTHWC[..., 1:, :, :, :] - pixels_XTHWC[..., :-1, :, :, :]
    difference = F.pad(step.abs() if "unsigned" in stream else step, (0, 0, 0, 0, 0, 0, 0, 1))
    return torch.cat([pixels_XTHWC, difference], -1) if stream.startswith("rgb+") else difference


def check_content(infos: Mapping[str, VideoInfo], stream: Streams, key: str = "data.root") -> None:
    """Check that files hold what a stream is made of.

    It is pictures, flow as it was written for its video, or sound, which some may lack. `key` gives their folder.
    Raises UserError that names those that do not.
    """
    wrong = [path for path, info in infos.items() if describe_mismatch(info.flow, stream)]
    if wrong:
        what = describe_mismatch(infos[wrong[0]].flow, stream)
        keys = f"{key}, data.stream={format_streams(stream)}"
        raise UserError(f"{keys}: {len(wrong)} files are of another: {what}\n  {preview(wrong)}")
    if has_sound(stream):
        _check_sound(infos, format_streams(stream))
    if stream == "flow":
        _check_flow({path: (flow.parse_tag(info.flow, path), info) for path, info in infos.items()}, key)


def _check_sound(infos, shown):
    silent = [path for path, info in infos.items() if not info.has_audio]
    if infos and len(silent) == len(infos):
        raise UserError(
            f"data.stream={shown}: none of {len(infos)} files has sound; copies need tools/prepare.py --audio keep"
        )
    if silent:
        warn(f"{len(silent)} of {len(infos)} files have no sound, their spectrograms are 0:\n  {preview(silent, 5)}")


def describe_mismatch(tag: str, stream: Streams, *, with_sound: bool = True) -> str:
    """Say what a file lacks for a stream, "" where nothing.

    `tag` is that of flow, "" of a file without one. Windows and frames that come have no sound.
    """
    if has_sound(stream) and not with_sound:
        return "only whole files are read with their sound: give files, without --every, --timeline and addresses"
    if bool(tag) == (stream == "flow"):
        return ""
    if tag:
        shown = format_streams(stream)
        return f"it holds optical flow, and the stream {shown} needs pictures: give the video, or the stream flow"
    return "it holds no optical flow: write it by tools/prepare.py --flow, and give that file or folder"


def _check_flow(files, key):
    """Check that flow is of one kind, and that each file still is what its tag says."""
    kinds = {(tag["flow"], tag["method"], tag["limit"]): path for path, (tag, _) in files.items()}
    if len(kinds) > 1:
        shown = "\n  ".join(
            f"{path}: version {v}, {method}, to {limit:g}" for (v, method, limit), path in kinds.items()
        )
        raise UserError(f"{key} must have flow of one method; write it again by tools/prepare.py --flow:\n  {shown}")
    if kinds and {kind[::2] for kind in kinds} != {(flow.VERSION, flow.LIMIT)}:
        raise UserError(f"{key} has flow of another version of videores; write it again by tools/prepare.py --flow")
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


def check_pairs(infos: Mapping[str, VideoInfo], flows: Mapping[str, VideoInfo]) -> None:
    """Check that flow is of the same frames as the videos, at the same rate and shape.

    Raises UserError that names those that are not.
    """
    lines = [f"{path}: {line}" for path in flows if path in infos and (line := _compare_pair(infos[path], flows[path]))]
    if lines:
        raise UserError(
            f"data.flow must be the flow of the videos, got {len(lines)} files of others; write them again by "
            f"tools/prepare.py --flow:\n  {preview(lines)}"
        )


def _compare_pair(video, flows):
    """Say in what flow differs from its video, "" where in nothing; sizes are rounded to whole pixels."""
    if video.num_frames != flows.num_frames:
        return f"{flows.num_frames} frames, the video has {video.num_frames}"
    if abs(video.fps - flows.fps) > 0.02 * video.fps:
        return f"{flows.fps:g} frames/s, the video has {video.fps:g}"
    if abs(video.width * flows.height / video.height - flows.width) > 2:
        return f"{flows.width}x{flows.height} pixels, the video has {video.width}x{video.height}"
    return ""


def select_augment(augment: AugmentConfig, stream: Streams, source: Source) -> AugmentConfig:
    """Return the augmentation of a source.

    Of several, colors and own steps change the pictures alone.
    """
    if isinstance(stream, str) or source == "rgb":
        return augment
    usual = AugmentConfig()
    return augment.model_copy(update={key: getattr(usual, key) for key in (*COLOR_KEYS, "own")})


def mirror_values(clip_THWC: Tensor, stream: StreamName) -> None:
    """Change, in place, the values of a uint8 clip that was mirrored left to right.

    dx of flow becomes -dx; colors stay.
    """
    if stream == "flow":
        clip_THWC[..., 0] = 2 * flow.ZERO - clip_THWC[..., 0].int()


def draw_noise(count: int, clip_format: ClipFormat) -> Any:
    """Return uint8 clips_XTHWC of noise, or int16 sound_XS.

    Of several sources they are {source: clips}.
    """
    by_source = {source: _draw_source(count, clip_format, source) for source in list_sources(clip_format.stream)}
    return by_source if len(by_source) > 1 else pick_first(by_source)


def _draw_source(count, clip_format, source):
    rng, crop = torch.Generator().manual_seed(0), clip_format.transform.crop
    if source == "audio":
        shape = (count, clip_format.audio.count_samples(clip_format.clip))
        return torch.randint(-(2**12), 2**12, shape, generator=rng, dtype=torch.int16)
    shape = (count, clip_format.clip.frames, crop, crop, 3)
    return torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
