"""Read frames of a video by number, and its sound by time, exactly."""

import os
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from videores.data.lists import split_segment
from videores.data.probe import VideoInfo, probe, read_file_stamp
from videores.data.shards import ShardVideo, Source
from videores.data.video import readers, sound
from videores.data.video.opening import format_decode_error
from videores.data.video.sound import SoundAccess
from videores.errors import UnreadableVideo, UserError


def read_frames(
    path: Source,
    indices: ArrayLike,
    *,
    reader: str = "auto",
    short_side: int | None = None,
    info: VideoInfo | None = None,
    keep: Callable[[np.ndarray], np.ndarray] | None = readers.keep_whole_frame,
) -> np.ndarray:
    """Return uint8 frames_THWC (RGB) by number, in any order and with repeats.

    Each is decoded once.

    `reader`: auto, decord, pyav or torchcodec; auto takes the fastest that is exact for this file. What is exact says
    `info` (a VideoInfo); without it the file is probed. `short_side` scales so that the shorter side has that many
    pixels, by area averaging. Of each frame_HWC only what `keep` returns is held, such as a box of it.
    Raises UserError for a frame that is not there or a reader that is not exact for the file, UnreadableVideo(path,
    reason) where decoding fails.
    """
    _check_arguments(path, indices, short_side)
    wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    check_reader_installed(reader)
    now = read_file_stamp(path)
    info = info or _probe_cached(path, str(now))
    _check_file_unchanged(path, info, now)
    _check_request_fits_video(path, wanted, reader, info)
    name = _select_reader(reader, info, short_side)
    # absolute, as FFmpeg takes what stands before a colon for a protocol
    file = path.open() if isinstance(path, ShardVideo) else os.path.abspath(split_segment(path)[0])
    try:
        frames = readers.READERS[name](file, wanted + info.first, info.access, keep, short_side)
    except readers.DECODE_ERRORS as error:
        what = format_decode_error(error, 0) or type(error).__name__
        raise UnreadableVideo(path, f"{name} failed on frames {wanted[0]}..{wanted[-1]}: {what}") from None
    return frames if len(places) == len(wanted) and (np.diff(places) > 0).all() else frames[places]


def _select_reader(reader, info, short_side):
    """Return the name of the reader to use.

    Unscaled frames are equal bytes from every reader. Scaled ones are PyAV's, which scales as it converts to RGB,
    unless another is named: that scales the RGB picture, which is slower and on real videos 1 to 2 gray levels off.
    """
    if reader != "auto":
        return reader
    return info.reader if short_side is None else "pyav"


@lru_cache(maxsize=1024)
def _probe_cached(path, _stamp):
    return probe(path)


def _check_arguments(path, indices, short_side):
    given = np.asarray(indices)
    if given.size and given.dtype.kind not in "iu":
        raise UserError(f"{path}: frame numbers must be integers, got {given.dtype}")
    if short_side is not None and short_side < 1:
        raise UserError(f"{path}: short_side must be at least 1, got {short_side}")


def _check_file_unchanged(path, info, now):
    if now is None:
        raise UnreadableVideo(path, "there is no such file (any more)")
    if tuple(now) != info.stamp:
        raise UnreadableVideo(path, "the file changed since it was probed; start again to probe it anew")


def check_reader_installed(reader):
    if reader not in ("auto", *readers.INSTALLED_READERS):
        extra = "; torchcodec is an extra: pip install 'videores[torchcodec]'" if reader == "torchcodec" else ""
        raise UserError(f"no reader {reader!r} here: use auto, {', '.join(readers.INSTALLED_READERS)}{extra}")


def _check_request_fits_video(path, wanted, reader, info):
    if reader not in ("auto", *info.readers):
        raise UserError(f"{path}: {reader} returns wrong frames of this file: use auto or {', '.join(info.readers)}")
    if wanted.size == 0:
        raise UserError(f"{path}: indices must name at least one frame")
    if wanted[0] < 0 or wanted[-1] >= info.num_frames:
        raise UserError(f"{path}: frame numbers must be in 0..{info.num_frames - 1}, got {wanted[0]}..{wanted[-1]}")


def read_sound(path: Source, first: int, count: int, rate: int, *, info: VideoInfo) -> np.ndarray:
    """Return `count` int16 mono samples of a video's sound from `first` on.

    Sample i is at i / `rate` seconds from the first picture. `info` must say how to read it: probe_all(...,
    sound=True). Raises UnreadableVideo(path, reason) where decoding fails.
    """
    _check_file_unchanged(path, info, read_file_stamp(path))
    if not isinstance(info.sound, SoundAccess):
        raise UnreadableVideo(path, info.sound or "its sound was not probed")
    file = path.open() if isinstance(path, ShardVideo) else os.path.abspath(split_segment(path)[0])
    try:
        return sound.read_sound(file, info.sound, first, count, rate)
    except sound.DECODE_ERRORS as error:
        what = format_decode_error(error, 0) or type(error).__name__
        raise UnreadableVideo(path, f"its sound does not decode from {first / rate:.3f} s on: {what}") from None
