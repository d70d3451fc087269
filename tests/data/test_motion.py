"""motion8: exact reversal pairs on decoded files, and a folder that is either whole or not used."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from helpers.damage import BROKEN_JSON
from helpers.embedded import contents, decode, rows

from videores.data.synthetic import datasets, sprites, writing
from videores.errors import UserError

SMALL = {"train": 32, "test": 16}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("motion") / "videos"
    writing.prepare_dataset(root, seed=3, progress=False, videos=SMALL)
    return root


@pytest.fixture(scope="module")
def clips(small):
    """path -> (label, group, decoded frames), in the order of the lists."""
    videos = [row for split in SMALL for row in rows(small, split)]
    return {row["path"]: (row["label"], row["group"], decode(small / row["path"])) for row in videos}


def start(root, seed, videos):
    """`prepare` in a process of its own."""
    call = f"prepare_dataset({str(root)!r}, {seed}, False, {videos!r})"
    code = f"from videores.data.synthetic.writing import prepare_dataset; {call}"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_every_decoded_pair_is_exactly_reversed(clips):
    videos = list(clips.values())
    assert len(videos) == sum(SMALL.values())
    for (label, group, clip_THWC), (other_label, other_group, other_THWC) in zip(
        videos[0::2], videos[1::2], strict=True
    ):
        assert (other_label, other_group) == (datasets.REVERSED_MOTIONS[label], group)
        assert clip_THWC.shape == (datasets.FRAMES, sprites.SIZE, sprites.SIZE, 3)
        np.testing.assert_array_equal(clip_THWC, other_THWC[::-1])
        assert not np.array_equal(clip_THWC, other_THWC)


def test_partner_is_the_opposite_motion():
    pairs = (("left", "right"), ("up", "down"), ("clockwise", "counterclockwise"), ("grow", "shrink"))
    assert {a: b for pair in pairs for a, b in (pair, pair[::-1])} == datasets.REVERSED_MOTIONS
    assert tuple(name for pair in pairs for name in pair) == datasets.MOTIONS


def test_lists_name_every_file_once_and_classes_are_balanced(small):
    assert (small / "classes.txt").read_text().split() == list(datasets.MOTIONS)
    for split, count in SMALL.items():
        videos = rows(small, split)
        assert Counter(row["label"] for row in videos) == dict.fromkeys(datasets.MOTIONS, count // 8)
        assert sorted(row["path"] for row in videos) == sorted(f"{split}/{p.name}" for p in (small / split).iterdir())


def test_groups_are_pairs_and_no_group_is_in_both_splits(small):
    groups = {split: Counter(row["group"] for row in rows(small, split)) for split in SMALL}
    assert all(set(count.values()) == {2} for count in groups.values())
    assert not groups["train"].keys() & groups["test"].keys()


def test_no_two_videos_are_the_same(clips):
    assert len({clip_THWC.tobytes() for _, _, clip_THWC in clips.values()}) == sum(SMALL.values())


def test_same_seed_same_files_other_seed_other_videos(small, clips, tmp_path):
    writing.prepare_dataset(tmp_path / "same", seed=3, progress=False, videos=SMALL)
    assert contents(tmp_path / "same") == contents(small)
    writing.prepare_dataset(tmp_path / "other", seed=4, progress=False, videos=SMALL)
    for path in list(clips)[::8]:
        assert not np.array_equal(clips[path][2], decode(tmp_path / "other" / path))


def test_frames_are_those_of_version_1():
    """Who changes what is drawn must raise the version, so that old folders are refused: mean colours, as first made.

    Means, since the last bit of a sine differs between processors.
    """
    motion8 = datasets.SETS["motion8"]
    shown = [datasets.render_scene(motion8, 0, split, 5)[0][[0, 9]] for split in ("train", "test")]
    first = [[103.363, 26.582, 87.063], [103.271, 26.510, 87.527], [50.926, 22.998, 63.511], [51.884, 23.142, 63.946]]
    np.testing.assert_allclose(np.mean(shown, axis=(2, 3)).reshape(4, 3), first, atol=0.02)
    assert motion8.version == 1


# -- the motion is there ----------------------------------------------------------------------------------------------

DIRECTION = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def of_class(clips, *names):
    return [(label, clip) for label, _, clip in clips.values() if label in names]


def shift(before_HWC, after_HWC):
    """(dx, dy) in whole pixels on the torus under which the two images correlate best."""
    spectrum = np.fft.fft2(before_HWC, axes=(0, 1)).conj() * np.fft.fft2(after_HWC, axes=(0, 1))
    dy, dx = np.unravel_index(np.fft.ifft2(spectrum.sum(-1)).real.argmax(), before_HWC.shape[:2])
    return np.array([(d + 16) % 32 - 16 for d in (dx, dy)])


def test_translations_go_their_way_at_the_stated_speed(clips):
    low, high = (half_widths * sprites.SIZE / 2 for half_widths in sprites.SPEED)
    right = []
    for label, clip_THWC in of_class(clips, *DIRECTION):
        sprite_THWC = clip_THWC - np.median(clip_THWC, axis=0)
        step = np.median([shift(*sprite_THWC[t : t + 5 : 4]) for t in range(datasets.FRAMES - 4)], axis=0) / 4
        along, across = step @ DIRECTION[label], abs(step @ DIRECTION[label][::-1])
        right.append(low - 0.3 < along < high + 0.3 and across < 0.3)
    assert len(right) == 24
    assert np.mean(right) >= 0.9


def test_growing_sprites_cover_more_and_shrinking_ones_less(clips):
    for label, clip_THWC in of_class(clips, "grow", "shrink"):
        frames_THWC = clip_THWC.astype(int)[:: 1 if label == "grow" else -1]
        # the smallest sprite leaves the first frame nearly all background
        halfway, end = ((abs(frames_THWC[t] - frames_THWC[0]).max(-1) > 40).sum() for t in (8, 15))
        assert end > 1.5 * halfway > 0


def test_clockwise_is_clockwise():
    """Angles grow, nothing else changes, and a growing angle takes the sprite's right end downwards."""
    x_T, y_T, angle_T, radius_T = sprites.make_path("clockwise", 16, np.random.default_rng(0))
    assert np.ptp(x_T) == np.ptp(y_T) == np.ptp(radius_T) == 0
    assert (np.diff(angle_T) > 0).all()
    turned = np.array([0, np.pi / 2], np.float32)
    centre, radius = np.full(2, 16, np.float32), np.full(2, 8, np.float32)
    u_THW, v_THW = sprites.compute_coordinates(centre, centre, turned, radius)
    assert u_THW[0, 16, 24] > 1
    assert u_THW[1, 24, 16] > 1
    assert abs(v_THW[0, 16, 24]) < 0.1


def test_every_shape_looks_different_when_turned():
    centre, radius = np.full(2, 16, np.float32), np.full(2, 9, np.float32)
    turned = np.array([0, 0.3], np.float32)
    for shape in datasets.SHAPES:
        inside = shape(*sprites.compute_coordinates(centre, centre, turned, radius)) < 0
        assert (inside[0] != inside[1]).sum() > 15, shape.__name__
        assert np.hypot(*sprites.compute_coordinates(centre, centre, turned, radius))[inside].max() < 1.01


# -- whole or not used ------------------------------------------------------------------------------------------------


def test_finished_folder_is_left_alone(small, monkeypatch):
    def fail(*_):
        raise AssertionError("a finished data set needs neither lock nor rendering")

    monkeypatch.setattr(writing, "FileLock", fail)
    monkeypatch.setattr(datasets, "render_scene", fail)
    writing.prepare_dataset(small, seed=3, progress=False, videos=SMALL)


def test_killed_run_is_completed(small, tmp_path):
    root = tmp_path / "videos"
    kill_midway(start(root, 3, {"train": 8000, "test": 16}), root)
    assert not (root / "spec.json").exists()
    (root / "spec.partial.json").write_text((small / "spec.json").read_text())  # as if it had been the small set
    before = {path: path.stat().st_mtime_ns for path in whole_videos(root)}
    (root / "train" / ".0000_left.1.tmp.mp4").write_bytes(b"half a file")
    for path in whole_videos(root)[32:]:
        path.unlink()
    writing.prepare_dataset(root, seed=3, progress=False, videos=SMALL)
    assert contents(root) == contents(small)
    assert any(before.get(path) == path.stat().st_mtime_ns for path in whole_videos(root))


def test_killed_run_of_another_seed_is_done_again(small, tmp_path):
    root = tmp_path / "videos"
    kill_midway(start(root, 4, {"train": 8000, "test": 16}), root)
    (root / "notes.txt").write_text("mine")
    writing.prepare_dataset(root, seed=3, progress=False, videos=SMALL)
    assert (root / "notes.txt").read_text() == "mine"
    assert contents(root) == {**contents(small), "notes.txt": b"mine"}


def test_run_killed_at_its_first_write_is_begun_again(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / ".spec.partial.7.tmp.json").write_text("{")
    writing.prepare_dataset(tmp_path / "videos", progress=False, videos={"train": 8, "test": 8})
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert names == ["classes.txt", "spec.json", "test", "test.csv", "train", "train.csv"]


def kill_midway(process, root):
    while len(whole_videos(root)) < 9 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def whole_videos(root):
    return sorted(path for path in root.glob("train/*.mp4") if not path.name.startswith("."))


def test_two_processes_at_once_make_one_set(small, tmp_path):
    processes = [start(tmp_path / "videos", 3, SMALL) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert contents(tmp_path / "videos") == contents(small)


@pytest.mark.parametrize("change", [{"seed": 4}, {"videos": {"train": 16, "test": 16}}], ids=["seed", "size"])
def test_another_data_set_in_the_folder_is_refused(small, change):
    before = contents(small)
    with pytest.raises(UserError, match=r"another data set or seed.*delete the folder or choose another data\.root"):
        writing.prepare_dataset(small, **{"seed": 3, "videos": SMALL, "progress": False, **change})
    assert contents(small) == before


def test_another_version_and_a_broken_specification_are_refused(small, tmp_path):
    spec = json.loads((small / "spec.json").read_text())
    changes = [{"version": 0}, {"version": "1"}, {"videos": {"train": None}}, {"fps": True}]
    for content in [json.dumps({**spec, **change}).encode() for change in changes] + [*BROKEN_JSON]:
        (tmp_path / "spec.json").write_bytes(content)
        with pytest.raises(UserError, match=f"{tmp_path}.*delete the folder"):
            writing.prepare_dataset(tmp_path, seed=3, progress=False, videos=SMALL)


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / "0000_left.mp4").write_bytes(b"holiday")
    with pytest.raises(UserError, match=r"not made by motion8 \(it has 0000_left\.mp4\)"):
        writing.prepare_dataset(tmp_path, progress=False, videos=SMALL)
    assert contents(tmp_path) == {"0000_left.mp4": b"holiday"}


@pytest.mark.parametrize("videos", [{"train": 12, "test": 8}, {"train": 8}, {"train": 8, "test": 0}])
def test_sizes_that_cannot_be_balanced_are_refused(tmp_path, videos):
    with pytest.raises(UserError, match="multiples of 8"):
        writing.prepare_dataset(tmp_path / "videos", progress=False, videos=videos)
    assert list(tmp_path.iterdir()) == []
