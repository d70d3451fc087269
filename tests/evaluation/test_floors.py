"""What a number must beat: nearest neighbours in the facts of the files and in thumbnails, computed once."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.videos import numbered_video, write_lines, write_ucf101

from videores.config import parse
from videores.data import datamodule, thumbnails
from videores.data.lists import Index, Video
from videores.data.synthetic import writing
from videores.evaluation import floors
from videores.reporting import results


def settings(root, **data):
    values = {"data": {"name": "x", "format": "csv", "root": str(root), "val": "none", **data}}
    return parse.build_config({**values, "model": {"name": "r3d_18"}, "train": {"epochs": 1}}, "test").data


def find(data, part="test"):
    return floors.find_floors(data, datamodule.load_videos(data), part)


# Neighbours


def test_the_nearest_row_is_that_of_a_plain_search():
    rng = np.random.default_rng(0)
    known_RD, asked_VD = rng.integers(0, 256, (40, 12), dtype=np.uint8), rng.integers(0, 256, (150, 12), dtype=np.uint8)
    label_R = rng.integers(0, 5, 40)
    nearest = [((known_RD.astype(int) - asked.astype(int)) ** 2).sum(1).argmin() for asked in asked_VD]
    assert floors.predict_nearest(known_RD, label_R, asked_VD).tolist() == label_R[nearest].tolist()


def test_of_equal_rows_the_most_frequent_label_counts():
    known_RD = np.array([[1.0], [1], [1], [2], [2]])
    label_R = np.array([2, 0, 2, 3, 1])
    assert floors.predict_nearest(known_RD, label_R, np.array([[0.0], [9], [1.4]])).tolist() == [2, 1, 2]


@pytest.mark.parametrize(("known", "asked"), [(0, 2), (2, 0)])
def test_nothing_is_predicted_from_or_for_nothing(known, asked):
    found = floors.predict_nearest(np.zeros((known, 3)), np.zeros(known, int), np.zeros((asked, 3)))
    assert found.tolist() == [-1] * asked


# A data set


SIZES = [dict(width=64, height=48), dict(width=48, height=64)]
LOOKS = [dict(start=0), dict(start=0xFF00)]
TWO_THIRDS = pytest.approx(200 / 3)


def write_two_classes(root, kinds):
    """15 videos of the classes a and b, every fifth in the test list; `kinds` has what differs between the classes."""
    rows = {"train": [], "test": []}
    for number in range(15):
        part, kind = ("train", "test")[number % 5 == 4], number % 2
        numbered_video(root / f"{part}/{number}", 6, "h264", **kinds[kind])
        rows[part].append(f"{part}/{number}.mp4,{'ab'[kind]}")
    for part in rows:
        write_lines(root / f"{part}.csv", ["path,label", *rows[part]])


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A data set whose sizes tell the classes apart."""
    root = tmp_path_factory.mktemp("shown")
    write_two_classes(root, SIZES)
    return root


@pytest.mark.parametrize(("kinds", "told"), [(SIZES, {"size": 100}), (LOOKS, {"size": TWO_THIRDS, "thumbnail": 100})])
def test_each_floor_uses_what_it_says(tmp_path, kinds, told):
    write_two_classes(tmp_path, kinds)
    found = find(settings(tmp_path))
    assert found == found | {"majority": TWO_THIRDS, "training_videos": 12} | told
    assert found["right"]["majority"] == "101"  # both classes have six training videos, so the answer is a
    for name, right in found["right"].items():
        assert 100 * right.count("1") / 3 == pytest.approx(found[name])


def test_floors_are_read_again_whatever_the_videos_are_called(shown, monkeypatch):
    data = settings(shown)
    before, videos = find(data), datamodule.load_videos(data)
    monkeypatch.setattr(thumbnails, "read_thumbnails", None)
    assert floors.find_floors(data, videos, "test") == before
    relabeled = replace(videos.index, test=tuple(replace(video, label=0) for video in videos.index.test))
    with pytest.raises(TypeError):  # other labels are computed anew
        floors.find_floors(data, replace(videos, index=relabeled), "test")


def test_damaged_floors_are_computed_again(shown, cache_folder):
    before = find(settings(shown))
    for path in (cache_folder / "floors").iterdir():
        path.write_text("{}")
    assert find(settings(shown)) == before


def test_a_video_that_does_not_decode_is_wrong(shown, tmp_path):
    for path in shown.rglob("*.*"):
        (tmp_path / path.relative_to(shown)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(shown)).write_bytes(path.read_bytes())
    (tmp_path / "test/4.mp4").write_bytes(b"")
    assert find(settings(tmp_path))["size"] == TWO_THIRDS


def test_a_test_alone_finds_the_training_videos_that_were_probed(shown, tmp_path, monkeypatch):
    data = settings(shown)
    before, videos = find(data), datamodule.load_videos(data, parts=("test",))
    assert set(videos.infos) == {"test/4.mp4", "test/9.mp4", "test/14.mp4"}
    assert floors.find_floors(data, videos, "test") == before
    monkeypatch.setenv("VIDEORES_CACHE", str(tmp_path))  # where nothing was probed
    assert floors.find_floors(data, videos, "test") is None
    assert "tools/prepare.py" in results.format_floors(None)


def test_held_out_videos_are_known_to_the_test_but_not_to_themselves(tmp_path):
    data = settings(**{**write_ucf101(tmp_path, groups=6), "val": 0.5})
    videos = datamodule.load_videos(data)
    train, val = len(videos.index.train), len(videos.index.val)
    found = {part: floors.find_floors(data, videos, part)["training_videos"] for part in ("val", "test")}
    assert val
    assert found == {"val": train, "test": train + val}


# Thumbnails


@pytest.mark.parametrize(("codec", "points"), [("h264", {0}), ("h264_gop", {12, 24}), ("mpeg4_avi", {0})])
def test_the_frame_of_a_thumbnail_is_a_seek_point(codec, points, numbered, monkeypatch):
    path, asked = numbered[codec], []
    infos = datamodule.manifest.probe_all(path.parent, [path.name], progress=False)[0]
    read = thumbnails.read_frames
    spy = lambda path, wanted, **how: asked.append(wanted) or read(path, wanted, **how)
    monkeypatch.setattr(thumbnails, "read_frames", spy)
    thumbnails_VHWC, readable_V = thumbnails.read_thumbnails(path.parent, [path.name], infos)
    assert readable_V.all()
    assert thumbnails_VHWC.min() > 30
    assert [len(wanted) for wanted in asked] == [1]
    assert asked[0][0] in points


def test_a_file_that_changed_is_left_out(shown, tmp_path):
    path = numbered_video(tmp_path / "a", 6, "h264_intra")
    infos = datamodule.manifest.probe_all(tmp_path, ["a.mp4"], progress=False)[0]
    path.write_bytes(path.read_bytes() + b" ")
    assert not thumbnails.read_thumbnails(tmp_path, ["a.mp4"], infos)[1].any()


# What a result says


@pytest.mark.parametrize(("low", "above"), [(60.1, True), (60.0, False), (20.0, False)])
def test_an_interval_is_above_the_best_floor_or_is_marked(low, above):
    found = floors.compare_with_floors(dict(majority=20.0, size=60.0, thumbnail=30.0, training_videos=9), [low, 99])
    assert (found["best"], found["above"]) == ("size", above)
    assert ("NOT BEATEN" in results.format_floors(found)) is not above
    assert floors.compare_with_floors(None, [low, 99]) is None


@pytest.mark.slow  # it writes and probes 3,072 videos
def test_no_floor_of_motion8_is_far_from_chance(tmp_path):
    data = settings(tmp_path / "motion8", format="motion8")
    writing.prepare_dataset(tmp_path / "motion8", progress=False)
    found = find(data)
    assert found["majority"] == found["size"] == 12.5
    assert 9 < found["thumbnail"] < 16


def test_the_size_of_real_clips_tells_much_of_their_class(shared_data):
    root = shared_data / "ut-interaction-6"
    data = settings(root / "videos", format="ucf101", splits=str(root))
    right, count = 0.0, 0
    for split in (1, 2, 3):
        videos = datamodule.load_videos(data.model_copy(update={"split": split}))
        number = len(videos.index.test)
        right += floors.find_floors(data, videos, "test")["size"] * number / 100
        count += number
    assert count == 120
    assert 100 * right / count == pytest.approx(56, abs=3)  # with a group of training videos more, 56


def test_labels_need_no_training_videos():
    videos = datamodule.Videos(Index(("a",), train=(), test=(Video("a.mp4", 0),)), infos={})
    assert floors.find_floors(settings("."), videos, "test") is None
