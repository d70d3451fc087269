"""Read video with PyAV, decord or TorchCodec behind one signature.

The truth is `scan`'s: frame i is the i-th frame that one sequential decode puts out of the stream that FFmpeg calls
best, its display rotation applied, as RGB with the range and matrix of its colour tags. A reader takes ascending frame
numbers without repeats and returns uint8 frames_THWC, of each frame what `keep` makes of it; whether it returns the
truth for a file is found out by `videores.data.probe`. Decoders are opened for each read, with one thread, and never
cross a fork.
"""

import errno
import os
import zlib
from bisect import bisect_right
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from itertools import islice

import av
import decord
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from videores.data.video import pictures
from videores.errors import UnreadableVideo

SYSTEM_ERRNOS = (
    errno.EPERM,
    errno.EACCES,
    errno.EIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
    errno.ESTALE,
)

# A seek costs about as much as decoding this many small frames.
MIN_SEEK_DISTANCE = 8


@dataclass
class _ScanResult:
    """Hold what one sequential decode found.

    `checksums` has one a frame, `keyframes` the (index, time stamp) of each.
    """

    fps: float
    rotation: int
    has_audio: bool
    promised: int  # frames that the file's header announces, 0 where it does not say
    duration: float | None  # seconds of video that it announces
    container: str  # FFmpeg's name of the file format
    size: tuple[int, int] = (0, 0)  # width, height after rotation
    start: float | None = None  # seconds at which the first frame is shown
    end: float | None = None  # and the last one ends
    checksums: list[int] = field(default_factory=list)
    keyframes: list[tuple[int, int]] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)  # the time stamp of each frame, in time_base
    time_base: Fraction | None = None
    complaints: tuple[str, ...] = ()  # of the decoder, about frames that it put out all the same


def scan(path, beat=lambda stage: None, hold=0):
    """Decode a whole file, holding the last `hold` frames.

    Raises UnreadableVideo where it does not decode to its end.

    Of a damaged file some decoders leave parts of a picture as the memory was before. Which memory that is depends on
    how many frames are held, so two scans that hold different numbers tell such files.
    """
    if os.path.isdir(path):
        return _scan_pictures(path, beat, hold)
    times, held = [], deque(maxlen=hold)
    try:
        with _capture_decoder_warnings() as said, _open_container(path) as container:
            _check_not_playlist(container, path)
            stream = _select_video_stream(container, path)
            rate = stream.average_rate or stream.guessed_rate or 0
            found = _ScanResult(
                float(rate),
                0,
                bool(container.streams.audio),
                stream.frames,
                _read_declared_duration(container, stream),
                container.format.name,
            )
            convert = FrameConverter()
            for frame in container.decode(stream):
                beat("decoding")
                held.append(frame)
                image = convert(frame)
                _check_frame_size(path, found, image, len(times))
                if frame.key_frame and frame.pts is not None:
                    found.keyframes.append((len(times), frame.pts))
                found.checksums.append(zlib.crc32(np.ascontiguousarray(image)))
                found.start = found.start if times else frame.time
                found.end = frame.time + 1 / found.fps if frame.time is not None and found.fps else None
                times.append(frame.pts)
                found.rotation, found.size = frame.rotation % 360, (image.shape[1], image.shape[0])
    except av.FFmpegError as error:
        lasting = error.errno not in SYSTEM_ERRNOS
        raise UnreadableVideo(path, format_decode_error(error, len(times)), lasting) from None
    found.pts, found.time_base = times, stream.time_base
    found.complaints = tuple(said)
    if None in times or sorted(set(times)) != times or said:
        found.keyframes = []  # without rising time stamps there is nothing to seek by
    return found


def _scan_pictures(path, beat, hold):
    """Scan a folder of frames, which have no rate and no time stamps."""
    found = _ScanResult(fps=0, rotation=0, has_audio=False, promised=0, duration=None, container="pictures")
    held, convert = deque(maxlen=hold), FrameConverter()
    frames, said = pictures.decode_pictures(path), []
    while True:
        beat("decoding")
        with _capture_decoder_warnings() as said_of_one:
            frame = next(frames, None)
        if frame is None:
            break
        if any(message.startswith("overread") for message in said_of_one):
            what = f"truncated: the lower part of picture {len(found.checksums) + 1} is missing"
            raise UnreadableVideo(path, what)
        said += said_of_one
        held.append(frame)
        image = convert(frame)
        _check_frame_size(path, found, image, len(found.checksums))
        found.checksums.append(zlib.crc32(np.ascontiguousarray(image)))
        found.rotation, found.size = frame.rotation % 360, (image.shape[1], image.shape[0])
    found.complaints = tuple(said)
    return found


def _open_container(path):
    """Open a file by its own name.

    Else FFmpeg would take an image called v%03d.jpg for the name of all its numbered neighbors.
    """
    return av.open(str(path), metadata_errors="replace", options={"pattern_type": "none"})


@contextmanager
def _capture_decoder_warnings():
    """Collect FFmpeg's warnings.

    After one, what is decoded may depend on where decoding began.
    """
    level, said = av.logging.get_level(), []
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as messages:
            yield said
    finally:
        av.logging.set_level(level)
        # the scaler's are about colour tags, not about what was decoded
        said.extend(message.strip() for _, source, message in messages if source != "swscaler")


def _check_not_playlist(container, path):
    """Check that a file is no list of other files, which FFmpeg would read."""
    if container.format.name in PLAYLIST_FORMATS:
        raise UnreadableVideo(path, "it is a list of other files, no video")


def _check_frame_size(path, found, image, number):
    size = (image.shape[1], image.shape[0])
    if number and size != found.size:
        before, after = ("{}x{}".format(*s) for s in (found.size, size))
        raise UnreadableVideo(path, f"its pictures change size from {before} to {after} at frame {number}")


def _read_declared_duration(container, stream):
    """Return the stream's declared duration in seconds, None if not given.

    It is the file's where no sound may outlast the pictures.
    """
    if stream.duration:
        return float(stream.duration * stream.time_base)
    alone = container.duration and not container.streams.audio
    return container.duration / av.time_base if alone else None


def format_decode_error(error, decoded):
    what = getattr(error, "strerror", None) or str(error)
    return what if decoded == 0 else f"{what} after {decoded} good frames"


def _select_video_stream(container, path):
    stream = container.streams.best("video")
    if stream is None:
        raise UnreadableVideo(path, "it has no video stream")
    if stream.disposition & Disposition.attached_pic:
        raise UnreadableVideo(path, "it has no video stream but a cover picture")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its video stream")
    stream.codec_context.thread_count = 1
    return stream


class FrameConverter:
    """Convert decoded frames to RGB by one reused converter.

    Building one for each frame costs more than the conversion.

    With `short_side` the same step scales by area averaging: twice as fast as scaling the RGB picture afterwards.
    """

    def __init__(self, short_side=None):
        self.reformatter, self.short_side = VideoReformatter(), short_side

    def __call__(self, frame):
        # POINT repeats each chroma sample, as FFmpeg's 8-bit path does anyway; its 10-bit path would interpolate.
        size, how = (None, None), "POINT"
        if self.short_side is not None:
            size, how = _compute_scaled_size(frame.width, frame.height, self.short_side), "AREA"
        rgb = self.reformatter.reformat(frame, *size, format="rgb24", interpolation=how, threads=1).to_ndarray()
        # rows may be padded, but torch takes no negative strides
        return np.ascontiguousarray(np.rot90(rgb, frame.rotation // 90)) if frame.rotation else rgb


def _compute_scaled_size(width, height, short_side):
    ratio = short_side / min(width, height)
    return max(round(width * ratio), short_side), max(round(height * ratio), short_side)


def keep_whole_frame(frame_HWC):
    return frame_HWC


@contextmanager
def open_video_stream(path):
    """Yield the open file and its best video stream."""
    with _open_container(path) as container:
        yield container, _select_video_stream(container, path)


def read_pyav(path, indices, keyframes=(), keep=keep_whole_frame, short_side=None):
    """Read frames by PyAV: seek to the last given keyframe before a frame.

    It decodes from the start where there are none, and of a folder of frames those alone.
    """
    convert, kept = FrameConverter(short_side), None
    with ExitStack() as stack:
        if os.path.isdir(path):
            frames = pictures.decode_pictures(path, indices)
        else:
            container = stack.enter_context(_open_container(path))
            frames = _decode_frames(container, _select_video_stream(container, path), indices, keyframes)
        for i, frame in enumerate(frames):
            part = keep(convert(frame))
            if kept is None:  # one block, filled as frames come: each converted frame's memory serves the next
                kept = np.empty((len(indices), *part.shape), np.uint8)
            kept[i] = part
    return kept


def _decode_frames(container, stream, indices, keyframes):
    starts = [index for index, _ in keyframes]
    frames, position = container.decode(stream), 0
    for index in indices:
        key = bisect_right(starts, index) - 1
        if key >= 0 and starts[key] - position >= MIN_SEEK_DISTANCE:
            position, time = keyframes[key]
            frames = _decode_from_keyframe(container, stream, time)
        frame = next(islice(frames, index - position, None), None)
        if frame is None:
            raise IndexError(f"the video ends before frame {index}")
        yield frame
        position = index + 1


def _decode_from_keyframe(container, stream, time):
    """Yield frames from the keyframe with this time stamp on.

    A decoder may put out earlier ones first.
    """
    container.seek(time, stream=stream)
    for frame in container.decode(stream):
        if frame.pts == time:
            yield frame
            break
    yield from container.decode(stream)


def _read_decord(path, indices, keyframes=(), keep=keep_whole_frame, short_side=None):
    frames = decord.VideoReader(str(path), num_threads=1).get_batch([int(i) for i in indices])
    # decord's output type is process-wide state that other packages set (importing pytorchvideo.data does).
    return _postprocess_frames(frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames), keep, short_side)


def _read_torchcodec(path, indices, keyframes=(), keep=keep_whole_frame, short_side=None):
    from torchcodec.decoders import VideoDecoder  # an optional extra, which needs a system FFmpeg

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return _postprocess_frames(decoder.get_frames_at([int(i) for i in indices]).data.numpy(), keep, short_side)


def _postprocess_frames(frames_THWC, keep, short_side):
    if short_side is not None:
        convert = FrameConverter(short_side)
        frames_THWC = [convert(av.VideoFrame.from_ndarray(frame, format="rgb24")) for frame in frames_THWC]
    elif keep is keep_whole_frame:
        return frames_THWC
    return np.stack([keep(frame) for frame in frames_THWC])


def is_seeking_reliable(name, path, found):
    """Return whether a reader's way of seeking may be tried on a file.

    Seen with decord 0.6.0: where its keyframe numbers differ from the true ones (MPEG-4 and HEVC with B-frames, H.264
    with open groups of pictures) it returns neighbours of the right frames; in AVI and MPEG files it now and then
    returns a wrong last frame, 3 times in 12 equal reads. TorchCodec seeks by time stamps too.
    """
    if name == "pyav":
        return True
    if not found.keyframes or found.container not in TIMESTAMPED_FORMATS:
        return False
    keys = [index for index, _ in found.keyframes]
    return name != "decord" or list(decord.VideoReader(str(path), num_threads=1).get_key_indices()) == keys


PLAYLIST_FORMATS = ("concat", "hls", "dash", "imf")  # FFmpeg's names of such formats
TIMESTAMPED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # containers with a time stamp for every frame
READERS = {"decord": _read_decord, "pyav": read_pyav, "torchcodec": _read_torchcodec}
INSTALLED_READERS = tuple(name for name in READERS if name != "torchcodec" or find_spec("torchcodec"))
READER_VERSIONS = {"av": av.__version__, "decord": decord.__version__, "torchcodec": "torchcodec" in INSTALLED_READERS}
DECODE_ERRORS = (av.FFmpegError, decord.DECORDError, RuntimeError, ValueError, IndexError)
