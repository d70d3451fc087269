"""Read video with PyAV, decord or TorchCodec behind one signature.

The truth is `scan`'s. A reader takes ascending frame numbers without repeats and returns uint8 frames_THWC, of each
frame what `keep` makes of it; whether it returns the truth for a file is found out by `videores.data.probe`. Decoders
are opened for each read, with one thread, and never cross a fork.
"""

from importlib.util import find_spec
from itertools import islice

import av
import decord
import numpy as np

from videores.data.video.convert import FrameConverter
from videores.data.video.opening import find_source, open_video_stream
from videores.data.video.packets import Access, decode_by_packets, plan_runs
from videores.data.video.volumes import find_frame_decoder

decord.logging.set_level(decord.logging.QUIET)  # it would print raw lines, of files that the probe has told about
_FROM_START = Access()


def keep_whole_frame(frame_HWC):
    return frame_HWC


def read_pyav(path, indices, access=_FROM_START, keep=keep_whole_frame, short_side=None):
    """Read frames by PyAV: seek to the last known keyframe before a frame, and drop frames that are not needed.

    It decodes from the start where nothing is known, and of a folder of frames those alone.
    """
    convert, kept = FrameConverter(short_side), None
    for i, frame in enumerate(decode_chosen(path, indices, access)):
        part = keep(convert(frame))
        if kept is None:  # one block, filled as frames come: each converted frame's memory serves the next
            kept = np.empty((len(indices), *part.shape), np.uint8)
        kept[i] = part
    return kept


def decode_chosen(path, indices, access=_FROM_START):
    """Yield the decoded frames that `read_pyav` reads."""
    if decode := find_frame_decoder(path):
        yield from decode(path, indices)
    else:
        with open_video_stream(path) as (container, stream):
            decode = decode_by_packets if access.packet_order else _decode_frames
            yield from decode(container, stream, indices, access)


def _decode_frames(container, stream, indices, access):
    """Yield frames by counting those that the decoder puts out."""
    for keyframe, wanted in plan_runs(indices, access.keyframes):
        position, frames = 0, container.decode(stream)
        if keyframe is not None:
            position, frames = keyframe[0], _decode_from_keyframe(container, stream, keyframe[1])
        for index in wanted:
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


def _read_decord(path, indices, access=_FROM_START, keep=keep_whole_frame, short_side=None):
    return _postprocess_frames(_read_decord_batch(_open_decord(path), indices), keep, short_side)


def _open_decord(path):
    return decord.VideoReader(find_source(path), num_threads=1)


def _read_decord_batch(video, indices):
    frames = video.get_batch([int(i) for i in indices])
    # decord's output type is process-wide state that other packages set (importing pytorchvideo.data does).
    return frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames)


def _read_torchcodec(path, indices, access=_FROM_START, keep=keep_whole_frame, short_side=None):
    from torchcodec.decoders import VideoDecoder  # an optional extra, which needs a system FFmpeg

    decoder = VideoDecoder(find_source(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return _postprocess_frames(decoder.get_frames_at([int(i) for i in indices]).data.numpy(), keep, short_side)


def _postprocess_frames(frames_THWC, keep, short_side):
    if short_side is not None:
        convert = FrameConverter(short_side)
        frames_THWC = [convert(av.VideoFrame.from_ndarray(frame, format="rgb24")) for frame in frames_THWC]
    elif keep is keep_whole_frame:
        return frames_THWC
    return np.stack([keep(frame) for frame in frames_THWC])


def read_if_reliable(name, path, found, indices):
    """Read frames by decord or TorchCodec; None where their way of seeking is wrong for a file.

    Seen with decord 0.6.0: where its keyframe numbers differ from the true ones (MPEG-4 and HEVC with B-frames), and in
    H.264 with open groups of pictures, there for the last frame of short groups, it returns neighbours of the right
    frames; in AVI and MPEG files it now and then returns a wrong last frame, 3 times in 12 equal reads. TorchCodec
    seeks by time stamps too.
    """
    if not found.keyframes or found.container not in TIMESTAMPED_FORMATS:
        return None
    if name != "decord":
        return READERS[name](path, indices)
    if found.has_open_groups:
        return None
    video = _open_decord(path)
    is_reliable = list(video.get_key_indices()) == [index for index, _ in found.keyframes]
    return _read_decord_batch(video, indices) if is_reliable else None


TIMESTAMPED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # containers with a time stamp for every frame
READERS = {"decord": _read_decord, "pyav": read_pyav, "torchcodec": _read_torchcodec}
INSTALLED_READERS = tuple(name for name in READERS if name != "torchcodec" or find_spec("torchcodec"))
READER_VERSIONS = {"av": av.__version__, "decord": decord.__version__, "torchcodec": "torchcodec" in INSTALLED_READERS}
DECODE_ERRORS = (av.FFmpegError, decord.DECORDError, RuntimeError, ValueError, IndexError)
