"""Re-encode a video to a small copy with close keyframes, and check it.

The copy is H.264 in mp4: every frame of the source in its order, at its time from the first, scaled down by area
averaging, a keyframe every few frames, no B-frames. Its pixels are the source's as they are shown, with rotation and
colour tags applied, in the coding that untagged files have.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from videores.data.lists import IMAGE_SUFFIXES
from videores.data.video import encode, flow, pictures, readers
from videores.data.video.convert import (
    FrameConverter,
    compute_shown_size,
    read_orientation,
    read_pixel_aspect,
)
from videores.data.video.flow import FlowCounts
from videores.data.video.opening import format_decode_error, open_video_stream
from videores.errors import UnreadableVideo
from videores.runtime import files

PICTURE_RATE = 25  # frames a second of copies of folders of frames, which state none
RECIPE_VERSION = 3  # to be raised when the same settings come to give other files: then all are made anew
NUM_CHECK_POSITIONS = 32  # where frames of the copy are compared with the source's
BLOCK_SIZE = 8  # pixels; compared are the means of blocks, in which noise that coding leaves out does not count
# a factor and gray levels: in still scenes, coding errors may make a neighbor that much nearer
MISMATCH_MARGIN = (1.25, 0.5)


@dataclass(frozen=True)
class EncodingSettings:
    """Hold the settings of copies, on which their bytes depend."""

    short_side: int = 128  # pixels, even; a smaller video keeps its size, but for an odd row or column
    keyframes: int = 12  # frames from one keyframe to the next
    crf: float = 18  # x264's constant rate factor, 0 to 51: the higher, the smaller and coarser
    audio: Literal["keep", "drop"] = "drop"
    flow: Literal["none", "dis", "farneback"] = "none"  # its method; the copy has flow in place of the pictures
    recipe: int = RECIPE_VERSION


@dataclass
class _SourceRecord:
    """Record what passes through on the way to the encoder."""

    pixel_aspect: Fraction = Fraction(1)  # width : height of a shown pixel
    stamps: list[int | None] = field(default_factory=list)  # of the frames, in the stream's time base
    some: dict[int, np.ndarray] = field(default_factory=dict)  # frame number -> its blocks, as they were encoded
    sound: list = field(default_factory=list)  # packets
    size: tuple[int, int] = (0, 0)  # width, height of the source
    flow: FlowCounts = field(default_factory=FlowCounts)


def reencode(
    source: Path,
    target: Path,
    settings: EncodingSettings,
    num_frames: int,
    beat: Callable[[str], None],
    seconds_T: np.ndarray | None = None,
) -> None:
    """Write the copy of a video of `num_frames` frames, or of an image as it is.

    `seconds_T` are the times of its frames, which flow needs.

    It is to be called in a helper of `sandbox`.

    Raises UnreadableVideo where the source or the copy is not as it should be, OSError where writing fails.
    """
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with files.write_atomically(target) as temporary:
        try:
            if Path(source).suffix.lower() in IMAGE_SUFFIXES:
                _raise_if_still(source, settings)
                _write_bytes_synced(temporary, _read_source_bytes(source))
            else:
                transcode = _transcode_pictures if Path(source).is_dir() else _transcode
                content, seen, times = transcode(source, settings, num_frames, beat, seconds_T)
                _write_bytes_synced(temporary, content)
                check_copy(temporary, seen.some, times, settings.keyframes, beat)
        except UnreadableVideo as error:
            raise UnreadableVideo(source, error.reason) from None
        except readers.DECODE_ERRORS as error:
            raise UnreadableVideo(source, f"cannot be re-encoded: {format_decode_error(error, 0)}") from None


def _raise_if_still(source, settings):
    if settings.flow != "none":
        raise UnreadableVideo(source, "a picture has no flow")


def _read_source_bytes(source):
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UnreadableVideo(source, error.strerror) from None


def _transcode(source, settings, num_frames, beat, seconds_T):
    """Return the copy's bytes, what is in it, and its frames' times in seconds.

    Packets are kept until the last frame has shown whether all time stamps rise, and get their times then.
    """
    seen, wanted = _SourceRecord(), _select_frames_to_check(num_frames)
    with open_video_stream(source) as (container, stream), encode.open_mp4_in_memory() as (copy, buffer):
        if flow.read_tag(container.metadata):
            raise UnreadableVideo(source, "it holds optical flow, which another coding would change: copy the file")
        sound = container.streams.audio if settings.audio == "keep" else ()
        images = _scale_frames(_decode_source(container, stream, sound, seen), settings.short_side, seen)
        images = _record_block_means(_replace_by_flow(images, settings, seen, seconds_T), wanted, seen, beat)
        first = list(islice(images, 1))  # after which the shape of the pixels is known
        packets = list(
            encode.encode_frames(
                copy,
                encode.check_frame_arrays(chain(first, images), source),
                _select_frame_rate(stream),
                *_make_codec_arguments(settings),
                pixel_aspect=seen.pixel_aspect,
            )
        )
        if len(seen.stamps) != num_frames:
            raise UnreadableVideo(source, f"{len(seen.stamps)} frames decode now, {num_frames} when it was probed")
        base, times, start = _compute_frame_times(source, stream, seen.stamps)
        _set_packet_times(packets, base, times, _select_frame_rate(stream))
        _tag_flow(copy, settings, seen, float(_select_frame_rate(stream)))
        copy.container_options["video_track_timescale"] = str(base.denominator)  # or mp4 would round the times
        packets += _copy_audio(source, copy, sound, seen.sound, start)
        copy.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return buffer.getbuffer(), seen, [time * base for time in times]


def _transcode_pictures(folder, settings, num_frames, beat, seconds_T):
    """Return what `_transcode` does, of a folder of frames."""
    seen, wanted = _SourceRecord(), _select_frames_to_check(num_frames)
    with encode.open_mp4_in_memory() as (copy, buffer):
        images = _scale_frames(pictures.decode_pictures(folder), settings.short_side, seen)
        images = _replace_by_flow(images, settings, seen, np.arange(num_frames) / PICTURE_RATE)
        images = encode.check_frame_arrays(_record_block_means(images, wanted, seen, beat), folder)
        packets = list(encode.encode_frames(copy, images, PICTURE_RATE, *_make_codec_arguments(settings)))
        _tag_flow(copy, settings, seen, PICTURE_RATE)
        copy.mux(packets)
    return buffer.getbuffer(), seen, [Fraction(number, PICTURE_RATE) for number in range(len(seen.stamps))]


def _replace_by_flow(images, settings, seen, seconds_T):
    return images if settings.flow == "none" else flow.compute_flow(images, seconds_T, settings.flow, seen.flow)


def _tag_flow(copy, settings, seen, fps):
    """Write into the copy, before its first packet, what its flow is."""
    if settings.flow != "none":
        share = seen.flow.beyond / max(1, seen.flow.vectors)
        stream = copy.streams.video[0]
        facts = dict(method=settings.flow, beyond=round(share, 6), frames=len(seen.stamps), fps=fps)
        sizes = dict(size=(stream.width, stream.height), video_size=seen.size)
        copy.metadata[flow.TAG] = flow.format_tag(**facts, **sizes)


def _select_frames_to_check(num_frames):
    """Return numbers of frames all over a video, each with its neighbors."""
    spread = np.linspace(0, num_frames - 1, NUM_CHECK_POSITIONS).astype(int)
    return {int(n) for n in np.concatenate([spread - 1, spread, spread + 1]) if 0 <= n < num_frames}


def _scale_frames(frames, short_side, seen):
    """Yield read_frames(short_side=...), but for an odd last row or column.

    Small pictures are not scaled.
    """
    convert = None
    for frame in frames:
        convert = convert or FrameConverter(short_side if min(frame.width, frame.height) > short_side else None)
        seen.stamps.append(frame.pts)
        seen.size = compute_shown_size(frame, read_orientation(frame))
        image = convert(frame)
        height, width = image.shape[:2]
        yield np.ascontiguousarray(image[: height - height % 2, : width - width % 2])


def _decode_source(container, stream, sound, seen):
    """Yield the stream's frames; the packets of its sound are kept."""
    for packet in container.demux(stream, *sound):
        if packet.stream.index == stream.index:
            for frame in packet.decode():
                seen.pixel_aspect = read_pixel_aspect(stream, frame)
                yield frame
        elif packet.dts is not None:  # the last one of a stream is empty
            seen.sound.append(packet)


def _record_block_means(images, wanted, seen, beat):
    for number, image in enumerate(images):
        beat("re-encoding")
        if number in wanted:
            seen.some[number] = compute_block_means(image)
        yield image


def _select_frame_rate(stream):
    """Return the frame rate, for the encoder's quality and the last frame's end.

    Headers may say anything.
    """
    stated = stream.average_rate or stream.guessed_rate or 25
    return stated if 1 <= stated <= 240 else 25


def _make_codec_arguments(settings):
    """Return codec, pixel format and options.

    The keyframes come at fixed places, so their distance holds in every video.

    The tuning takes half the time to decode, for a tenth more bytes at the same error. Without mbtree, as x264's
    macroblock tree was seen to give other bytes for the same frames in 1 of 10 runs.
    """
    options = {"crf": str(settings.crf), "g": str(settings.keyframes), "bf": "0", "sc_threshold": "0"}
    if settings.flow != "none":  # a byte of its own for each vector, which colors of half the size would not keep
        return "libx264rgb", "rgb24", {**options, "x264-params": "mbtree=0"}
    options["tune"] = "fastdecode"
    return "libx264", "yuv420p", {**options, "x264-params": "mbtree=0"}


def _compute_frame_times(source, stream, stamps):
    """Return the time base, times in it from 0, and the source's start in seconds.

    Times are time stamps, or follow from the rate.
    """
    if None not in stamps and all(before < after for before, after in pairwise(stamps)):
        return stream.time_base, [stamp - stamps[0] for stamp in stamps], stamps[0] * stream.time_base
    fps = stream.average_rate or stream.guessed_rate
    if not fps:
        raise UnreadableVideo(source, "its time stamps do not rise, and it states no frame rate")
    return 1 / Fraction(fps), range(len(stamps)), Fraction(0)


def _set_packet_times(packets, base, times, fps):
    """Set times so that a frame lasts until the next one, the last one for 1 / fps."""
    ends = [*times[1:], times[-1] + max(1, round(1 / (fps * base)))]
    for packet, time, end in zip(packets, times, ends, strict=True):
        packet.time_base, packet.pts, packet.dts, packet.duration = base, time, time, end - time


def _copy_audio(source, copy, streams, packets, start):
    """Copy the sound's packets as they are, but counted from the first picture."""
    try:
        tracks = {stream.index: copy.add_stream_from_template(stream) for stream in streams}
    except ValueError as error:
        raise UnreadableVideo(source, f"its sound does not fit into mp4, use --audio drop: {error}") from None
    for packet in packets:
        track, base, duration = tracks[packet.stream.index], packet.time_base, packet.duration or 0
        pts, dts = (packet.dts if packet.pts is None else packet.pts), packet.dts
        unit = Fraction(1, track.codec_context.sample_rate)  # some files count in packets, too coarse to shift
        packet.stream, packet.time_base, packet.duration = track, unit, round(duration * base / unit)
        packet.pts, packet.dts = (round((time * base - start) / unit) for time in (pts, dts))
    return packets


def _write_bytes_synced(path, content):
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # some disks say only now that they are full


def check_copy(path, some, times, keyframes, beat):
    """Decode the copy and check its frames and times.

    Raises UnreadableVideo where they are not the source's.
    """
    found, keys, copies, convert = [], [], {}, FrameConverter()
    with open_video_stream(path) as (container, stream):
        for packet in container.demux(stream):
            beat("checking the copy")
            _raise_if_wrong(path, packet.pts != packet.dts, "it has B-frames")
            for frame in packet.decode():
                if frame.key_frame:
                    keys.append(len(found))
                if len(found) in some:
                    copies[len(found)] = compute_block_means(convert(frame))
                found.append(frame.pts * stream.time_base)
    _raise_if_wrong(path, len(found) != len(times), f"it has {len(found)} frames, not {len(times)}")
    late = [n for n, (a, b) in enumerate(zip(found, times, strict=True)) if abs(a - b) > stream.time_base]
    gap = max(b - a for a, b in pairwise([*keys, len(found)])) if keys and keys[0] == 0 else len(found)
    _raise_if_wrong(path, late, f"the time of frame {min(late, default=0)} is wrong")
    _raise_if_wrong(path, gap > keyframes, f"{gap} frames pass from one keyframe to the next, not {keyframes}")
    for number, copied in copies.items():
        _raise_if_wrong(
            path, is_closer_to_other_frame(copied, number, some), f"its frame {number} looks like another one"
        )


def _raise_if_wrong(path, wrong, what):
    if wrong:
        raise UnreadableVideo(path, f"its copy is wrong: {what}")


def is_closer_to_other_frame(blocks, number, some):
    others = [_compute_mean_difference(blocks, other) for n, other in some.items() if n != number]
    factor, levels = MISMATCH_MARGIN
    return bool(others) and _compute_mean_difference(blocks, some[number]) > factor * min(others) + levels


def _compute_mean_difference(one, other):
    """Return the mean difference in gray levels."""
    return float(np.abs(one - other).mean())


def compute_block_means(image):
    """Return the mean colors of blocks of pixels."""
    height, width = (side // BLOCK_SIZE or 1 for side in image.shape[:2])
    tall, wide = (min(BLOCK_SIZE, side) for side in image.shape[:2])
    cut = image[: height * tall, : width * wide].reshape(height, tall, width, wide, 3)
    return cut.mean((1, 3), dtype=np.float32)
