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
from videores.data.video.scan import ScanResult

MAX_SEEKS = 8  # in the trial of a file


def try_readers(
    path: str, found: ScanResult, without: Sequence[str], beat: Callable[[str], None]
) -> tuple[tuple[tuple[int, int], ...], dict[str, float]]:
    """Return the keyframes to seek by, and the readers that are exact with the processor time of their trial.

    Without keyframes PyAV decodes from the start, as the scan did, and the others are not tried: their seeking needs
    time stamps that rise.
    """
    keyframes = tuple(_sparsify_keyframes(found.keyframes))
    if not keyframes:
        return (), {"pyav": 0.0}
    indices = _choose_trial_frames(len(found.checksums), [index for index, _ in keyframes])
    beat("pyav")
    trial = _try_pyav(path, found, indices, keyframes)
    if trial is None:
        keyframes, trial = (), _try_pyav(path, found, indices, ())  # seeking is not exact here
    if trial is None:
        return (), {}
    truth, seconds = trial
    exact = {}
    for name in readers.INSTALLED_READERS:
        if name not in without:
            beat(name)
            exact[name] = seconds if name == "pyav" else _try_reader(name, path, found, indices, truth)
    return keyframes, {name: seconds for name, seconds in exact.items() if seconds is not None}


def _sparsify_keyframes(keyframes, gap=readers.MIN_SEEK_DISTANCE):
    """Select keyframes at least `gap` frames apart.

    Intra-coded files have one a frame, and the manifest should stay small.
    """
    last = -gap
    for index, pts in keyframes:
        if index - last >= gap:
            last = index
            yield index, pts


def _choose_trial_frames(num_frames, keys):
    """Return the frames of a trial: such that PyAV seeks to each of some keyframes, and decodes at most all frames."""
    reach, some = readers.MIN_SEEK_DISTANCE, []
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
    return sorted({*wanted, num_frames - 1})


def _try_pyav(path, found, indices, keyframes):
    """Return the checksums of RGB frames and the processor time; None where a frame is not the scan's."""
    convert, truth, start = FrameConverter(), [], time.process_time()
    try:
        for index, frame in zip(indices, readers.decode_chosen(path, indices, keyframes), strict=True):
            if compute_checksum(frame, convert) != found.checksums[index]:
                return None
            truth.append(zlib.crc32(np.ascontiguousarray(convert(frame))))
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
    exact = frames is not None and [zlib.crc32(np.ascontiguousarray(frame)) for frame in frames] == truth
    return time.process_time() - start if exact else None
