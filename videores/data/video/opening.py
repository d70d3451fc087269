"""Open files as FFmpeg's containers: by their own names, one video stream, one thread, pictures within a limit."""

import errno
import os
from contextlib import contextmanager

import av

from videores.data.video.volumes import find_frame_decoder
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
PLAYLIST_FORMATS = ("concat", "hls", "dash", "imf")  # FFmpeg's names of such formats
TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")  # which FFmpeg draws


def open_container(path):
    """Open a file by its own name.

    Else FFmpeg would take an image called v%03d.jpg for the name of all its numbered neighbors, and file:a.mp4 or
    http:a.mp4 for a protocol: an absolute path is none.
    """
    options = {"pattern_type": "none", **_limit_decoder()}
    return av.open(find_source(path), metadata_errors="replace", options=options)


def find_source(path):
    """Return what a decoder opens: the absolute path, or a file that is open already."""
    return path if hasattr(path, "read") else os.path.abspath(path)


@contextmanager
def open_video_stream(path):
    """Yield the open file and its best video stream."""
    with open_container(path) as container:
        yield container, select_video_stream(container, path)


def read_frame_times(path: str | os.PathLike[str]) -> list[float]:
    """Return the seconds of a file's frames from the first one, without decoding.

    Empty where not every frame has a time stamp of its own.
    """
    if find_frame_decoder(path):
        return []
    with open_video_stream(path) as (container, stream):
        stamps = [packet.pts for packet in container.demux(stream) if packet.size]
        base = stream.time_base
    if None in stamps or len(set(stamps)) < len(stamps):
        return []
    return [float((stamp - min(stamps)) * base) for stamp in sorted(stamps)]


def select_video_stream(container, path):
    stream = container.streams.best("video")
    if stream is not None and stream.disposition & COVER:
        stream = next((track for track in container.streams.video if not track.disposition & COVER), None)
    if stream is None:
        cover = ", only a cover picture" if container.streams.video else ""
        raise UnreadableVideo(path, f"it has no video stream{cover}")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its video stream")
    if stream.codec_context.width * stream.codec_context.height > _read_pixel_limit():
        raise UnreadableVideo(path, describe_pixel_limit(), lasting=False)
    stream.codec_context.options = _limit_decoder()
    stream.codec_context.thread_count = 1
    return stream


def check_not_playlist(container, path):
    """Check that a file is no list of other files, which FFmpeg would read, and no text, which it would draw."""
    if container.format.name in PLAYLIST_FORMATS:
        raise UnreadableVideo(path, "it is a list of other files, no video")
    if container.format.name in TEXT_FORMATS:
        raise UnreadableVideo(path, "it is text, no video")


@contextmanager
def capture_decoder_warnings():
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


def describe_pixel_limit():
    limit = _read_pixel_limit()
    return (
        f"its pictures have more than {limit:,} pixels; raise the environment variable {PIXEL_LIMIT_VARIABLE}={limit}"
    )
