"""Parts of longer videos, listed by start and end: exact to the frame by time stamps, each a video of its own."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.videos import numbered_frames, numbered_video, read_numbers, write_lines

from videores.config.schema import ClipConfig, DataConfig, TransformConfig, ViewsConfig
from videores.data import datamodule, index, manifest
from videores.data.dataset import VideoDataset
from videores.data.decode import read_frames
from videores.data.lists import Video, format_segment, split_segment
from videores.data.prepare import commands
from videores.data.probe import probe
from videores.data.video.reencode import EncodingSettings
from videores.errors import UnreadableVideo, UserError

CLIP, TRANSFORM = ClipConfig(frames=4), TransformConfig(short_side=40, crop=32)


def write_timed(path, milliseconds, start=0):
    """A video whose frame i is shown from milliseconds[i] on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, time in zip(numbered_frames(len(milliseconds), start), milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def numbers(path, **how):
    info = probe(path)
    return read_numbers(read_frames(path, range(info.num_frames), info=info, **how))


@pytest.mark.parametrize("codec", ["h264", "h264_gop", "mpeg4_avi", "mpeg4_mp4", "mpeg2_mpg", "vp9_webm"])
@pytest.mark.parametrize(
    ("times", "frames"),
    [
        ("0,0.4", range(10)),
        ("0.4,0.8", range(10, 20)),
        ("0.41,0.8", range(11, 20)),
        ("1.2,", range(30, 40)),
        (",0.04", range(1)),
        ("1.5,99", range(38, 40)),
    ],
)
def test_a_part_has_the_frames_whose_times_are_in_it(numbered, codec, times, frames):
    if codec not in numbered:
        pytest.skip(f"this PyAV has no encoder of {codec}")
    assert numbers(f"{numbered[codec]}#t={times}") == list(frames)


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [(0, 0.5, range(5)), (0.5, 1, [5]), (1, 3, [6, 7, 8]), (0.3, 0.301, [3]), (3, "", [9, 10])],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("delay", [0, 1400])
def test_times_are_time_stamps_counted_from_the_first_frame(tmp_path, suffix, delay, start, end, frames):
    times = [0, 100, 200, 300, 400, 500, 1000, 2000, 2500, 3000, 3700]
    path = write_timed(tmp_path / f"v.{suffix}", [time + delay for time in times])
    assert numbers(f"{path}#t={start},{end}") == list(frames)


@pytest.mark.parametrize("times", ["1.6,2", "9,", "0.41,0.42"])
def test_a_part_without_frames_is_a_bad_video(numbered, times):
    with pytest.raises(UnreadableVideo, match=r"no frame is in .*ends at 1\.5") as caught:
        probe(f"{numbered['h264']}#t={times}")
    assert caught.value.path.endswith(f"#t={times}")


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [("1.50", "2.0", "a#t=1.5,2"), ("0", "10", "a#t=0,10"), ("", "3", "a#t=,3"), ("30.", "", "a#t=30,"), ("", "", "a")],
)
def test_a_part_has_one_name_however_its_times_are_spelled(start, end, name):
    assert format_segment("a", start, end, "x.csv:2") == name
    assert split_segment(name)[0] == "a"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2", "1"),
        ("1", "1"),
        ("-1", "2"),
        ("0:10", "0:20"),
        ("nan", "1"),
        ("a", ""),
        ("1e1", ""),
        ("", "inf"),
        ("", "0"),
    ],
)
def test_wrong_times_name_their_line(tmp_path, start, end):
    write_lists(tmp_path, [f"a.mp4,x,{start},{end}"])
    with pytest.raises(UserError, match=r"train\.csv:2"):
        index.read_index(DataConfig(name="tiny", format="csv", root=str(tmp_path)))


def write_lists(root, train, test=("e.mp4,x,0,1", "e.mp4,y,1,2")):
    for part, rows in (("train", train), ("test", test)):
        write_lines(root / f"{part}.csv", ["path,label,start,end", *rows])
    return dict(name="tiny", format="csv", root=str(root))


@pytest.fixture
def values(tmp_path):
    """Two files with three parts each for training, one of them whole, and one file for the test; 40 frames a file."""
    for k, name in enumerate(("a", "b", "e")):
        numbered_video(tmp_path / name, 40, "h264_gop", start=100 * k)
    train = ["a.mp4,x,0,0.4", "a.mp4,y,0.4,0.8", "a.mp4,x,1.2,", "b.mp4,y,0,0.4", "b.mp4,x,0.2,0.6", "b.mp4,y,,"]
    return write_lists(tmp_path, train, ("e.mp4,x,0,0.4", "e.mp4,y,0.4,1.6"))


def test_parts_are_videos_of_their_own(values):
    videos = datamodule.load_videos(DataConfig(**values, val="none"))
    train = videos.index.train
    assert train[:3] == (
        Video("a.mp4#t=0,0.4", 0, "a.mp4"),
        Video("a.mp4#t=0.4,0.8", 1, "a.mp4"),
        Video("a.mp4#t=1.2,", 0, "a.mp4"),
    )
    assert [videos.infos[video.path].num_frames for video in train] == [10, 10, 10, 10, 10, 40]
    assert len({info.digest for info in videos.infos.values()}) == 8
    again, bad = manifest.probe_all(values["root"], [video.path for video in train], progress=False)
    assert (again, bad) == ({video.path: videos.infos[video.path] for video in train}, {})


def test_parts_of_a_file_are_a_group(values, capsys):
    found = index.read_index(DataConfig(**values, val=0.5))
    assert not {video.group for video in found.val} & {video.group for video in found.train}
    write_lists(Path(values["root"]), ["a.mp4,x,0,0.4", "b.mp4,y,0,1"], ("b.mp4,y,1,1.2",))
    with pytest.raises(UserError, match=r"train and test share 1 group(.|\n)*b\.mp4"):
        index.read_index(DataConfig(**values))


@pytest.mark.parametrize("rows", [["a.mp4,x,0,1", "a.mp4,y,0.0,1.00"], ["./a.mp4,x,0,1", "a.mp4,y,0,1"]])
def test_the_same_part_twice_is_refused(values, rows):
    write_lists(Path(values["root"]), rows)
    with pytest.raises(UserError, match=r"a\.mp4#t=0,1"):
        index.read_index(DataConfig(**values))


def test_items_of_a_part_are_those_of_a_file_that_is_cut(values, tmp_path):
    """Of the same frames a file of its own is written, lossless; the items are equal bit by bit."""
    root = tmp_path / "cut"
    root.mkdir()
    whole = datamodule.load_videos(DataConfig(**values, val="none"))
    listed, names = whole.index.train + whole.index.test, []
    for number, video in enumerate(listed):
        info = whole.infos[video.path]
        frames = read_frames(Path(values["root"], video.path), range(info.num_frames), info=info)
        with av.open(str(root / f"{number}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        names.append(Video(f"{number}.mkv", video.label, video.group))
    infos, _ = manifest.probe_all(root, [video.path for video in names], progress=False)
    views = ViewsConfig(clips=2, crops=3)
    for how in ({}, {"views": views}):
        one = VideoDataset(Path(values["root"]), listed, whole.infos, CLIP, TRANSFORM, **how)
        two = VideoDataset(root, names, infos, CLIP, TRANSFORM, **how)
        key = "frames" if how else "clips"
        for number in range(len(listed)):
            assert np.array_equal(one[0, number][key], two[0, number][key])


def test_a_part_of_a_file_that_is_not_there_is_missing(values):
    Path(values["root"], "b.mp4").unlink()
    with pytest.raises(UserError, match=r"3 listed videos(.|\n)*b\.mp4#t=0,0\.4"):
        index.read_index(DataConfig(**values))


def test_copies_are_of_whole_files_and_their_parts_are_the_sources(values, tmp_path_factory):
    root, out = Path(values["root"]), tmp_path_factory.mktemp("copies")
    settings = EncodingSettings(short_side=48)
    assert commands.prepare(commands.Options("csv", root, None, "1", settings, out=out, workers=1)) == 0
    assert json.loads((out / "prepared.json").read_text())["videos"]["prepared"] == 3
    found = index.read_index(DataConfig(**{**values, "root": str(out)}, val="none"))
    for video in found.train + found.test:
        assert numbers(out / video.path) == numbers(root / video.path)
