"""Read the sound of a video by time: sample i of what is returned is at i / rate seconds from the first picture.

The sound is that of the stream that FFmpeg calls best, its channels mixed to one. A place is the number of a sample at
the stream's own rate, from the first that the decoder puts out, after what encoders put in front (priming). Frames of
sound follow each other without regard to their time stamps, which containers round, unless a stamp is off by more than
`_TOLERANCE`: then the sound goes on at the stamp, and a gap is silence.

Which of its frames a seek comes to, and whether they then decode as they do from the start, differs from codec to
codec and container to container. So `scan_sound` decodes a file once and tries seeks; where one is not exact, a file
is read from its start.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from math import gcd
from typing import Any, NamedTuple

import av
import numpy as np

from videores.data.video.opening import format_decode_error, open_container, select_video_stream
from videores.data.video.packets import Packed
from videores.errors import UnreadableVideo

SEEK_DISTANCE = 0.5  # seconds between places that are sought
PREROLL = 0.25  # seconds that are decoded before one: decoders need up to 80 ms (RFC 7845, section 4.6), MP3 more
MAX_TRIALS, TRIAL_FRAMES = 8, 24  # seeks in a file, and frames that are compared after each
_TOLERANCE = {True: 0.02, False: 0.1}  # seconds; larger where containers derive stamps from sizes (AVI, MPEG)
EXACT_STAMPS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
DECODE_ERRORS = (av.FFmpegError, ValueError, IndexError, RuntimeError)


@dataclass(frozen=True)
class SoundAccess:
    """What `scan_sound` finds, by which `read_sound` reads."""

    rate: int  # samples a second of the stream
    begin: float  # seconds at which its first sample is, by the container's clock
    start: int  # the place at which the first picture is shown; negative where sound begins later
    samples: int  # up to the end of the sound
    seek_points: Packed = b""  # int64 pairs: place, time stamp of its frame


class _Chunk(NamedTuple):
    """A decoded frame of sound."""

    place: int
    stamp: int | None
    frame: av.AudioFrame


def scan_sound(path: str, frame: int, fps: float, beat: Callable[[str], None]) -> SoundAccess:
    """Decode the sound of a file once; `frame` is the number of the picture from which time counts.

    Raises UnreadableVideo.
    """
    try:
        shown = _find_shown_time(path, frame, fps, beat)
        with open_container(path) as container:
            stream = _select_sound_stream(container, path)
            first, last, points, checksums = None, None, [], {}
            for chunk in _place_chunks(container, stream, container.decode(stream), None):
                beat("sound")
                first = first or chunk
                last = chunk
                checksums[chunk.place] = _compute_checksum(chunk.frame)
                if chunk.stamp is not None and chunk.place >= (len(points) + 1) * SEEK_DISTANCE * chunk.frame.rate:
                    points.append((chunk.place, chunk.stamp))
            if first is None:
                raise UnreadableVideo(path, "no sound decodes, though it has a sound stream")
            rate, begin = first.frame.rate, float((first.stamp or 0) * stream.time_base)
    except av.FFmpegError as error:
        raise UnreadableVideo(path, f"its sound does not decode: {format_decode_error(error, 0)}") from None
    access = SoundAccess(rate, begin, round((shown - begin) * rate), last.place + last.frame.samples)
    return replace(access, seek_points=np.array(_try_seeks(path, points, access, checksums, beat), np.int64).tobytes())


def _find_shown_time(path, number, fps, beat):
    """Return the seconds at which a picture is shown, by the container's clock."""
    with open_container(path) as container:
        stream, stamps = select_video_stream(container, path), []
        for frame in islice(container.decode(stream), max(number + 1, 3)):
            beat("decoding")
            stamps.append(frame.pts)
        base = stream.time_base
    if None in stamps or not stamps:
        return 0.0 if number == 0 else number / fps
    if number and sorted(set(stamps)) == stamps:
        return float(stamps[number] * base)
    return float(min(stamps) * base) + (number / fps if number else 0)


def _select_sound_stream(container, path):
    stream = container.streams.best("audio")
    if stream is None:
        raise UnreadableVideo(path, "it has no sound stream")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its sound stream")
    stream.codec_context.thread_count = 1
    return stream


def _place_chunks(container, stream, frames, access, place=0) -> Iterator[_Chunk]:
    """Yield decoded frames with their places, of which the first has `place`."""
    tolerance = _TOLERANCE[container.format.name in EXACT_STAMPS]
    begin = access.begin if access else None
    for frame in frames:
        if frame.pts is not None:
            stamp = float(frame.pts * stream.time_base)
            begin = stamp - place / frame.rate if begin is None else begin
            due = round((stamp - begin) * frame.rate)
            place = due if abs(due - place) > tolerance * frame.rate else place
        yield _Chunk(place, frame.pts, frame)
        place += frame.samples


def _compute_checksum(frame):
    return zlib.crc32(np.ascontiguousarray(frame.to_ndarray()))


def _try_seeks(path, points, access, checksums, beat):
    """Return the points where reading after a seek is exact, none where some trial failed."""
    chosen = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, MAX_TRIALS).astype(int))] if points else []
    for point in chosen:
        beat("sound")
        try:
            with open_container(path) as container:
                stream = _select_sound_stream(container, path)
                tried = [
                    checksums.get(chunk.place) == _compute_checksum(chunk.frame)
                    for chunk in islice(_decode_from(container, stream, access, point), TRIAL_FRAMES)
                ]
        except DECODE_ERRORS:
            return []
        if not tried or not all(tried):
            return []
    return points


def _decode_from(container, stream, access, point):
    """Yield chunks from a seek point on, or from the start where it is None."""
    if point is None:
        yield from _place_chunks(container, stream, container.decode(stream), access)
        return
    place, stamp = point
    container.seek(stamp - round(PREROLL / stream.time_base), stream=stream)
    frames = container.decode(stream)
    for frame in frames:
        if frame.pts == stamp:
            yield _Chunk(place, stamp, frame)
            yield from _place_chunks(container, stream, frames, access, place + frame.samples)
            return
        if frame.pts is None or frame.pts > stamp:
            raise IndexError("a seek ends behind the place")


def read_sound(path: Any, access: SoundAccess, first: int, count: int, rate: int) -> np.ndarray:
    """Return `count` int16 mono samples from number `first` on, at another rate.

    They are the same whatever is read with them: resampling begins at places that depend on the rates alone.
    Raises DECODE_ERRORS.
    """
    step = gcd(rate, access.rate)
    up, down = rate // step, access.rate // step  # so many samples there are as long as so many here
    margin = 32 * max(1, -(-rate // access.rate))  # samples on either side that the filter sees
    block = (first - margin) // up
    low = access.start + down * block
    high = access.start + -(-(first + count + margin) * down // up)
    with open_container(path) as container:
        stream = _select_sound_stream(container, path)
        sound = _read_places(container, stream, access, low, high)
    if sound is None:
        return np.zeros(count, np.int16)
    resampler = av.AudioResampler("s16", "mono", rate)
    made = [part.to_ndarray()[0] for part in (*resampler.resample(sound), *resampler.resample(None))]
    skip = first - up * block
    return np.concatenate(made)[skip : skip + count]


def _read_places(container, stream, access, low, high):
    """Return one frame of the sound at places from `low` to `high`, silent where there is none; None: all is."""
    points = np.frombuffer(access.seek_points, np.int64).reshape(-1, 2)
    before = int(np.searchsorted(points[:, 0], low, side="right")) - 1
    point = tuple(points[before].tolist()) if before >= 0 else None
    if low >= access.samples or high <= 0:
        return None
    found, like = None, None
    for place, _, frame in _decode_from(container, stream, access, point):
        if place >= high:
            break
        start, end = max(place, low), min(place + frame.samples, high)
        if start >= end:
            continue
        samples_NC = _to_samples(frame)
        if found is None:
            like = frame
            silence = 128 if samples_NC.dtype == np.uint8 else 0
            found = np.full((high - low, samples_NC.shape[1]), silence, samples_NC.dtype)
        elif (frame.format.name, frame.layout.name, frame.rate) != (like.format.name, like.layout.name, like.rate):
            raise ValueError("its sound changes rate or channels")
        found[start - low : end - low] = samples_NC[start - place : end - place]
    return None if found is None else _make_frame(found, like)


def _to_samples(frame):
    samples = frame.to_ndarray()
    return samples.T if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels))


def _make_frame(samples_NC, like):
    planes = samples_NC.T if like.format.is_planar else samples_NC.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), like.format.name, like.layout.name)
    frame.rate, frame.pts, frame.time_base = like.rate, 0, Fraction(1, like.rate)
    return frame
