"""Try which readers return a file's frames exactly, against the scan's checksums.

A trial is one ascending read, so it decodes no frame twice. It seeks to up to 8 keyframes and takes the two frames from
each on, one further on where that takes few frames, and the last frame. PyAV's frames are compared with the scan's,
other readers' RGB with PyAV's.
"""

import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from videores.data.video import readers
from videores.data.video.convert import FrameConverter, compute_checksum
from videores.data.video.packets import DROPPING_CODECS, MIN_SEEK_DISTANCE, Access, order_packets
from videores.data.video.scan import ScanResult

MAX_SEEKS = 8  # in the trial of a file
FIRST_FRAMES, LAST_FRAMES = 48, 12  # of which some are in the trial of reading with dropped frames
# Containers that say where keyframes are. In others FFmpeg searches, and may end behind one: each is tried.
INDEXED_FORMATS = (*readers.TIMESTAMPED_FORMATS, "avi")


def try_readers(
    path: str, found: ScanResult, without: Sequence[str], beat: Callable[[str], None]
) -> tuple[Access, dict[str, float]]:
    """Return how PyAV may read the file, and the readers that are exact with the processor time of their trial.

    Without keyframes or dropped frames PyAV decodes from the start, as the scan did. Other readers are not tried
    without keyframes: their seeking needs time stamps that rise.
    """
    keyframes, num_frames = tuple(_sparsify_keyframes(found.keyframes)), len(found.checksums)
    keys = [index for index, _ in keyframes] or [0]
    few, sought = _choose_trial_frames(num_frames, keys)
    if found.container not in INDEXED_FORMATS:
        keyframes = tuple(key for key in keyframes if key[0] in sought)
    order, more = _order_packets_if_useful(found), _add_trial_frames(few, num_frames, keys, sought)
    plans = [(Access(keyframes, order), more), (Access(keyframes), few), (Access((), order), more), (Access(), few)]
    for access, indices in plans if keyframes else plans[2:3]:
        if indices is more and not order:
            continue
        trial = _try_pyav(path, found, indices, access, few if keyframes else (), beat)
        if trial is not None:
            break
    else:
        return Access(), {} if keyframes else {"pyav": 0.0}
    truth, seconds = trial
    exact = {}
    for name in readers.INSTALLED_READERS:
        if name not in without:
            beat(name)
            passed = seconds if name == "pyav" else _try_reader(name, path, found, few, truth)
            if passed is not None:
                exact[name] = passed
    if len(indices) > len(few) and min(exact.values()) < seconds:
        exact["pyav"] = _try_pyav(path, found, few, access, few, beat)[1]  # the others read fewer
    return access, exact


def _order_packets_if_useful(found):
    """Return the packed order of packets; none where frames cannot be told apart by them, or none may be dropped."""
    known = not found.complaints and None not in found.packets and len({*found.packets}) == len(found.checksums)
    if not known or not found.has_bidirectional or found.codec not in DROPPING_CODECS:
        return b""
    return order_packets(found.packets, found.packet_sizes, found.checksums, found.codec).pack()


def _sparsify_keyframes(keyframes, gap=MIN_SEEK_DISTANCE):
    """Select keyframes at least `gap` frames apart.

    Intra-coded files have one a frame, and the manifest should stay small.
    """
    last = -gap
    for index, pts in keyframes:
        if index - last >= gap:
            last = index
            yield index, pts


def _choose_trial_frames(num_frames, keys):
    """Return the frames of a trial, and the keyframes that PyAV seeks to.

    It decodes at most all frames.
    """
    reach, some = MIN_SEEK_DISTANCE, []
    for key in keys:
        if key >= (some[-1] + 2 if some else 0) + reach:  # two frames are read from each
            some.append(key)
    some = [some[i] for i in np.unique(np.linspace(0, len(some) - 1, MAX_SEEKS).astype(int))] if some else []
    wanted = {num_frames // 2} if not some else set()
    wanted.update(index for key in some for index in (key, key + 1, num_frames - 1) if index < num_frames)
    budget = num_frames // 3  # of frames between those
    for key, end in sorted(zip(keys, [*keys[1:], num_frames], strict=True), key=lambda group: group[1] - group[0]):
        inside = (end - key) // 2
        budget -= inside
        if key in some and budget >= 0 and inside > reach:
            wanted.add(key + inside)
    return sorted({*wanted, num_frames - 1}), some


def _add_trial_frames(few, num_frames, keys, sought):
    """Return more frames: two of seven, of the first ones from the start and from keyframes, and of the last ones.

    There are none just before a seek, which would not take place then.
    """
    more = {*few, *range(max(keys[-1] + 2, num_frames - LAST_FRAMES), num_frames, 3)}
    for key, end in zip(keys, [*keys[1:], num_frames], strict=True):
        if key in (0, *sought):
            stop = min(end - MIN_SEEK_DISTANCE, key + FIRST_FRAMES)
            more.update(i for i in range(key, stop) if (i - key) % 7 in (0, 3))
    return sorted(more)


def _try_pyav(path, found, indices, access, shown, beat):
    """Return the checksums of the RGB frames in `shown` by number, and the processor time.

    Returns None where a frame is not the scan's.
    """
    convert, truth, start = FrameConverter(), {}, time.process_time()
    beat("pyav")
    try:
        for index, frame in zip(indices, readers.decode_chosen(path, indices, access), strict=True):
            beat("pyav")
            if compute_checksum(frame, convert) != found.checksums[index]:
                return None
            if index in shown:
                truth[index] = zlib.crc32(np.ascontiguousarray(convert(frame)))
    except readers.DECODE_ERRORS:
        return None
    return truth, time.process_time() - start


def _try_reader(name, path, found, indices, truth):
    """Return the processor time of another reader's trial; None where it is not exact."""
    start = time.process_time()
    try:
        frames = readers.read_if_reliable(name, path, found, indices)
    except readers.DECODE_ERRORS:
        return None
    exact = frames is not None and [zlib.crc32(np.ascontiguousarray(frame)) for frame in frames] == [
        truth[i] for i in indices
    ]
    return time.process_time() - start if exact else None
