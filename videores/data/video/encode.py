"""Encode frames to a video file, which gets its name when it is whole."""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from videores.data.video.sequential import open_video
from videores.errors import UserError
from videores.runtime.files import write_atomically

SOUND_RATE = 16000  # samples a second


def write_video(
    path: Path | str,
    frames_THWC: np.ndarray | Iterable[np.ndarray],
    fps: float | Fraction,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    sound_S: np.ndarray | None = None,
) -> None:
    """Encode uint8 RGB frames into `path`.

    They are an array, or an iterator where the video is too long for memory.

    The container follows from the name; `options` are the encoder's, e.g. {"qp": "0", "g": "1", "bf": "0"}.
    `sound_S` are samples from -1 to 1, SOUND_RATE a second, of a mono AAC track that begins with the first frame.
    """
    with write_atomically(path) as temporary:
        try:
            with av.open(os.path.abspath(temporary), "w") as container:
                frames = check_frame_arrays(frames_THWC, path)
                packets = encode_frames(container, frames, fps, codec, pix_fmt, options or {})
                if sound_S is not None:  # all tracks are there before the first packet is written
                    packets = chain([next(packets)], encode_sound(container, sound_S), packets)
                for packet in packets:
                    container.mux(packet)
        except UserError:
            raise
        except (av.FFmpegError, ValueError) as error:  # PyAV's word for an unknown codec, format or container
            raise UserError(f"{path}: cannot be written as {codec} {pix_fmt} {options or ''}: {error}") from error


@contextmanager
def open_mp4_in_memory() -> Iterator[tuple[av.container.OutputContainer, io.BytesIO]]:
    """Yield a container to write to, and the buffer of the file's bytes."""
    buffer = io.BytesIO()  # whose owner then writes it, and sees a full disk as it is: PyAV would hide the reason
    with av.open(buffer, "w", format="mp4") as container:
        yield container, buffer


def draw_on_video(path: Path, source: Path, draw: Callable[[float, np.ndarray], np.ndarray]) -> int:
    """Write a video as mp4 with each frame changed, and return their number.

    `draw(seconds, frame_HWC)` returns a frame of the same size; seconds count from the first frame. Time stamps stay,
    and where they do not rise the rate gives them. Sound is left out. Raises UnreadableVideo.
    """
    count = 0
    with ExitStack() as stack:
        temporary, opened = stack.enter_context(write_atomically(path)), stack.enter_context(open_video(source))
        container = stack.enter_context(av.open(os.path.abspath(temporary), "w", format="mp4"))
        stream = container.add_stream("libx264", options={"crf": "18", "preset": "veryfast", "bf": "0"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", opened.time_base
        for seconds, image_HWC in opened.frames:
            image_HWC = _pad_to_even(draw(seconds, image_HWC))
            if count == 0:
                stream.height, stream.width = image_HWC.shape[:2]
            frame = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
            frame.pts, frame.time_base = round(seconds / opened.time_base), opened.time_base
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


def _pad_to_even(image_HWC):
    """Repeat the last row or column of a picture of odd size, which 4:2:0 has not."""
    height, width = image_HWC.shape[:2]
    return np.pad(image_HWC, ((0, height % 2), (0, width % 2), (0, 0)), "edge")


def encode_frames(container, frames, fps, codec, pix_fmt, options, pixel_aspect=1):
    """Add a video stream and yield its packets, which are to be written.

    Their times are i / fps.
    """
    stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(30000), options=options)
    stream.pix_fmt = pix_fmt
    if pixel_aspect != 1:  # what files have that say nothing
        stream.codec_context.sample_aspect_ratio = pixel_aspect
    stream.codec_context.thread_count = 1  # rate control and slices depend on the number of threads
    time_base = 1 / stream.codec_context.framerate
    for i, image_HWC in enumerate(frames):
        if i == 0:
            stream.height, stream.width = image_HWC.shape[:2]
        frame = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
        frame.pts, frame.time_base = i, time_base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def encode_sound(container, samples_S):
    """Add a mono AAC track of float samples from -1 to 1, SOUND_RATE a second; return its packets."""
    stream = container.add_stream("aac", rate=SOUND_RATE, layout="mono", options={"aac_coder": "fast"})
    stream.bit_rate = 64000
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples_S[None]), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = SOUND_RATE, 0
    return [*stream.encode(frame), *stream.encode(None)]


def check_frame_arrays(frames, path):
    """Yield the frames as they come, checked to be uint8 H,W,3 of one size."""
    shape = None
    for image in frames:
        shape = shape or np.shape(image)
        if np.shape(image) != shape or len(shape) != 3 or shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f"{path}: frames must be uint8 H,W,3 of one size, got {image.dtype} {np.shape(image)}")
        yield np.ascontiguousarray(image)
    if shape is None:
        raise UserError(f"{path}: a video needs at least one frame")
