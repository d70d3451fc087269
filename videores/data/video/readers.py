"""Read video with PyAV, decord or TorchCodec behind one signature.

The truth is `scan`'s: frame i is the i-th frame that one sequential decode puts out of the stream that FFmpeg calls
best, turned and mirrored as it is to be shown, as RGB with the range and matrix of its colour tags. A reader takes
ascending frame numbers without repeats and returns uint8 frames_THWC, of each frame what `keep` makes of it; whether it
returns the truth for a file is found out by `videores.data.probe`. Decoders are opened for each read, with one thread,
and never cross a fork.
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
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from videores.data.video import containers, pictures
from videores.errors import UnreadableVideo, UserError

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

PIXEL_LIMIT_VARIABLE = "VIDEORES_MAX_PIXELS"
PIXEL_LIMIT = 2**27  # pixels of a picture: 15360 x 8640 has fewer
COVER = av.stream.Disposition.attached_pic

decord.logging.set_level(decord.logging.QUIET)  # it would print raw lines, of files that the probe has told about

UPRIGHT = (False, False, False)  # a picture that is shown as it is coded

# A seek costs about as much as decoding this many small frames.
MIN_SEEK_DISTANCE = 8


@dataclass
class _ScanResult:
    """Hold what one sequential decode found.

    `checksums` has one a frame, `keyframes` the (index, time stamp) of each.
    """

    fps: float
    orientation: tuple[bool, bool, bool]
    pixel_aspect: Fraction  # width : height of a shown pixel
    has_audio: bool
    promised: int  # frames that the file's header announces, 0 where it does not say
    duration: float | None  # seconds that it announces: of the pictures where frames are promised, else of all tracks
    container: str  # FFmpeg's name of the file format
    missing: int | None  # bytes that the file lacks of what its container says, None where that says nothing
    size: tuple[int, int] = (0, 0)  # width, height after rotation
    start: float | None = None  # seconds at which the first frame is shown
    end: float | None = None  # and the last one ends
    file_end: float = 0.0  # seconds at which the last packet of any track ends
    checksums: list[int] = field(default_factory=list)
    keyframes: list[tuple[int, int]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of each frame, from the first; none where stamps do not rise
    complaints: tuple[str, ...] = ()  # of the decoder, about frames that it put out all the same


def scan(path, beat=lambda stage: None, hold=0):
    """Decode a whole file, holding the last `hold` frames.

    Raises UnreadableVideo where it does not decode to its end.

    Of a damaged file some decoders leave parts of a picture as the memory was before. Which memory that is depends on
    how many frames are held, so two scans that hold different numbers tell such files.
    """
    if os.path.isdir(path):
        return _scan_pictures(path, beat, hold)
    times, held, missing = [], deque(maxlen=hold), containers.count_missing_bytes(path)
    try:
        with _capture_decoder_warnings() as said, _open_container(path) as container:
            _check_not_playlist(container, path)
            stream = _select_video_stream(container, path)
            rate, base = stream.average_rate or stream.guessed_rate or 0, stream.time_base
            found = _ScanResult(
                float(rate),
                UPRIGHT,
                Fraction(1),
                bool(container.streams.audio),
                stream.frames,
                _read_declared_duration(container, stream, path),
                container.format.name,
                missing,
            )
            convert = FrameConverter()
            for frame in _decode_all_tracks(container, stream, found):
                beat("decoding")
                held.append(frame)
                image = convert(frame)
                _check_frame_size(path, found, image, len(times))
                if frame.key_frame and frame.pts is not None:
                    found.keyframes.append((len(times), frame.pts))
                found.checksums.append(zlib.crc32(np.ascontiguousarray(image)))
                times.append(frame.pts)
                found.orientation, found.size = _read_orientation(frame), (image.shape[1], image.shape[0])
            if times and None not in (times[0], times[-1]):
                lasts = max(frame.duration * base, 1 / found.fps if found.fps else 0)
                found.start, found.end = float(times[0] * base), float(times[-1] * base + lasts)
            if times:
                found.pixel_aspect = read_pixel_aspect(stream, frame)
    except av.FFmpegError as error:
        if any("max pixel count" in message for message in said):
            raise UnreadableVideo(path, _describe_pixel_limit(), lasting=False) from None
        lasting = error.errno not in SYSTEM_ERRNOS
        cut = f"truncated: {missing:,} bytes are missing; " if missing else ""
        raise UnreadableVideo(path, cut + format_decode_error(error, len(times)), lasting) from None
    found.complaints = tuple(said)
    rising = None not in times and sorted(set(times)) == times
    found.seconds = [float((time - times[0]) * base) for time in times] if rising else []
    if said or not rising:
        found.keyframes = []  # without rising time stamps there is nothing to seek by
    return found


def _scan_pictures(path, beat, hold):
    """Scan a folder of frames, which have no rate and no time stamps."""
    found = _ScanResult(0, UPRIGHT, Fraction(1), False, 0, None, "pictures", missing=0)
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
        found.orientation, found.size = _read_orientation(frame), (image.shape[1], image.shape[0])
    found.complaints = tuple(said)
    return found


def _open_container(path):
    """Open a file by its own name.

    Else FFmpeg would take an image called v%03d.jpg for the name of all its numbered neighbors, and file:a.mp4 or
    http:a.mp4 for a protocol: an absolute path is none.
    """
    options = {"pattern_type": "none", **_limit_decoder()}
    return av.open(os.path.abspath(path), metadata_errors="replace", options=options)


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
    """Check that a file is no list of other files, which FFmpeg would read, and no text, which it would draw."""
    if container.format.name in PLAYLIST_FORMATS:
        raise UnreadableVideo(path, "it is a list of other files, no video")
    if container.format.name in TEXT_FORMATS:
        raise UnreadableVideo(path, "it is text, no video")


def _check_frame_size(path, found, image, number):
    size = (image.shape[1], image.shape[0])
    if number and size != found.size:
        before, after = ("{}x{}".format(*s) for s in (found.size, size))
        raise UnreadableVideo(path, f"its pictures change size from {before} to {after} at frame {number}")


def _decode_all_tracks(container, stream, found):
    """Yield the frames of `stream`; note where the packets of all tracks end."""
    timed = [track.index for track in container.streams if track.type in ("video", "audio")]
    ends = {}  # of each track, in its time base
    for packet in container.demux():
        time, track = packet.dts if packet.pts is None else packet.pts, packet.stream_index
        if time is not None:
            end = time + (packet.duration or 0 if track in timed else 0)  # subtitles may last for anything
            ends[track] = max(ends.get(track, end), end)
        if packet.stream.index == stream.index:  # the last packets of all tracks have the stream_index 0
            yield from packet.decode()
    found.file_end = max((float(end * container.streams[track].time_base) for track, end in ends.items()), default=0.0)


def _read_declared_duration(container, stream, path):
    """Return the seconds that the header announces, None where it does not.

    What FFmpeg works out from the bytes that are there is no announcement.
    """
    name = container.format.name
    if stream.frames:
        return float(stream.frames * stream.time_base if name == "avi" else (stream.duration or 0) * stream.time_base)
    if name == "asf":
        return containers.read_asf_seconds(path)
    return container.duration / av.time_base if name in ("matroska,webm", "flv") and container.duration else None


def format_decode_error(error, decoded):
    """Format what went wrong, with FFmpeg's last words where they were captured."""
    what = getattr(error, "strerror", None) or str(error)
    words = f" ({error.log[2].strip()})" if getattr(error, "log", None) else ""
    return f"{what}{words}" if decoded == 0 else f"{what} after {decoded} good frames{words}"


def _read_pixel_limit():
    """Return the most pixels that a picture may have: a small file may promise more than fits into memory."""
    text = os.environ.get(PIXEL_LIMIT_VARIABLE, str(PIXEL_LIMIT))
    if not text.isdecimal() or not 0 < int(text) < 2**30:
        raise UserError(f"{PIXEL_LIMIT_VARIABLE} must be a number of pixels below 1073741824, got {text!r}")
    return int(text)


def _limit_decoder():
    """Return FFmpeg's options against pictures far above the limit: it counts what it pads them with."""
    return {"max_pixels": str(2 * _read_pixel_limit() + 2**20)}


def _describe_pixel_limit():
    limit = _read_pixel_limit()
    return (
        f"its pictures have more than {limit:,} pixels; raise the environment variable {PIXEL_LIMIT_VARIABLE}={limit}"
    )


def _select_video_stream(container, path):
    stream = container.streams.best("video")
    if stream is not None and stream.disposition & COVER:
        stream = next((track for track in container.streams.video if not track.disposition & COVER), None)
    if stream is None:
        cover = ", only a cover picture" if container.streams.video else ""
        raise UnreadableVideo(path, f"it has no video stream{cover}")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its video stream")
    if stream.codec_context.width * stream.codec_context.height > _read_pixel_limit():
        raise UnreadableVideo(path, _describe_pixel_limit(), lasting=False)
    stream.codec_context.options = _limit_decoder()
    stream.codec_context.thread_count = 1
    return stream


class FrameConverter:
    """Convert decoded frames to RGB by one reused converter.

    Building one for each frame costs more than the conversion.

    With `short_side` the same step scales by area averaging: twice as fast as scaling the RGB picture afterwards.
    """

    def __init__(self, short_side=None):
        self.reformatter, self.short_side = VideoReformatter(), short_side
        self.unscaled = FrameConverter() if short_side is not None else self

    def __call__(self, frame):
        orientation = _read_orientation(frame)
        if self.short_side is not None and frame.interlaced_frame:
            # of such frames FFmpeg scales the two fields apart, and the small picture would be combed
            frame = av.VideoFrame.from_ndarray(self.unscaled.convert(frame), format="rgb24")
        rgb = self.convert(frame)
        return rgb if orientation == UPRIGHT else orient_picture(rgb, orientation)

    def convert(self, frame):
        # POINT repeats each chroma sample, as FFmpeg's 8-bit path does anyway; its 10-bit path would interpolate.
        size, how = (None, None), "POINT"
        if self.short_side is not None:
            size, how = _compute_scaled_size(frame.width, frame.height, self.short_side), "AREA"
        return self.reformatter.reformat(frame, *size, format="rgb24", interpolation=how, threads=1).to_ndarray()


def _name_unknown_side_data(cls, value):
    """Name a kind of side data that PyAV has no name for: it would not read any of that frame."""
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNKNOWN_{value}", value
    return kind


setattr(SideDataType, "_missing_", classmethod(_name_unknown_side_data))  # noqa: B010 (a hook of Enum)


def _read_orientation(frame):
    """Read from a frame's display matrix whether to (transpose, mirror, flip) it.

    Angles are rounded to the nearest quarter turn. A matrix of zeros says nothing.
    """
    data = SideDataContainer(frame).get(
        "DISPLAYMATRIX"
    )  # frame.side_data is a cycle, in which frames outlive their use
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()  # shows the pixel x, y at a x + c y, b x + d y
    across = abs(b) + abs(c) > abs(a) + abs(d)
    return (across, c < 0, b < 0) if across else (False, a < 0, d < 0)


def read_pixel_aspect(stream, frame):
    """Return the width : height of a pixel as it is shown; 1 where nothing is stated."""
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    return 1 / aspect if _read_orientation(frame)[0] else aspect


def orient_picture(picture_HWC, orientation):
    """Transpose, then mirror left to right, then flip upside down."""
    transpose, mirror, flip = orientation
    picture_HWC = picture_HWC.transpose(1, 0, 2) if transpose else picture_HWC
    # rows may be padded, but torch takes no negative strides
    return np.ascontiguousarray(picture_HWC[:: -1 if flip else 1, :: -1 if mirror else 1])


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
    frames = decord.VideoReader(os.path.abspath(path), num_threads=1).get_batch([int(i) for i in indices])
    # decord's output type is process-wide state that other packages set (importing pytorchvideo.data does).
    return _postprocess_frames(frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames), keep, short_side)


def _read_torchcodec(path, indices, keyframes=(), keep=keep_whole_frame, short_side=None):
    from torchcodec.decoders import VideoDecoder  # an optional extra, which needs a system FFmpeg

    decoder = VideoDecoder(os.path.abspath(path), dimension_order="NHWC", num_ffmpeg_threads=1)
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
    return name != "decord" or list(decord.VideoReader(os.path.abspath(path), num_threads=1).get_key_indices()) == keys


PLAYLIST_FORMATS = ("concat", "hls", "dash", "imf")  # FFmpeg's names of such formats
TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")  # which FFmpeg draws
TIMESTAMPED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # containers with a time stamp for every frame
READERS = {"decord": _read_decord, "pyav": read_pyav, "torchcodec": _read_torchcodec}
INSTALLED_READERS = tuple(name for name in READERS if name != "torchcodec" or find_spec("torchcodec"))
READER_VERSIONS = {"av": av.__version__, "decord": decord.__version__, "torchcodec": "torchcodec" in INSTALLED_READERS}
DECODE_ERRORS = (av.FFmpegError, decord.DECORDError, RuntimeError, ValueError, IndexError)
