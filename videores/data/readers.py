"""The decoders, behind one signature; the only module that reads video with PyAV, decord or TorchCodec.

The truth is `scan`'s: frame i is the i-th frame that one sequential decode puts out of the stream that FFmpeg calls
best, its display rotation applied, as RGB with the range and matrix of its colour tags. A reader takes ascending frame
numbers without repeats and returns uint8 frames_THWC; whether it returns the truth for a file is found out by
`videores.data.probe`. Decoders are opened for each read, with one thread, and never cross a fork.
"""

import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice

import av
import decord
import numpy as np
from av.video.reformatter import VideoReformatter

from videores.errors import UnreadableVideo

# A seek costs about as much as decoding this many small frames.
WORTH_A_SEEK = 8


@dataclass
class Scan:
    """What one sequential decode found: a checksum of each frame, and the (index, time stamp) of each keyframe."""

    fps: float
    rotation: int
    has_audio: bool
    promised: int  # frames that the file's header announces, 0 where it does not say
    duration: float | None  # seconds of video that it announces
    container: str  # FFmpeg's name of the file format
    size: tuple[int, int] = (0, 0)  # width, height after rotation
    end: float | None = None  # seconds at which the last frame ends
    checksums: list[int] = field(default_factory=list)
    keyframes: list[tuple[int, int]] = field(default_factory=list)


def scan(path):
    """Decodes a whole file. Raises UnreadableVideo where it does not decode to its end."""
    times = []
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = best_stream(container, path)
            rate = stream.average_rate or stream.guessed_rate or 0
            found = Scan(
                float(rate),
                0,
                bool(container.streams.audio),
                stream.frames,
                announced(container, stream),
                container.format.name,
            )
            convert = Converter()
            for frame in container.decode(stream):
                image = convert(frame)
                if frame.key_frame and frame.pts is not None:
                    found.keyframes.append((len(times), frame.pts))
                found.checksums.append(zlib.crc32(image))
                times.append(frame.pts)
                found.end = frame.time + 1 / found.fps if frame.time is not None and found.fps else None
                found.rotation, found.size = frame.rotation % 360, (image.shape[1], image.shape[0])
    except av.FFmpegError as error:
        raise UnreadableVideo(path, describe(error, len(times))) from None
    if None in times or sorted(set(times)) != times:
        found.keyframes = []  # without rising time stamps there is nothing to seek by
    return found


def announced(container, stream):
    """The stream's duration in seconds, or the file's where no sound may outlast the pictures; None if not given."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    alone = container.duration and not container.streams.audio
    return container.duration / av.time_base if alone else None


def describe(error, decoded):
    what = getattr(error, "strerror", None) or str(error)
    return what if decoded == 0 else f"{what} after {decoded} good frames"


def best_stream(container, path):
    stream = container.streams.best("video")
    if stream is None:
        raise UnreadableVideo(path, "it has no video stream")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its video stream")
    stream.codec_context.thread_count = 1
    return stream


class Converter:
    """Decoded frames to RGB, with one reused converter: building one for each frame costs more than the conversion."""

    def __init__(self):
        self.reformatter = VideoReformatter()

    def __call__(self, frame):
        # POINT repeats each chroma sample, as FFmpeg's 8-bit path does anyway; its 10-bit path would interpolate.
        rgb = self.reformatter.reformat(frame, format="rgb24", interpolation="POINT", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, frame.rotation // 90))

    def resize(self, image, width, height):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        return self.reformatter.reformat(frame, width, height, interpolation="AREA", threads=1).to_ndarray()


def read_pyav(path, indices, keyframes=()):
    """Seeks to the last of the given keyframes before a frame; decodes from the start where there are none."""
    convert = Converter()
    with av.open(str(path), metadata_errors="replace") as container:
        stream = best_stream(container, path)
        return np.stack([convert(frame) for frame in pick(container, stream, indices, keyframes)])


def pick(container, stream, indices, keyframes):
    starts = [index for index, _ in keyframes]
    frames, position = container.decode(stream), 0
    for index in indices:
        key = bisect_right(starts, index) - 1
        if key >= 0 and starts[key] - position >= WORTH_A_SEEK:
            position, time = keyframes[key]
            frames = seek(container, stream, time)
        frame = next(islice(frames, index - position, None), None)
        if frame is None:
            raise IndexError(f"the video ends before frame {index}")
        yield frame
        position = index + 1


def seek(container, stream, time):
    """Frames from the keyframe with this time stamp on; a decoder may put out earlier ones first."""
    container.seek(time, stream=stream)
    for frame in container.decode(stream):
        if frame.pts == time:
            yield frame
            break
    yield from container.decode(stream)


def read_decord(path, indices, keyframes=()):
    frames = decord.VideoReader(str(path), num_threads=1).get_batch([int(i) for i in indices])
    # decord's output type is process-wide state that other packages set (importing pytorchvideo.data does).
    return frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames)


def read_torchcodec(path, indices, keyframes=()):
    from torchcodec.decoders import VideoDecoder  # an optional extra, which needs a system FFmpeg

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at([int(i) for i in indices]).data.numpy()


def may_seek(name, path, found):
    """Whether a reader's way of seeking can be trusted with a file; what it reads is then still to be tried.

    Seen with decord 0.6.0: where its keyframe numbers differ from the true ones (MPEG-4 and HEVC with B-frames, H.264
    with open groups of pictures) it returns neighbours of the right frames; in AVI and MPEG files it now and then
    returns a wrong last frame, 3 times in 12 equal reads. TorchCodec seeks by time stamps too.
    """
    if name == "pyav":
        return True
    if not found.keyframes or found.container not in INDEXED:
        return False
    keys = [index for index, _ in found.keyframes]
    return name != "decord" or list(decord.VideoReader(str(path), num_threads=1).get_key_indices()) == keys


INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # containers with a time stamp for every frame
READERS = {"decord": read_decord, "pyav": read_pyav, "torchcodec": read_torchcodec}
INSTALLED = tuple(name for name in READERS if name != "torchcodec" or find_spec("torchcodec"))
VERSIONS = {"av": av.__version__, "decord": decord.__version__, "torchcodec": "torchcodec" in INSTALLED}
FAILURES = (av.FFmpegError, decord.DECORDError, RuntimeError, ValueError, IndexError)
