"""Read a video from its first frame on: a file, a pipe, a camera or an address.

Frames are those of one sequential decode, which is what a frame is, so nothing is probed. Time stamps are seconds from
the first frame; where a file's do not rise, they follow from its rate; those of a camera are when frames arrived.
"""

import errno
import os
import re
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import numpy as np

from videores.data.video import opening, pictures
from videores.data.video.convert import FrameConverter
from videores.data.video.flow import read_tag
from videores.data.video.volumes import decode_slices, find_frame_decoder
from videores.errors import UnreadableVideo

OPEN_TIMEOUT, READ_TIMEOUT = 15.0, 15.0  # seconds that an address may take to answer, or to send more
DEFAULT_RATE = 25  # frames per second where none is stated, as of a folder of frames
DERIVED_DELAY = 2  # frames: AVI files hold no time stamps, and FFmpeg swaps those that it derives for packed B frames
CAMERA_FORMATS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}


class Readable(Protocol):
    """Bytes that come, with or without `seek` and `tell`."""

    @property
    def read(self) -> Callable[[int], bytes]: ...


class OpenVideo(NamedTuple):
    """A video that is read from its first frame on."""

    frames: Iterator[tuple[float, np.ndarray]]  # (seconds, uint8 RGB frame_HWC); raises UnreadableVideo
    rate: float | None  # frames per second, None where it is not constant or not known
    duration: float | None  # seconds that the file announces
    time_base: Fraction  # seconds of the unit of its time stamps
    flow: str = ""  # what a file of optical flow says of itself


@contextmanager
def open_video(source: str | Path | int | Readable, name: str | None = None) -> Iterator[OpenVideo]:
    """Open a video to read it from its first frame on.

    It is a file, a folder of frames, bytes that come, a camera's number or an address.
    `name` stands for a pipe in messages. Raises UnreadableVideo.
    """
    name = str(source) if name is None else name
    if isinstance(source, (str, Path)) and find_frame_decoder(source) is decode_slices:
        raise UnreadableVideo(name, "a volume has no time: predict it as a whole, without windows or a labeled video")
    if not isinstance(source, int) and hasattr(source, "is_dir") and source.is_dir():
        yield OpenVideo(_number_pictures(name, source), None, None, 1 / Fraction(DEFAULT_RATE))
        return
    try:
        container = _open(source)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UnreadableVideo(name, _describe_absence(source, error), lasting=False) from None
    with container:
        if not is_address(source):  # an address may be a list of files of the server it names
            opening.check_not_playlist(container, name)
        stream = opening.select_video_stream(container, name)
        rate = None if isinstance(source, int) else float(stream.average_rate or stream.guessed_rate or 0) or None
        duration = container.duration / av.time_base if container.duration and not isinstance(source, int) else None
        by_arrival = isinstance(source, int)
        frames = _decode(container, stream, name, rate, by_arrival)
        yield OpenVideo(frames, rate, duration, stream.time_base, read_tag(container.metadata))


def is_address(source: object) -> bool:
    """Return whether a source is an address, scheme://..."""
    return isinstance(source, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", source) is not None


def _open(source):
    if isinstance(source, int):
        kind, pattern = CAMERA_FORMATS.get(sys.platform, CAMERA_FORMATS["linux"])
        return av.open(pattern.format(source), format=kind, timeout=(OPEN_TIMEOUT, READ_TIMEOUT))
    if is_address(source):
        options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
        return av.open(source, options=options, metadata_errors="replace", timeout=(OPEN_TIMEOUT, READ_TIMEOUT))
    if isinstance(source, (str, Path)):
        return opening.open_container(source)
    return av.open(source, metadata_errors="replace")


def _describe_absence(source, error):
    what = "there is no such file" if isinstance(error, FileNotFoundError) else opening.format_decode_error(error, 0)
    if isinstance(source, int):
        return f"there is no camera of this number, or it is in use ({what}): give another number, or a file"
    if is_address(source):
        return f"the address does not answer with a video ({what}): look whether it is right and reachable"
    return what


def _decode(container, stream, name, rate, by_arrival):
    """Yield (seconds, frame_HWC); a frame without a time stamp that rises follows the one before it."""
    convert, seconds, first, size, stops, count = FrameConverter(), 0.0, None, None, [], 0
    frames = _decode_until_stop(container, stream, stops)
    for frame, pts in _sort_stamps(frames, DERIVED_DELAY if container.format.name == "avi" else 0):
        stamp = time.monotonic() if by_arrival else None if pts is None else float(pts * stream.time_base)
        if count:
            since = None if None in (stamp, first) else stamp - first
            seconds = since if since is not None and since > seconds else seconds + 1 / (rate or DEFAULT_RATE)
        first, image = stamp if count == 0 else first, convert(frame)
        size = size or image.shape
        if image.shape != size:
            before, after = (f"{shape[1]}x{shape[0]}" for shape in (size, image.shape))
            raise UnreadableVideo(name, f"its pictures change size from {before} to {after} at frame {count}")
        yield seconds, image
        count += 1
    if stops:
        raise UnreadableVideo(name, opening.format_decode_error(stops[0], count), lasting=False)
    if not count:
        raise UnreadableVideo(name, "no frame decodes")


def _decode_until_stop(container, stream, stops):
    """Yield frames up to an error, which is kept, and those that the decoder still holds then."""
    try:
        yield from container.decode(stream)
    except (av.FFmpegError, OSError) as error:
        stops.append(error)
        with suppress(av.FFmpegError):
            yield from stream.codec_context.decode(None)


def _sort_stamps(frames, delay):
    """Yield (frame, time stamp), the lowest of those of the next `delay` frames."""
    waiting, stamps = deque(), []
    for frame in frames:
        waiting.append(frame)
        if frame.pts is not None:
            heappush(stamps, frame.pts)
        if len(waiting) > delay:
            yield waiting.popleft(), heappop(stamps) if stamps else None
    for frame in waiting:
        yield frame, heappop(stamps) if stamps else None


def _number_pictures(name, folder):
    convert = FrameConverter()
    for number, frame in enumerate(pictures.decode_pictures(folder)):
        yield number / DEFAULT_RATE, convert(frame)


class SpooledPipe:
    """Keep the bytes of a pipe in a temporary file, so that it can be sought.

    mp4 files have their index at the end, to which a reader goes first. The pipe needs `read1`, as standard input and a
    server's answer have. `error` is why it stopped early, if it did.
    """

    def __init__(self, pipe: Any):
        self.pipe, self.file = pipe, tempfile.NamedTemporaryFile()  # noqa: SIM115 (it goes with this object)
        self.size, self.position = 0, 0
        self.error: OSError | KeyboardInterrupt | None = None

    def drain(self) -> Path:
        """Wait for the end of the pipe, and return the path of a file with all its bytes.

        The file goes with this object. Raises OSError where a server's answer stops early,
        and KeyboardInterrupt where that came while it was read.
        """
        if self.error is None:
            self._fill(None)
        if self.error is not None:
            raise self.error
        self.file.flush()
        return Path(self.file.name)

    def read(self, count: int = -1) -> bytes:
        """Read on, at most `count` bytes of what has come; wait only where there is nothing."""
        self._fill(None if count < 0 else self.position + 1)
        self.file.seek(self.position)
        content = self.file.read(count)
        self.position += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, and return it; -1 for the end, which only the end of the pipe tells."""
        if whence == os.SEEK_END:
            return -1  # an exception would be printed by PyAV, which asks for the size so
        self.position = offset + (self.position if whence == os.SEEK_CUR else 0)
        return self.position

    def tell(self) -> int:
        """Return the place that is read next."""
        return self.position

    def _fill(self, end):
        """Take from the pipe until `end` bytes are there, or all; where it stops early that is the end, too."""
        while end is None or self.size < end:
            try:
                content = self.pipe.read1(1 << 20)  # what has come, however little
            except KeyboardInterrupt as error:
                self.error = error  # `drain` raises it again: PyAV may swallow it, and take it for the end
                raise
            except OSError as error:
                self.error, content = error, b""
            if not content:
                if missing := getattr(self.pipe, "length", None):  # of a server's answer
                    self.error = OSError(errno.EIO, f"the stream stopped, {missing:,} bytes are missing")
                return
            self.file.seek(self.size)
            self.file.write(content)
            self.size += len(content)
