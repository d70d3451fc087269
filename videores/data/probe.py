"""Probe what a file holds, and which readers return exactly that.

`probe` looks at one file, `probe_all` at a data set: in parallel, with progress, cached in a manifest that keys each
file by path, size and modification time. An interrupted probe goes on where it stopped. All decoding happens in helper
processes under a watchdog: a reader that crashes or hangs is not used for that file, and where PyAV does, it is bad.
"""

import hashlib
import os
import time
import zlib
from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from videores.data.lists import split_segment
from videores.data.video import readers, sandbox
from videores.errors import UnreadableVideo, UserError


@dataclass(frozen=True)
class VideoInfo:
    num_frames: int
    fps: float
    width: int  # after rotation, as the frames are
    height: int
    rotation: int  # degrees counter-clockwise that turn the coded picture into the displayed one
    has_audio: bool
    readers: tuple[str, ...]  # those that return exactly the sequential decode's frames
    reader: str  # the fastest of them; they return equal bytes, so the choice changes no result
    seek_points: bytes  # int64 pairs; packed, since each loading process has those of all videos
    digest: str  # of all decoded frames: equal for equal pictures
    stamp: tuple[int, int]  # the file's size and modification time
    first: int = 0  # of its frames in the file; not 0 where it is a part of it

    @property
    def keyframes(self):
        """Return ((frame, time stamp), ...) to seek by.

        Trial reads around up to 16 of them were exact.
        """
        return tuple(map(tuple, np.frombuffer(self.seek_points, np.int64).reshape(-1, 2).tolist()))


def probe(path: str | Path) -> VideoInfo:
    """Decode a file once and check random access against that.

    Raises UnreadableVideo(path, reason).
    """
    return probe_in_helper(sandbox.get_process_helper(os.getpid()), path)


def probe_in_helper(helper, path):
    """Run `examine` in a helper.

    A reader that takes the helper with it is left out; without PyAV the file is bad.
    """
    without = ()
    while True:
        try:
            return helper.call(examine, os.path.abspath(path), without)  # the helper may be in another folder
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


def examine(path, without, beat):
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


_last_examined: dict[tuple, tuple] = {}


def _examine_file(path, without, beat):
    """Return the VideoInfo of a file, and the scan that it is of."""
    beat("opening")
    _check_nonempty_file(path)
    before = read_file_stamp(Path(path))
    found = readers.scan(path, beat)
    _check_not_truncated(path, found)
    keyframes = tuple(_sparsify_keyframes(found.keyframes))
    seconds = {
        name: _time_if_exact(name, path, found, keyframes, beat)
        for name in readers.INSTALLED_READERS
        if name not in without
    }
    if seconds["pyav"] is None and keyframes:
        keyframes = ()  # seeking is not exact here: PyAV decodes from the start
        seconds["pyav"] = _time_if_exact("pyav", path, found, keyframes, beat)
    exact = {name: s for name, s in seconds.items() if s is not None}
    if found.complaints and readers.scan(path, beat, hold=16).checksums != found.checksums:
        raise UnreadableVideo(path, f"damaged: two decodes of it differ ({found.complaints[0]})")
    if not exact:
        raise UnreadableVideo(path, "two decodes of it differ")
    if read_file_stamp(Path(path)) != before:
        raise UnreadableVideo(path, "it changed while it was probed")
    info = VideoInfo(
        num_frames=len(found.checksums),
        fps=found.fps,
        width=found.size[0],
        height=found.size[1],
        rotation=found.rotation,
        has_audio=found.has_audio,
        readers=tuple(exact),
        reader=min(exact, key=exact.get),
        seek_points=pack_keyframes(keyframes),
        digest=_make_digest(found.size, found.checksums),
        stamp=tuple(before),
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
    if found.time_base and None not in found.pts and all(a < b for a, b in pairwise(found.pts)):
        times = [(pts - found.pts[0]) * found.time_base for pts in found.pts]
    elif found.fps:
        times = [number / Fraction(found.fps).limit_denominator(30000) for number in range(count)]
    else:
        raise UnreadableVideo(path, "a part of it is asked for, and its frames have no times")
    start, end = segment
    first, last = bisect_left(times, start), count if end is None else bisect_left(times, end)
    if first >= last:
        raise UnreadableVideo(path, f"no frame is in {start} to {end} s of it; it ends at {float(times[-1]):.3f} s")
    before = max((index for index, _ in info.keyframes if index <= first), default=0)
    keyframes = tuple(key for key in info.keyframes if before <= key[0] < last)
    digest = _make_digest(found.size, found.checksums[first:last])
    return replace(info, first=first, num_frames=last - first, seek_points=pack_keyframes(keyframes), digest=digest)


def pack_keyframes(keyframes):
    return np.array(keyframes, np.int64).tobytes()


def _check_nonempty_file(path):
    if not Path(path).exists():
        raise UnreadableVideo(path, "there is no such file")
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")


def _check_not_truncated(path, found):
    """Check that the file is whole.

    AVI headers often promise a few frames more than there are, so a few are forgiven.

    A cut without re-encoding keeps frames in the file that its edit list hides: then the shown time is all there.
    """
    decoded = len(found.checksums)
    if decoded == 0:
        raise UnreadableVideo(path, "no frame decodes")
    if found.promised - decoded > max(3, 0.02 * found.promised) and not _has_full_duration(found):
        raise UnreadableVideo(path, f"truncated: its header promises {found.promised} frames, {decoded} decode")
    counted = found.promised or not found.duration or not found.end
    if not counted and found.duration - found.end > max(0.5, 0.1 * found.duration):
        raise UnreadableVideo(path, f"truncated: its header promises {found.duration:.2f} s, {found.end:.2f} s decode")


def _has_full_duration(found):
    """Return whether the frames fill the time that the header states, but for a few."""
    if not found.duration or None in (found.start, found.end):
        return False
    return found.duration - (found.end - found.start) <= max(3 / found.fps, 0.02 * found.duration)


def _sparsify_keyframes(keyframes, gap=readers.MIN_SEEK_DISTANCE):
    """Select keyframes at least `gap` frames apart.

    Intra-coded files have one a frame, and the manifest should stay small.
    """
    last = -gap
    for index, pts in keyframes:
        if index - last >= gap:
            last = index
            yield index, pts


def _time_if_exact(name, path, found, keyframes, beat):
    """Return the processor time of trial reads, None where one is not exact."""
    seconds = []
    if name == "pyav" and not keyframes:
        return 0.0  # it decodes from the start, as the scan did
    try:
        beat(name)
        if not readers.is_seeking_reliable(name, path, found):
            return None
        for indices in _make_trial_indices(len(found.checksums), [index for index, _ in found.keyframes]):
            beat(name)
            start = time.process_time()
            frames = readers.READERS[name](path, indices, keyframes)
            seconds.append(time.process_time() - start)
            if [zlib.crc32(np.ascontiguousarray(f)) for f in frames] != [found.checksums[i] for i in indices]:
                return None
    except readers.DECODE_ERRORS:
        return None
    return sum(seconds[-2:])


def _make_trial_indices(num_frames, keyframes):
    """Yield the frames of trial reads.

    They are those around up to 16 keyframes in one read, the last frame alone, then training clips.
    """
    some = np.array(keyframes)[np.linspace(0, len(keyframes) - 1, 16).astype(int)]
    around = np.concatenate([some - 1, some, some + 1, [0, num_frames // 2, num_frames - 1]])
    yield np.unique(around[(around >= 0) & (around < num_frames)])
    for start in (num_frames - 1, num_frames * 3 // 4, num_frames // 4):
        yield np.arange(start, min(start + 31, num_frames), 2)


def read_file_stamp(path):
    """Return [size, modification time] as JSON has it, None where there is no file."""
    try:
        status = os.stat(split_segment(path)[0])
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
