"""Folders of numbered pictures are videos: every frame, in order, in every format, and gaps are named."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.videos import numbered_frames, numbered_video, read_numbers, write_csv, write_folder, write_lines
from PIL import Image

from videores.config.schema import ClipConfig, DataConfig, TransformConfig, ViewsConfig
from videores.data import datamodule, index
from videores.data.dataset import VideoDataset
from videores.data.decode import read_frames
from videores.data.lists import Video
from videores.data.prepare import commands
from videores.data.probe import probe
from videores.data.video import readers
from videores.data.video.reencode import EncodingSettings
from videores.data.views import list_item_views
from videores.errors import UnreadableVideo, UserError


def write_frames(folder, count=12, start=0, name="img_{:05d}.jpg", first=1, step=1, **how):
    """A folder whose i-th picture shows start + i."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(numbered_frames(count, start, **how)):
        Image.fromarray(frame).save(folder / name.format(first + step * i))
    return folder


@pytest.mark.parametrize(
    ("name", "first", "step"),
    [
        ("img_{:05d}.jpg", 1, 1),
        ("{}.jpg", 0, 1),
        ("{}.JPG", 8, 1),  # 8.JPG, 9.JPG, 10.JPG, ...
        ("frame{:06d}.png", 5, 5),
        ("v_2019-01-02_{:03}.bmp", 990, 1),  # up to 1001
        ("a b %d {:02d}.jpeg", 1, 1),
        ("{:04d}.webp", 0, 1),
    ],
)
def test_frames_are_read_in_the_order_of_their_numbers(tmp_path, name, first, step):
    folder = write_frames(tmp_path / "video", name=name, first=first, step=step)
    info = probe(folder)
    assert (info.num_frames, info.width, info.height, info.has_audio) == (12, 64, 48, False)
    wanted = [11, 0, 3, 3, 7]
    assert read_numbers(read_frames(folder, wanted, info=info)) == wanted
    small = read_frames(folder, [1, 2], info=info, short_side=24)
    assert small.shape == (2, 24, 32, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("turned", [None, 3, 6, 8])
def test_frames_are_those_of_the_pictures_alone(tmp_path, suffix, turned):
    folder = tmp_path / "video"
    folder.mkdir()
    exif = Image.Exif()
    if turned:
        exif[0x0112] = turned
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (33, 47, 3), np.uint8)).save(
            folder / f"{i}.{suffix}", **({} if suffix == "bmp" else {"exif": exif})
        )
    frames = read_frames(folder, range(4))
    for i, frame in enumerate(frames):
        assert (frame == readers.read_pyav(folder / f"{i}.{suffix}", [0])[0]).all()


def test_a_picture_counts_by_its_content_and_not_its_suffix(tmp_path):
    folder = write_frames(tmp_path / "video", name="{}.png")
    for path in folder.iterdir():
        path.rename(path.with_suffix(".jpg"))
    assert read_numbers(read_frames(folder, range(12))) == list(range(12))


def test_optical_flow_beside_the_frames_is_no_frame(tmp_path):
    folder = write_frames(tmp_path / "video")
    for axis in "xy":
        write_frames(folder, 11, start=100, name=f"flow_{axis}_{{:05d}}.jpg")
    (folder / "n_frames").write_text("12")
    assert read_numbers(read_frames(folder, range(12))) == list(range(12))


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ([7], ["1 to 12", "without 7;"]),
        ([3, 4, 5, 9], ["without 3 to 5, 9;"]),
        ([2, 4, 6, 8, 10], ["2, 4, 6, 8, 10"]),
        (range(2, 12), None),  # 1 and 12: equal steps
    ],
)
def test_gaps_in_the_numbering_are_named(tmp_path, gone, words):
    folder = write_frames(tmp_path / "video")
    for number in gone:
        (folder / f"img_{number:05d}.jpg").unlink()
    if words is None:
        assert probe(folder).num_frames == 2
        return
    with pytest.raises(UnreadableVideo) as caught:
        probe(folder)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda f: (f / "img_00003.jpg").write_bytes(b""), "img_00003.jpg"),
        (lambda f: (f / "img_00003.jpg").write_text("no picture"), "img_00003.jpg"),
        (lambda f: Image.new("RGB", (20, 20)).save(f / "img_00003.jpg"), "frame 2"),
        (lambda f: shutil.copy(f / "img_00003.jpg", f / "img_3.jpg"), "number 3"),
        (lambda f: write_frames(f, name="depth_{:05d}.png"), "depth_*.png, img_*.jpg"),
        (lambda f: [p.unlink() for p in f.iterdir()], "no numbered pictures"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(tmp_path, spoil, word):
    folder = write_frames(tmp_path / "video")
    spoil(folder)
    with pytest.raises(UnreadableVideo, match=r"video: ") as caught:
        probe(folder)
    assert word in caught.value.reason


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_a_picture_that_is_cut_makes_a_bad_video(tmp_path, suffix, share):
    folder = tmp_path / "video"
    folder.mkdir()
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (96, 128, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.{suffix}")
    content = (folder / f"2.{suffix}").read_bytes()
    (folder / f"2.{suffix}").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableVideo):
        probe(folder)


def test_pictures_that_are_added_after_probing_are_noticed(tmp_path):
    folder = write_frames(tmp_path / "video")
    info = probe(folder)
    write_frames(folder, 1, first=13)
    with pytest.raises(UnreadableVideo, match="changed"):
        read_frames(folder, [0], info=info)


# -- in every format --------------------------------------------------------------------------------------------------


def write_set(root, kind):
    """The same videos in a format; returns its values and what video k shows first, 100 k."""
    paths, values = {}, dict(name="tiny", format=kind, root=str(root))
    if kind == "folder":
        paths = {f"{part}/{name}/v{i}": name for part in ("train", "test") for name in "ab" for i in range(2)}
    elif kind == "csv":
        paths = {f"v{i}": "ab"[i % 2] for i in range(8)}
        for part, some in (("train", range(4)), ("test", range(4, 8))):
            suffix = {0: "", 1: ".mp4"}
            rows = [f"v{i}{suffix[i % 2]},{'ab'[i % 2]}" for i in some]  # a folder, or a file that is not there
            write_lines(root / f"{part}.csv", ["path,label", *rows])
    elif kind == "ucf101":
        paths = {f"{name}/v_{name}_g{g:02}_c01": name for g in range(4) for name in "ab"}
        for part, groups in (("train", range(2)), ("test", range(2, 4))):
            rows = [f"{name}/v_{name}_g{g:02}_c01.avi" for g in groups for name in "ab"]
            write_lines(root / f"{part}list01.txt", rows)
        write_lines(root / "classInd.txt", ["1 a", "2 b"])
    elif kind == "hmdb51":
        paths = {f"{name}/{name}{i}": name for name in "ab" for i in range(4)}
        for name in "ab":
            write_lines(root / f"{name}_test_split1.txt", [f"{name}{i}.avi {1 + i // 2}" for i in range(4)])
    elif kind == "ssv2":
        paths = {f"{i}": "ab"[i % 2] for i in range(8)}
        (root / "labels.json").write_text(json.dumps({"a": "0", "b": "1"}))
        for part, some in (("train", range(4)), ("validation", range(4, 8))):
            (root / f"{part}.json").write_text(
                json.dumps(
                    [{"id": i, "template": "ab"[i % 2]} for i in map(str, some)]
                    if part == "x"
                    else [{"id": str(i), "template": "ab"[i % 2]} for i in some]
                )
            )
    else:
        for part in ("train", "val"):
            rows = [f"{'ab'[i % 2]},{part}{i},0,10" for i in range(4)]
            write_lines(root / f"{part}.csv", ["label,youtube_id,time_start,time_end", *rows])
            folder = "{0}/{1}/" if part == "train" else "{0}/"  # in class folders, or not
            paths |= {f"{folder.format(part, 'ab'[i % 2])}{part}{i}_000000_000010": "ab"[i % 2] for i in range(4)}
    for k, path in enumerate(sorted(paths)):
        write_frames(root / path, start=100 * k)
    return values, {path: 100 * k for k, path in enumerate(sorted(paths))}


@pytest.mark.parametrize("copied", [False, True], ids=["sources", "copies"])
@pytest.mark.parametrize("kind", ["folder", "csv", "ucf101", "hmdb51", "ssv2", "kinetics"])
def test_frames_are_read_in_every_format_and_so_are_copies(tmp_path, kind, copied, capsys):
    (tmp_path / "set").mkdir()
    values, starts = write_set(tmp_path / "set", kind)
    if copied:
        settings = EncodingSettings(short_side=48)
        options = commands.Options(kind, tmp_path / "set", None, "1", settings, out=tmp_path / "out", workers=1)
        assert commands.prepare(options) == 0
        assert json.loads((tmp_path / "out" / "prepared.json").read_text())["videos"]["prepared"] == 8
        values["root"] = str(tmp_path / "out")
    videos = datamodule.load_videos(DataConfig(**values, val="none"))
    listed = (*videos.index.train, *videos.index.test)
    assert {video.path for video in listed} == set(starts)
    assert "left out" not in capsys.readouterr().err
    for video in listed:
        numbers = read_numbers(read_frames(Path(values["root"], video.path), range(12), info=videos.infos[video.path]))
        assert numbers == list(range(starts[video.path], starts[video.path] + 12))
        assert "ab"[video.label] in video.path or kind in ("csv", "ssv2", "kinetics")


def test_training_and_test_items_are_those_of_the_video_file(tmp_path):
    """Lossless pictures of a video's frames give the same items, bit by bit."""
    values = write_folder(tmp_path / "files", codec="h264_intra")
    for path in (tmp_path / "files").rglob("*.mp4"):
        folder = tmp_path / "pictures" / path.relative_to(tmp_path / "files").with_suffix("")
        folder.mkdir(parents=True)
        for i, frame in enumerate(read_frames(path, range(12))):
            Image.fromarray(frame).save(folder / f"img_{i:05d}.png")
    items = []
    clip, transform = ClipConfig(frames=4), TransformConfig(short_side=40, crop=32)
    for root in ("files", "pictures"):
        videos = datamodule.load_videos(DataConfig(**{**values, "root": str(tmp_path / root)}))
        train = VideoDataset(tmp_path / root, videos.index.train, videos.infos, clip, transform)
        views = ViewsConfig(clips=2, crops=3)
        test = VideoDataset(tmp_path / root, videos.index.test, videos.infos, clip, transform, views=views)
        items.append([train[epoch, n]["clips"] for epoch in range(2) for n in range(8)])
        items[-1] += [list_item_views(test[0, n], 32, views) for n in range(4)]
    assert all((one == other).all() for one, other in zip(*items, strict=True))


def test_frame_folders_beside_video_files_and_pictures_in_a_class_folder(tmp_path, capsys):
    values = write_folder(tmp_path)
    write_frames(tmp_path / "train/run/day1/v7")
    write_frames(tmp_path / "train/walk", 1)
    found = index.read_index(DataConfig(**values))
    assert Video("train/run/day1/v7", 0) in found.train
    assert len(found.train) == 9
    assert "1 .jpg" in capsys.readouterr().err


def test_pictures_in_class_folders_are_still_videos_of_one_frame(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            write_frames(tmp_path / part / name, 3)
    found = index.read_index(DataConfig(name="tiny", format="folder", root=str(tmp_path)))
    assert len(found.train) == 6


def test_a_listed_folder_without_frames_is_a_bad_file(tmp_path):
    values = write_csv(
        tmp_path, {"train": [("a.mp4", "x"), ("b.mp4", "y")], "test": [("c.mp4", "x")]}, header="path,label"
    )
    (tmp_path / "b.mp4").unlink()
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"b: it has no numbered pictures"):
        datamodule.load_videos(DataConfig(**values))


# -- covers -----------------------------------------------------------------------------------------------------------


def write_cover(path, video=None):
    """A file of sound with a cover picture, and with the video stream of another file on request."""
    frame = av.VideoFrame.from_ndarray(numbered_frames(1, 77)[0], format="rgb24").reformat(format="yuvj420p")
    with av.open(str(path), "w") as container:
        source = av.open(str(video)) if video else None
        copied = container.add_stream_from_template(source.streams.video[0]) if source else None
        codec = {".mp3": "libmp3lame", ".flac": "flac"}.get(path.suffix, "aac")
        sound = container.add_stream(codec, rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(video=0) if source else ():
            if packet.dts is not None:
                packet.stream = copied
                container.mux(packet)
        form = "s16" if codec == "flac" else "fltp"
        samples = np.zeros((1, 44100), np.int16 if codec == "flac" else np.float32)
        chunk = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
        chunk.sample_rate, chunk.pts = 44100, 0
        container.mux(sound.encode(chunk) + sound.encode(None))
        container.mux(cover.encode(frame) + cover.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mp3", ".flac"])
def test_a_cover_picture_is_no_video(tmp_path, suffix):
    path = write_cover(tmp_path / f"song{suffix}")
    with pytest.raises(UnreadableVideo, match="cover picture"):
        probe(path)


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_a_video_with_a_cover_is_the_video(tmp_path, frames):
    path = write_cover(tmp_path / "both.mp4", numbered_video(tmp_path / "video", frames))
    assert read_numbers(read_frames(path, range(frames))) == list(range(frames))
