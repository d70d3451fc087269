"""Probe what a file holds, and which readers return exactly that.

`probe` looks at one file, `probe_all` at a data set: in parallel, with progress, cached in a manifest that keys each
file by path, size and modification time. An interrupted probe goes on where it stopped. All decoding happens in helper
processes under a watchdog: a reader that crashes or hangs is not used for that file, and where PyAV does, it is bad.
"""

import hashlib
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from videores.data.lists import split_segment
from videores.data.shards import ShardVideo, Source, as_file
from videores.data.video import readers, sandbox
from videores.data.video.packets import Access, Packed
from videores.data.video.scan import ScanResult, scan
from videores.data.video.sound import SoundAccess, scan_sound
from videores.data.video.trials import try_readers
from videores.errors import UnreadableVideo, UserError

MAX_COMPLAINTS = 3  # of FFmpeg about one file that are kept


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, and how to read it exactly."""

    num_frames: int
    fps: float  # as the file states it, or as its time stamps have it where the two differ
    width: int  # after rotation, as the frames are
    height: int
    rotation: int  # degrees counter-clockwise that turn the coded picture into the displayed one,
    mirrored: bool  # after it was mirrored left to right
    pixel_aspect: (
        str  # width:height of a shown pixel, which frames do not follow: they have one pixel for each coded one
    )
    has_audio: bool
    readers: tuple[str, ...]  # those that return exactly the sequential decode's frames
    reader: str  # the fastest of them; they return equal bytes, so the choice changes no result
    seek_points: Packed  # int64 pairs; packed, since each loading process has those of all videos
    packet_order: Packed  # by which PyAV drops frames that are not needed, none where that is not exact
    digest: str  # of all decoded frames: equal for equal pictures
    stamp: tuple[int, int]  # the file's size and modification time
    first: int = 0  # of its frames in the file; not 0 where it is a part of it
    uneven_seconds: Packed = b""  # float64 seconds of each frame, where no constant rate has its time stamps
    flow: str = ""  # what a file of optical flow says of itself: data/video/flow.py
    warnings: tuple[str, ...] = ()  # what a user should know of the file, such as FFmpeg's complaints
    sound: SoundAccess | str | None = None  # how to read it, or why it does not decode; None: not looked at yet

    @property
    def keyframes(self):
        """Return ((frame, time stamp), ...) to seek by.

        Trial reads from up to 8 of them were exact.
        """
        return tuple(map(tuple, np.frombuffer(self.seek_points, np.int64).reshape(-1, 2).tolist()))

    @property
    def access(self) -> Access:
        """Return how PyAV may read the file."""
        return Access(self.keyframes, self.packet_order)

    @property
    def seconds_T(self) -> np.ndarray:
        """Return the second at which each frame is shown, from the first."""
        if self.uneven_seconds:
            return np.frombuffer(self.uneven_seconds)
        return np.arange(self.num_frames) / (self.fps or np.nan)


def probe(path: Source, *, sound: bool = False) -> VideoInfo:
    """Decode a file once and check random access against that.

    With `sound`, also find how its sound is read. Raises UnreadableVideo(path, reason).
    """
    helper = sandbox.get_process_helper(os.getpid())
    info = probe_in_helper(helper, path)
    if not sound or not info.has_audio:
        return info
    info = probe_sound(helper, path, info)
    if isinstance(info.sound, str):
        raise UnreadableVideo(path, info.sound)
    return info


def probe_in_helper(helper, path):
    """Run `examine` in a helper.

    A reader that takes the helper with it is left out; without PyAV the file is bad.
    """
    with as_file(path) as file:  # absolute, as the helper may be in another folder
        info = _examine_in_helper(helper, file, path)
    return replace(info, stamp=tuple(path.stamp)) if isinstance(path, ShardVideo) else info


def _examine_in_helper(helper, file, path):
    without = ()
    while True:
        try:
            return helper.call(examine, file, without)
        except sandbox.HelperFailure as lost:
            if lost.stage == sandbox.STARTING_STAGE:
                how = "see python tools/doctor.py"
                raise UserError(f"the helper process that probes videos {lost.reason} as it started; {how}") from None
            if lost.stage not in readers.READERS or lost.stage == "pyav":
                lasting = "SIG" in lost.reason and "SIGKILL" not in lost.reason  # no want of memory, no slow machine
                raise UnreadableVideo(path, f"the decoder {lost.reason} ({lost.stage})", lasting) from None
            without = (*without, lost.stage)
        except UnreadableVideo as error:
            raise UnreadableVideo(path, error.reason, error.lasting) from None
        except Exception as error:  # whatever a decoder's bindings make of a damaged file
            raise UnreadableVideo(path, f"{type(error).__name__}: {error}") from None


def probe_sound(helper: sandbox.Helper, path: Source, info: VideoInfo) -> VideoInfo:
    """Return a VideoInfo with how its sound is read, or why it does not decode."""
    with as_file(path) as file:
        try:
            sound = helper.call(scan_sound, str(split_segment(file)[0]), info.first, info.fps)
        except sandbox.HelperFailure as lost:
            sound = f"the decoder of its sound {lost.reason} ({lost.stage})"
        except UnreadableVideo as error:
            sound = error.reason
        except Exception as error:  # whatever a decoder's bindings make of a damaged file
            sound = f"its sound does not decode: {type(error).__name__}: {error}"
    return replace(info, sound=sound)


def examine(path: str | Path, without: Sequence[str], beat: Callable[[str], None]) -> VideoInfo:
    """Return the VideoInfo of a file or of a part of it.

    It has the readers that are not in `without`. beat(stage) is called while it works.
    """
    file, segment = split_segment(path)
    if segment is None:
        return _examine_file(file, without, beat)[0]
    key = (file, without, repr(read_file_stamp(Path(file))))
    if key not in _last_examined:  # a list may have many parts of one file, one after the other
        whole = _examine_file(file, without, beat)
        _last_examined.clear()
        _last_examined[key] = whole
    return _cut_segment(file, *_last_examined[key], segment)


_last_examined: dict[tuple, tuple[VideoInfo, ScanResult]] = {}


def _examine_file(path, without, beat):
    """Return the VideoInfo of a file, and the scan that it is of."""
    beat("opening")
    _check_nonempty_file(path)
    before = read_file_stamp(Path(path))
    found = scan(path, beat)
    _check_not_truncated(path, found)
    access, exact = try_readers(path, found, without, beat)
    if not exact:
        raise UnreadableVideo(path, "two decodes of it differ")
    if found.complaints and scan(path, beat, hold=16).checksums != found.checksums:
        raise UnreadableVideo(path, f"damaged: two decodes of it differ ({found.complaints[0]})")
    if read_file_stamp(Path(path)) != before:
        raise UnreadableVideo(path, "it changed while it was probed")
    transpose, mirror, flip = found.orientation
    fps, uneven_seconds = _measure_rate(found)
    info = VideoInfo(
        num_frames=len(found.checksums),
        fps=fps,
        width=found.size[0],
        height=found.size[1],
        rotation=(270 if mirror else 90) if transpose else (180 if flip else 0),
        mirrored=transpose ^ mirror ^ flip,
        pixel_aspect="{}:{}".format(*found.pixel_aspect.as_integer_ratio()),
        has_audio=found.has_audio,
        readers=tuple(exact),
        reader=min(exact, key=exact.get),
        seek_points=pack_keyframes(access.keyframes),
        packet_order=access.packet_order,
        digest=_make_digest(found.size, found.checksums),
        stamp=tuple(before),
        uneven_seconds=uneven_seconds,
        flow=found.flow,
        warnings=tuple(_list_warnings(found, fps)),
    )
    return info, found


def _make_digest(size, checksums):
    return hashlib.blake2b(repr((size, checksums)).encode(), digest_size=16).hexdigest()


def _cut_segment(path, info, found, segment):
    """Return the VideoInfo of a part of a video.

    A frame is in it whose time from the first frame is. Times are time stamps, or follow from the rate where those do
    not rise.
    """
    count = len(found.checksums)
    if not found.seconds and not found.fps:
        raise UnreadableVideo(path, "a part of it is asked for, and its frames have no times")
    seconds = found.seconds or [float(n / Fraction(found.fps).limit_denominator(30000)) for n in range(count)]
    start, end = (None if time is None else float(time) for time in segment)  # rounded as `seconds` are
    first, last = bisect_left(seconds, start), count if end is None else bisect_left(seconds, end)
    if first >= last:
        raise UnreadableVideo(path, f"no frame is in {start} to {end} s of it; it ends at {seconds[-1]:.3f} s")
    before = max((index for index, _ in info.keyframes if index <= first), default=0)
    keyframes = tuple(key for key in info.keyframes if before <= key[0] < last)
    uneven = info.uneven_seconds and np.subtract(found.seconds[first:last], found.seconds[first]).tobytes()
    return replace(
        info,
        first=first,
        num_frames=last - first,
        seek_points=pack_keyframes(keyframes),
        uneven_seconds=uneven,
        digest=_make_digest(found.size, found.checksums[first:last]),
    )


def _measure_rate(found):
    """Return the frame rate, and the packed seconds of the frames where they have no constant rate.

    A rate is right where no time stamp is more than half a frame off. Where the file's own is not, the mean rate is.
    """
    number_T, seconds_T = np.arange(len(found.seconds)), np.array(found.seconds)

    def fits(fps):
        return np.abs(seconds_T * fps - number_T).max() <= 0.5

    if len(seconds_T) < 2 or (found.fps and fits(found.fps)):
        return found.fps, b""
    fps = float(number_T[-1] / seconds_T[-1])
    return fps, b"" if fits(fps) else seconds_T.tobytes()


def _list_warnings(found, fps):
    """Yield what a user should know of a file that is read all the same."""
    if abs(found.fps - fps) > 0.1 * fps:
        yield f"its header states {found.fps:.4g} frames a second, its time stamps have {fps:.4g}"
    if found.missing:
        yield f"{found.missing:,} bytes are missing at its end"
    distinct = list(dict.fromkeys(found.complaints))
    yield from distinct[:MAX_COMPLAINTS]
    if len(distinct) > MAX_COMPLAINTS:
        yield f"and {len(distinct) - MAX_COMPLAINTS:,} other complaints"


def pack_keyframes(keyframes):
    return np.array(keyframes, np.int64).tobytes()


def _check_nonempty_file(path):
    if not Path(path).exists():
        raise UnreadableVideo(path, "there is no such file")
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")


def _check_not_truncated(path, found):
    """Check that the file is whole.

    Where it has all bytes that its container speaks of, and FFmpeg has no complaint, it is, whatever its header
    promises: a last picture may be held, subtitles may be longer, and two fields may be one frame.
    """
    if not found.checksums:
        cut = f"truncated: {found.missing:,} bytes are missing; " if found.missing else ""
        raise UnreadableVideo(path, f"{cut}no frame decodes")
    if len(found.checksums) == 1 and any(complaint.startswith("overread") for complaint in found.complaints):
        raise UnreadableVideo(path, "truncated: the lower part of the picture is missing")  # of a JPEG file
    lack = "" if found.missing == 0 and not found.complaints else _describe_lack(found)
    if lack:
        raise UnreadableVideo(path, f"truncated: {lack}")


def _describe_lack(found):
    """Say what the file lacks of what it promises; "" where it lacks at most a few frames.

    AVI headers often promise a few frames more than there are. A cut without re-encoding keeps frames in the file that
    its edit list hides: then the shown time is all there.
    """
    decoded = len(found.checksums)
    if found.promised:
        lacks = found.promised - decoded > max(3, 0.02 * found.promised) and not _has_full_duration(found)
        return f"its header promises {found.promised} frames, {decoded} decode" if lacks else ""
    if found.duration:
        few = max(0.5, 0.1 * found.duration) if found.missing is None else _compute_leeway(found)
        lacks = found.duration - found.file_end > few
        return f"its header promises {found.duration:.2f} s, {found.file_end:.2f} s are there" if lacks else ""
    return f"{found.missing:,} bytes of what its container promises are missing" if found.missing else ""


def _has_full_duration(found):
    """Return whether the frames fill the time that the header states, but for a few."""
    if not found.duration or None in (found.start, found.end):
        return False
    return found.duration - (found.end - found.start) <= _compute_leeway(found)


def _compute_leeway(found):
    """Return the seconds that may be missing."""
    return max(3 / (found.fps or 25), 0.02 * found.duration)


def read_file_stamp(path):
    """Return [size, modification time] as JSON has it, None where there is no file.

    Of a video in shards it is the size and the checksum.
    """
    if isinstance(path, ShardVideo):
        return path.stamp
    try:
        status = os.stat(split_segment(path)[0])
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
