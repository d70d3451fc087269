"""Read the sound of a video by time.

Sample i of what is returned is at i / rate seconds from the first picture. The sound is that of the stream that FFmpeg
calls best, its channels mixed to one. A place is the number of a sample at the stream's own rate, from the first that
the decoder puts out, after what encoders put in front (priming). Frames of sound follow each other without regard to
their time stamps, which containers round, unless a stamp is off by more than `_TOLERANCE`: then the sound goes on at
the stamp, and a gap is silence.

To open a container takes longer than to decode a second of sound, as FFmpeg tries the pictures. So `scan_sound` decodes
a file once, and notes where in the file each packet is. Packets are then decoded without their container, from a few
before the wanted ones on, where trials show that this is exact. Decoders with a long memory (Opus) come near to that:
there the decoder begins anew at every `BLOCK`th packet, so that what is read still does not depend on where reading
begins. Sound that is further off (AAC with much noise substitution, which FFmpeg's encoder uses), or whose packets are
not found in the file, is decoded from the start.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from math import gcd
from typing import Any, BinaryIO

import av
import numpy as np

from videores.data.video.opening import format_decode_error, open_container, select_video_stream
from videores.data.video.packets import Packed
from videores.errors import UnreadableVideo

PREROLL = 8  # packets decoded before those that are wanted: Opus needs 80 ms (RFC 7845, section 4.6), MP3 more
BLOCK = 32  # packets
MAX_TRIALS, TRIAL_PACKETS = 8, 24  # in a file
MAX_DEVIATION = 1e-3  # energy of a difference / energy of the sound: 30 dB
HEADER_BYTES = 64  # at most, between where a packet is said to be and its content
_TOLERANCE = {True: 0.02, False: 0.1}  # seconds; larger where containers derive stamps from sizes (AVI, MPEG)
STAMPED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
DECODE_ERRORS = (av.FFmpegError, OSError, ValueError, IndexError, RuntimeError)

_Piece = tuple[int, np.ndarray, av.AudioFrame]  # place, samples_NC, and the frame that they are of


@dataclass(frozen=True)
class SoundAccess:
    """What `scan_sound` finds, by which `read_sound` reads."""

    rate: int  # samples a second of the stream
    begin: float  # seconds at which its first sample is, by the container's clock
    start: int  # the place at which the first picture is shown; negative where sound begins later
    samples: int  # up to the end of the sound
    codec: str = ""  # of packets that decode exactly without their container; "": there are none
    layout: str = ""  # the coded channels
    settings: Packed = b""  # the decoder's
    packets: Packed = b""  # see `table_4P`
    in_blocks: bool = False  # whether the decoder begins anew at each block

    @property
    def table_4P(self) -> np.ndarray:
        """Return the offset in the file, bytes, place and samples of each packet."""
        return np.frombuffer(zlib.decompress(self.packets), np.int64).reshape(4, -1).cumsum(1)


# Scan


def scan_sound(path: str, frame: int, fps: float, beat: Callable[[str], None]) -> SoundAccess:
    """Decode the sound of a file once, and return how it is read.

    Time counts from the picture with the number `frame`. Raises UnreadableVideo.
    """
    status = os.stat(path)
    key = (path, status.st_size, status.st_mtime_ns)
    try:
        if key not in _last_scanned:  # a list may have many parts of one file, one after the other
            _last_scanned.clear()
            _last_scanned[key] = _scan_file(path, beat)
        whole = _last_scanned[key]
        shown = _find_shown_time(path, frame, fps, beat)
    except av.FFmpegError as error:
        raise UnreadableVideo(path, f"its sound does not decode: {format_decode_error(error, 0)}") from None
    return replace(whole, start=round((shown - whole.begin) * whole.rate))


_last_scanned: dict[tuple[str, int, int], SoundAccess] = {}


def _scan_file(path, beat):
    with open_container(path) as container, open(path, "rb") as file:
        stream = _select_sound_stream(container, path)
        context, checksums, begin, place, rate = stream.codec_context, {}, None, 0, 0
        rows: list[list[int]] = []  # of `table_4P`
        context.copy_opaque = True
        about = (context.name, context.layout.name, bytes(context.extradata or b""))
        for packet in container.demux(stream):
            beat("sound")
            if packet.size:
                packet.opaque = len(rows)
                rows.append([_find_packet(file, packet, rows), packet.size, place, 0])
            for found in packet.decode():
                place = _find_place(found, container, stream, begin, place)
                if begin is None:
                    begin, rate = float((found.pts or 0) * stream.time_base), found.rate
                number = len(rows) - 1 if found.opaque is None else found.opaque
                if number in checksums:
                    rows[number][0] = -1  # of several frames in a packet the table has one
                rows[number][2:] = place, found.samples
                checksums[number] = _compute_checksum(_to_samples(found))
                place += found.samples
    if begin is None:
        raise UnreadableVideo(path, "no sound decodes, though it has a sound stream")
    whole = SoundAccess(rate, begin, 0, place)
    table_4P = np.array(rows, np.int64).T
    packed = zlib.compress(np.diff(table_4P, prepend=0).tobytes(), 9)
    by_packets = replace(whole, codec=about[0], layout=about[1], settings=about[2], packets=packed)
    offset_P, _, place_P, samples_P = table_4P
    ordered = (np.diff(place_P) >= 0).all() and (np.diff(place_P + samples_P) >= 0).all()
    return _try_packets(path, by_packets, checksums) or whole if (offset_P >= 0).all() and ordered else whole


def _find_shown_time(path, number, fps, beat):
    """Return the seconds at which a picture is shown, by the container's clock."""
    beat("opening")
    with open_container(path) as container:
        stream = select_video_stream(container, path)
        first = [frame.pts for frame in islice(container.decode(stream), 3)]  # AVI files may swap them
        base = stream.time_base
    if None in first or not first:
        return number / fps if number else 0.0
    if number:
        with open_container(path) as container:
            stamps = [packet.pts for packet in container.demux(select_video_stream(container, path)) if packet.size]
        rising = None not in stamps and len(set(stamps)) == len(stamps)
        number_in_file = rising and sum(stamp < min(first) for stamp in stamps) + number  # some may be hidden
        if rising and number_in_file < len(stamps):
            return float(sorted(stamps)[number_in_file] * base)
    return float(min(first) * base) + (number / fps if number else 0)


def _select_sound_stream(container, path):
    stream = container.streams.best("audio")
    if stream is None:
        raise UnreadableVideo(path, "it has no sound stream")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its sound stream")
    stream.codec_context.thread_count = 1
    return stream


def _find_place(frame, container, stream, begin, place):
    """Return the place of the next frame: `place`, or that of its time stamp."""
    if frame.pts is None or begin is None:
        return place
    due = round((float(frame.pts * stream.time_base) - begin) * frame.rate)
    return due if abs(due - place) > _TOLERANCE[container.format.name in STAMPED_FORMATS] * frame.rate else place


def _find_packet(file: BinaryIO, packet: Any, rows: list[list[int]]) -> int:
    """Return where in the file the bytes of a packet are, -1 if not there."""
    content = bytes(packet)
    for offset in (packet.pos, sum(rows[-1][:2]) if rows else None):
        if offset is not None and offset >= 0:
            file.seek(offset)
            at = file.read(len(content) + HEADER_BYTES).find(content)
            if at >= 0:
                return offset + at
    return -1


def _try_packets(path, access, checksums):
    """Return how packets decode as in the scan, or nearly so; None if neither."""
    _, _, place_P, samples_P = access.table_4P
    numbers = np.flatnonzero(samples_P)
    starts = np.unique(np.linspace(0, max(0, len(numbers) - TRIAL_PACKETS), MAX_TRIALS).astype(int))
    trials = [numbers[start : start + TRIAL_PACKETS] for start in starts]
    wanted = {int(place_P[number]): checksums[int(number)] for trial in trials for number in trial}
    spans = [(int(place_P[trial[0]]), int(place_P[trial[-1]] + samples_P[trial[-1]])) for trial in trials]
    try:
        found = _read_trials(path, access, spans)
        if all(place in found and _compute_checksum(found[place]) == wanted[place] for place in wanted):
            return access
        in_blocks = replace(access, in_blocks=True)
        found, error, energy = _read_trials(path, in_blocks, spans), 0.0, 0.0
        for place, samples_NC, _ in _decode_from_start(path, access, spans[-1][1]):
            if place in wanted:
                truth_NC = samples_NC.astype(np.float64)
                error += ((found[place] - truth_NC) ** 2).sum()
                energy += (truth_NC**2).sum()
    except (*DECODE_ERRORS, LookupError):
        return None
    return in_blocks if error <= MAX_DEVIATION * energy else None


def _read_trials(path, access, spans):
    """Return {place: samples_NC} of packets between some places."""
    with open(path, "rb") as file:
        return {place: samples for span in spans for place, samples, _ in _decode_packets(file, access, *span)}


def _compute_checksum(samples_NC):
    return zlib.crc32(np.ascontiguousarray(samples_NC))


# Read


def read_sound(path: Any, access: SoundAccess, first: int, count: int, rate: int) -> np.ndarray:
    """Return `count` int16 mono samples from number `first` on, at another rate.

    They are the same whatever is read with them: resampling begins at places that depend on the rates alone. `path` may
    be an open file. Raises DECODE_ERRORS and UnreadableVideo.
    """
    step = gcd(rate, access.rate)
    up, down = rate // step, access.rate // step  # so many samples there are as long as so many here
    margin = 32 * max(1, -(-rate // access.rate))  # samples on either side that the filter sees
    block = (first - margin) // up
    low = access.start + down * block
    high = access.start + -(-(first + count + margin) * down // up)
    sound = None if low >= access.samples or high <= 0 else _read_places(path, access, low, high)
    if sound is None:
        return np.zeros(count, np.int16)
    resampler = av.AudioResampler("s16", "mono", rate)
    made = [part.to_ndarray()[0] for part in (*resampler.resample(sound), *resampler.resample(None))]
    skip = first - up * block
    return np.concatenate(made)[skip : skip + count]


def _read_places(path, access, low, high):
    """Return one frame of the sound from `low` to `high`; None if all is silent."""
    found: np.ndarray | None = None
    like: Any = None
    for place, samples_NC, frame in _decode_places(path, access, low, high):
        start, end = max(place, low), min(place + len(samples_NC), high)
        if start >= end:
            continue
        if found is None:
            like, silence = frame, 128 if samples_NC.dtype == np.uint8 else 0
            found = np.full((high - low, samples_NC.shape[1]), silence, samples_NC.dtype)
        elif (frame.format.name, frame.layout.name, frame.rate) != (like.format.name, like.layout.name, like.rate):
            raise ValueError("its sound changes rate or channels")
        found[start - low : end - low] = samples_NC[start - place : end - place]
    return None if found is None else _make_frame(found, like)


def _decode_places(path, access, low, high) -> Iterator[_Piece]:
    """Yield pieces of the sound, among them all from `low` to `high`."""
    if not access.codec:
        yield from _decode_from_start(path, access, high)
    elif hasattr(path, "read"):
        yield from _decode_packets(path, access, low, high)
    else:
        with open(path, "rb") as file:
            yield from _decode_packets(file, access, low, high)


def _decode_from_start(path, access, high):
    with open_container(path) as container:
        stream, place = _select_sound_stream(container, path), 0
        for frame in container.decode(stream):
            place = _find_place(frame, container, stream, access.begin, place)
            if place >= high:
                break
            yield place, _to_samples(frame), frame
            place += frame.samples


def _decode_packets(file, access, low, high):
    """Yield pieces from the packets between two places."""
    table_4P = access.table_4P
    _, _, place_P, samples_P = table_4P
    begin = int(np.searchsorted(place_P + samples_P, low, side="right"))
    end = int(np.searchsorted(place_P, high))
    if not access.in_blocks:
        yield from _decode_run(file, access, table_4P, begin, begin, end)
        return
    for start in range(begin - begin % BLOCK, end, BLOCK):
        yield from _decode_run(file, access, table_4P, start, max(begin, start), min(end, start + BLOCK))


def _decode_run(file, access, table_4P, start, begin, end):
    """Decode packets, from some before `start` on, and yield those from `begin` on.

    A frame is cut to the samples that the scan has of its packet: in front at the start of the sound, else at its end.
    """
    offset_P, size_P, place_P, samples_P = table_4P
    context = av.CodecContext.create(access.codec, "r")
    context.thread_count, context.sample_rate, context.layout = 1, access.rate, access.layout
    context.extradata = access.settings or None
    for number in (*range(max(0, start - PREROLL), end), None):
        packet = None
        if number is not None:
            file.seek(int(offset_P[number]))
            packet = av.Packet(file.read(int(size_P[number])))
            packet.pts = number
        for frame in context.decode(packet):
            if frame.pts >= begin:
                count, samples_NC = int(samples_P[frame.pts]), _to_samples(frame)
                is_first = place_P[frame.pts] == 0
                yield int(place_P[frame.pts]), samples_NC[-count if is_first and count else 0 :][:count], frame


def _to_samples(frame):
    samples = frame.to_ndarray()
    return samples.T if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels))


def _make_frame(samples_NC, like):
    planes = samples_NC.T if like.format.is_planar else samples_NC.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), like.format.name, like.layout.name)
    frame.rate, frame.pts, frame.time_base = like.rate, 0, Fraction(1, like.rate)
    return frame
