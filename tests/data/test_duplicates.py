"""Copies of videos: each kind is found in real files, and what only looks alike is not."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from videores.data import manifest
from videores.data.prepare import alignment, duplicates
from videores.data.synthetic import writing
from videores.data.video.encode import write_video
from videores.data.video.reencode import EncodingSettings, reencode

TOOL = Path(__file__).parents[2] / "tools" / "prepare.py"
FRAMES, FPS = 48, 24
COPIES = {
    "re-encoded": lambda x: (x, FPS, "mpeg4"),
    "scaled": lambda x: (x[:, ::2, ::2], FPS, "libx264"),
    "cropped": lambda x: (x[:, 10:90, 14:106], FPS, "libx264"),
    "mirrored": lambda x: (x[:, :, ::-1], FPS, "libx264"),
    "trimmed": lambda x: (x[12:40], FPS, "libx264"),
    "double speed": lambda x: (x[::2], FPS, "libx264"),
}


def make_recording(seed):
    """uint8 frames_THWC: a textured scene in which textured things move in curves, other ones for each seed."""
    rng = np.random.default_rng(seed)
    frames_THWC = np.repeat(make_texture(rng, 96, 120)[None], FRAMES, 0)
    for _ in range(4):
        thing, turns, at = make_texture(rng, 24, 20), rng.uniform(0.5, 2, 2), rng.uniform(0, 6, 2)
        for t, frame_HWC in enumerate(frames_THWC):
            y, x = ((np.sin(at + turns * t / 8) + 1) / 2 * (72, 100)).astype(int)
            frame_HWC[y : y + 24, x : x + 20] = thing
    return frames_THWC


def make_texture(rng, height, width):
    noise = rng.uniform(0, 255, (height + 8, width + 8, 3))
    smooth = sliding_window_view(noise, (9, 9), axis=(0, 1)).mean((-1, -2))
    return np.clip(128 + 6 * (smooth - 128) + rng.uniform(-60, 60, 3), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def recording():
    return make_recording(0)


def find(root, **more):
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*") if path.suffix in (".mp4", ".avi"))
    infos, bad = manifest.probe_all(root, paths, progress=False)
    assert not bad
    return duplicates.find_copies(root, infos, 1, progress=False, **more)[0]


@pytest.fixture(scope="module")
def planted(tmp_path_factory, recording):
    """A folder data set: a recording in train, a copy of each kind in test, and other recordings."""
    root = tmp_path_factory.mktemp("planted")
    for part in ("train/a", "test/a"):
        (root / part).mkdir(parents=True)
    write_video(root / "train/a/source.mp4", recording, FPS)
    for kind, make in COPIES.items():
        frames_THWC, fps, codec = make(recording)
        write_video(root / f"test/a/{kind}.mp4", frames_THWC, fps, codec=codec)
    for seed in (1, 2):
        write_video(root / f"train/a/other{seed}.mp4", make_recording(seed), FPS)
    return root


@pytest.fixture(scope="module")
def found(planted):
    return {(Path(copy.path).stem, Path(copy.source).stem): copy for copy in find(planted)}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_each_kind_is_found_and_named(found, kind):
    pair = found.get((kind, "source")) or found.get(("source", kind))
    assert pair is not None
    assert kind.replace("double", "") in pair.kind or pair.kind == "half speed"
    assert pair.match.likeness > 0.6


def test_other_recordings_are_copies_of_none(found):
    assert not any("other" in name for pair in found for name in pair)


def test_the_offset_and_window_of_a_copy_are_those_of_its_making(recording, tmp_path):
    write_video(tmp_path / "source.mp4", recording, FPS)
    write_video(tmp_path / "part.mp4", recording[18:, 10:90, 14:106], FPS)
    (copy,) = find(tmp_path)
    match = copy.match if copy.source == "source.mp4" else pytest.fail("a crop shows less, and cannot be the source")
    assert match.offset == pytest.approx(18 / FPS, abs=1.5 / FPS)
    assert (match.window.left, match.window.top) == pytest.approx((14 / 120, 10 / 96), abs=0.04)
    assert (match.window.right, match.window.bottom) == pytest.approx((106 / 120, 90 / 96), abs=0.04)


def test_small_copies_of_prepare_are_found(recording, tmp_path):
    write_video(tmp_path / "source.mp4", recording, FPS)
    reencode(tmp_path / "source.mp4", tmp_path / "small.mp4", EncodingSettings(short_side=48), FRAMES, lambda _: None)
    assert len(find(tmp_path)) == 1


def test_a_reversed_video_and_its_mirror_image_are_no_copies(recording, tmp_path):
    write_video(tmp_path / "forward.mp4", recording, FPS)
    write_video(tmp_path / "backward.mp4", recording[::-1], FPS)
    write_video(tmp_path / "mirrored.mp4", recording[::-1, :, ::-1], FPS)
    (copy,) = find(tmp_path)
    assert {copy.path, copy.source} == {"backward.mp4", "mirrored.mp4"}


def test_the_same_place_and_things_that_move_otherwise_are_no_copy(recording, tmp_path):
    write_video(tmp_path / "one.mp4", recording[:24], FPS)
    write_video(tmp_path / "other.mp4", recording[24:], FPS)
    assert find(tmp_path) == []


def test_no_reversal_of_motion8_is_a_copy(tmp_path):
    writing.prepare_dataset(tmp_path / "motion8", videos={"train": 32, "test": 16}, name="motion8")
    assert find(tmp_path / "motion8") == []


def test_no_take_of_a_real_data_set_is_a_copy_of_another(shared_data):
    root = shared_data / "ut-interaction-6" / "videos"
    some = sorted(root.rglob("*_g1[1-5]_*.avi"))  # of which three pairs were mistaken while details did not count
    infos, _ = manifest.probe_all(root, [path.relative_to(root).as_posix() for path in some], progress=False)
    assert len(infos) == 30
    assert duplicates.find_copies(root, infos, 2, progress=False)[0] == []


def test_real_copies_of_the_shared_videos_are_found(shared_data):
    root, names = shared_data / "videos", ("h264_10bits", "hevc_10bits", "h264_340x256_30fps", "h264_340x256_32frames")
    infos, _ = manifest.probe_all(root, [f"{name}.mp4" for name in names], progress=False)
    pairs = {frozenset((copy.path[:-4], copy.source[:-4])) for copy in duplicates.find_copies(root, infos, 1)[0]}
    assert pairs == {frozenset(names[:2]), frozenset(names[2:])}


# -- the tool ---------------------------------------------------------------------------------------------------------


def run_tool(monkeypatch, root, *more):
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, ["folder", "--root", root, "--duplicates", *more])])
    return runpy.run_path(str(TOOL))["main"]()


def test_the_tool_warns_of_copies_in_two_lists_and_keeps_its_work(planted, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VIDEORES_CACHE", str(tmp_path))
    assert run_tool(monkeypatch, planted) == 1
    said = capsys.readouterr()
    assert "two lists" in said.err
    (table,) = tmp_path.rglob("*.duplicates.csv")
    rows = list(csv.DictReader(table.open()))
    across = [row for row in rows if row["lists"] in ("train and test", "test and train")]
    assert len(across) == len(COPIES)
    assert rows[: len(across)] == across
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    next(iter(kept)).unlink()
    run_tool(monkeypatch, planted)
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert sum(again[path] != time for path, time in kept.items()) == 1
    assert list(csv.DictReader(table.open())) == rows


def test_copies_within_a_list_are_no_bad_videos(recording, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VIDEORES_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "set"
    for part in ("train/a", "test/a"):
        (root / part).mkdir(parents=True)
    write_video(root / "train/a/1.mp4", recording, FPS)
    write_video(root / "train/a/2.mp4", recording[:, ::2, ::2], FPS)
    write_video(root / "test/a/3.mp4", make_recording(5), FPS)
    assert run_tool(monkeypatch, root) == 0
    assert "1 pair of videos that show the same recording" in capsys.readouterr().out


def test_parts_of_a_file_are_copies_where_they_overlap(recording, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEORES_CACHE", str(tmp_path / "cache"))
    write_video(tmp_path / "v.mp4", recording, FPS)
    names = ["v.mp4#t=0,1", "v.mp4#t=0.25,1.25", "v.mp4#t=1.25,"]
    infos, _ = manifest.probe_all(tmp_path, names, progress=False)
    (copy,) = duplicates.find_copies(tmp_path, infos, 1, progress=False)[0]
    assert {copy.path, copy.source} == set(names[:2])
    assert abs(copy.match.offset) == pytest.approx(0.25, abs=1 / FPS)


# -- one file alone ---------------------------------------------------------------------------------------------------


def test_thresholds_rise_where_few_thumbnails_are_shared():
    rises = [alignment._compute_threshold(count) for count in (4, 16, 20, 24, 60)]
    assert rises == sorted(rises, reverse=True)
    assert rises[0] == alignment.MAX_THRESHOLD
    assert rises[-1] == alignment.MIN_LIKENESS
