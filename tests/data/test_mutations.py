"""Damaged files: none crashes or hangs a run, each is read exactly as one sequential decode reads it, or reported."""

import av
import numpy as np
import pytest
from helpers.damage import SUFFIXES, mutate
from helpers.videos import AVAILABLE, numbered_video

from videores.data.decode import read_frames
from videores.data.manifest import probe_all


def sequential(path):
    """Frames of one decode, each with a converter of its own (POINT, as the plain one is for 8 bits), all kept."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        frames = [(f.reformat(format="rgb24", interpolation="POINT"), f.rotation) for f in container.decode(stream)]
        return [np.rot90(frame.to_ndarray(), rotation // 90) for frame, rotation in frames]


def check(folder, names, clips):
    """Returns the good and the bad files; fails where a good one is not read as it decodes, or a reason is missing."""
    infos, bad = probe_all(folder, names, progress=False)
    assert set(infos) | set(bad) == set(names)
    assert all(isinstance(reason, str) and reason for reason in bad.values())
    assert [(name, wrong) for name, info in infos.items() if (wrong := wrong_reads(folder / name, info, clips))] == []
    return infos, bad


def wrong_reads(path, info, clips):
    truth, rng = sequential(path), np.random.default_rng(0)
    if len(truth) != info.num_frames:
        return f"{len(truth)} frames, not {info.num_frames}"
    starts = (0, *rng.integers(0, info.num_frames, clips), info.num_frames - 1)
    requests = [np.arange(start, min(start + 16, info.num_frames), 2) for start in starts]
    return [
        (reader, int(i))
        for reader in info.readers
        for wanted in requests
        for i, got in zip(wanted, read_frames(path, wanted, reader=reader, info=info), strict=True)
        if not np.array_equal(got, truth[i])
    ]


def test_damaged_copies_of_own_videos(tmp_path):
    sources = [numbered_video(tmp_path / "sources" / c, 30, c) for c in AVAILABLE if c != "vp9_webm"]
    (tmp_path / "damaged").mkdir()
    names = mutate(sources, tmp_path / "damaged", 120)
    infos, bad = check(tmp_path / "damaged", names, clips=2)
    assert len(infos) > 10
    assert len(bad) > 10


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_thousand_damaged_copies_of_real_videos(tmp_path, shared_data):
    sources = sorted(path for path in (shared_data / "videos").iterdir() if path.suffix in SUFFIXES)
    infos, bad = check(tmp_path, mutate(sources, tmp_path, 1000), clips=4)
    assert len(infos) > 100
    assert len(bad) > 100
