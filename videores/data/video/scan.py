"""Decode a file once from start to end: the truth about its frames.

Frame i is the i-th frame that one sequential decode puts out of the stream that FFmpeg calls best, turned and mirrored
as it is to be shown, as RGB with the range and matrix of its colour tags.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from videores.data.video import containers
from videores.data.video.convert import (
    UPRIGHT,
    FrameConverter,
    compute_checksum,
    compute_shown_size,
    read_orientation,
    read_pixel_aspect,
)
from videores.data.video.flow import read_tag
from videores.data.video.opening import (
    SYSTEM_ERRNOS,
    capture_decoder_warnings,
    check_not_playlist,
    describe_pixel_limit,
    format_decode_error,
    open_container,
    select_video_stream,
)
from videores.data.video.volumes import find_frame_decoder
from videores.errors import UnreadableVideo

IDR_UNIT = 5  # nal_unit_type of H.264, table 7-1


@dataclass
class ScanResult:
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
    codec: str = ""  # FFmpeg's name
    packets: list[int] = field(default_factory=list)  # of each frame, the number of the packet that it comes from
    packet_sizes: list[int] = field(default_factory=list)  # bytes of each packet
    has_bidirectional: bool = False  # whether some frame is a B-frame
    has_open_groups: bool = False  # whether a keyframe of H.264 does not reset the decoder
    complaints: tuple[str, ...] = ()  # of the decoder, about frames that it put out all the same
    flow: str = ""  # what the file says of flow that it holds


def scan(path: str | Path, beat: Callable[[str], None] = lambda stage: None, hold: int = 0) -> ScanResult:
    """Decode a whole file, holding the last `hold` frames.

    Raises UnreadableVideo where it does not decode to its end.

    Of a damaged file some decoders leave parts of a picture as the memory was before. Which memory that is depends on
    how many frames are held, so two scans that hold different numbers tell such files.
    """
    if decode := find_frame_decoder(path):
        return _scan_pictures(path, decode(path), beat, hold)
    times: list = []  # time stamps, which may be None
    held: deque[av.VideoFrame] = deque(maxlen=hold)
    missing = containers.count_missing_bytes(path)
    try:
        with capture_decoder_warnings() as said, open_container(path) as container:
            check_not_playlist(container, path)
            stream = select_video_stream(container, path)
            rate, base = stream.average_rate or stream.guessed_rate or 0, stream.time_base
            found = ScanResult(
                float(rate),
                UPRIGHT,
                Fraction(1),
                bool(container.streams.audio),
                stream.frames,
                _read_declared_duration(container, stream, path),
                container.format.name,
                missing,
            )
            found.flow = read_tag(container.metadata)
            convert = FrameConverter()
            for frame in _decode_all_tracks(container, stream, found):
                beat("decoding")
                held.append(frame)
                _add_frame(path, found, frame, convert)
                if frame.key_frame and frame.pts is not None:
                    found.keyframes.append((len(times), frame.pts))
                times.append(frame.pts)
            if times and None not in (times[0], times[-1]):
                lasts = max(frame.duration * base, 1 / found.fps if found.fps else 0)
                found.start, found.end = float(times[0] * base), float(times[-1] * base + lasts)
            if times:
                found.pixel_aspect = read_pixel_aspect(stream, frame)
    except av.FFmpegError as error:
        if any("max pixel count" in message for message in said):
            raise UnreadableVideo(path, describe_pixel_limit(), lasting=False) from None
        lasting = error.errno not in SYSTEM_ERRNOS
        cut = f"truncated: {missing:,} bytes are missing; " if missing else ""
        raise UnreadableVideo(path, cut + format_decode_error(error, len(times)), lasting) from None
    found.complaints = tuple(said)
    rising = None not in times and sorted(set(times)) == times
    found.seconds = [float((time - times[0]) * base) for time in times] if rising else []
    if said or not rising:
        found.keyframes = []  # without rising time stamps there is nothing to seek by
    return found


def _scan_pictures(path, frames, beat, hold):
    """Scan a folder of frames or a volume, which have no rate and no time stamps."""
    found = ScanResult(0, UPRIGHT, Fraction(1), False, 0, None, "pictures", missing=0)
    held, convert = deque(maxlen=hold), FrameConverter()
    said = []
    while True:
        beat("decoding")
        with capture_decoder_warnings() as said_of_one:
            frame = next(frames, None)
        if frame is None:
            break
        if any(message.startswith("overread") for message in said_of_one):
            what = f"truncated: the lower part of picture {len(found.checksums) + 1} is missing"
            raise UnreadableVideo(path, what)
        said += said_of_one
        held.append(frame)
        _add_frame(path, found, frame, convert)
    found.complaints = tuple(said)
    return found


def _add_frame(path, found, frame, convert):
    """Add what a scan keeps of a frame. The first one is converted, to see that it can be."""
    number, orientation = len(found.checksums), read_orientation(frame)
    size = compute_shown_size(frame, orientation)
    if number and size != found.size:
        before, after = ("{}x{}".format(*s) for s in (found.size, size))
        raise UnreadableVideo(path, f"its pictures change size from {before} to {after} at frame {number}")
    if number == 0:
        convert(frame)
    found.orientation, found.size = orientation, size
    found.checksums.append(compute_checksum(frame, convert))


def _decode_all_tracks(container, stream, found):
    """Yield the frames of `stream`; note where the packets of all tracks end, and which frame is of which packet."""
    stream.codec_context.copy_opaque, found.codec = True, stream.codec_context.name
    timed = [track.index for track in container.streams if track.type in ("video", "audio")]
    ends = {}  # of each track, in its time base
    for packet in container.demux():
        time, track = packet.dts if packet.pts is None else packet.pts, packet.stream_index
        if time is not None:
            end = time + (packet.duration or 0 if track in timed else 0)  # subtitles may last for anything
            ends[track] = max(ends.get(track, end), end)
        if packet.stream.index == stream.index:  # the last packets of all tracks have the stream_index 0
            if packet.size:
                packet.opaque = len(found.packet_sizes)
                found.packet_sizes.append(packet.size)
                if packet.is_keyframe and found.codec == "h264" and not found.has_open_groups:
                    found.has_open_groups = not _has_reset(bytes(packet), stream.codec_context.extradata or b"")
            for frame in packet.decode():
                found.packets.append(frame.opaque)
                found.has_bidirectional |= frame.pict_type == av.video.frame.PictureType.B
                yield frame
    found.file_end = max((float(end * container.streams[track].time_base) for track, end in ends.items()), default=0.0)


def _has_reset(content, extradata):
    """Return whether an H.264 packet as in mp4 and mkv, units after their lengths, has a picture that resets (IDR)."""
    width, at = (extradata[4] & 3) + 1 if extradata[:1] == b"\1" else len(content), 0
    while at + width < len(content):
        if content[at + width] & 31 == IDR_UNIT:
            return True
        at += width + int.from_bytes(content[at : at + width])
    return False


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
