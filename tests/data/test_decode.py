"""The frames that were asked for and no others, from every reader that the probe allows, on real files."""

import csv
import os
from dataclasses import replace

import av
import decord
import numpy as np
import pytest
from helpers.videos import AVAILABLE, CODECS, numbered_video, read_numbers, rotated_video
from PIL import Image

from videores.data.decode import read_frames
from videores.data.probe import probe, read_file_stamp
from videores.data.transforms import scale_frame
from videores.data.video import readers
from videores.data.video.encode import write_video
from videores.errors import UnreadableVideo, UserError

REQUESTS = {
    "first": [0],
    "last": [39],
    "all": list(range(40)),
    "clip": list(range(9, 40, 2)),
    "backwards": list(range(39, -1, -3)),
    "repeats": [5, 5, 38, 5, 0, 38],
    "sparse": [2, 13, 30, 39],
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("codec", AVAILABLE)
def test_allowed_readers_return_the_frames_asked_for(numbered, codec, request_):
    info = probe(numbered[codec])
    for reader in ("auto", *info.readers):
        frames = read_frames(numbered[codec], request_, reader=reader, info=info)
        assert frames.shape == (len(request_), 48, 64, 3)
        assert frames.dtype == np.uint8
        assert read_numbers(frames) == request_


@pytest.mark.parametrize("codec", AVAILABLE)
def test_allowed_readers_are_right_on_random_requests(numbered, codec):
    info, rng = probe(numbered[codec]), np.random.default_rng(0)
    for reader in info.readers:
        for size in rng.integers(1, 17, 30):
            wanted = rng.integers(0, 40, size)
            assert read_numbers(read_frames(numbered[codec], wanted, reader=reader, info=info)) == wanted.tolist()


@pytest.mark.parametrize("codec", AVAILABLE)
def test_allowed_readers_agree_byte_for_byte(numbered, codec):
    info = probe(numbered[codec])
    frames = [read_frames(numbered[codec], REQUESTS["clip"], reader=reader, info=info) for reader in info.readers]
    assert all((other == frames[0]).all() for other in frames)


@pytest.mark.parametrize(
    ("codec", "frames", "options"),
    [
        ("mpeg4_mp4", 19, {"g": "12", "bf": "2"}),
        ("mpeg4_avi", 61, {"g": "50", "bf": "1"}),
        ("mpeg2_mpg", 85, {"g": "300", "bf": "0", "fps": 30}),
        ("h264", 131, {"g": "50", "bf": "2"}),
    ],
)
def test_allowed_readers_are_right_for_every_pair_of_frames(tmp_path, codec, frames, options):
    """Some of these files were seen to be right in decord where the probe looked and wrong elsewhere."""
    if codec not in AVAILABLE:
        pytest.skip(f"this PyAV has no {CODECS[codec].encoder} encoder")
    path = numbered_video(tmp_path / "x", frames, codec, **options)
    info, rng = probe(path), np.random.default_rng(0)
    assert info.num_frames == frames
    pairs = [*rng.integers(0, frames, (100, 2)), (0, frames - 1), (frames - 2, frames - 1)]
    clips = [range(start, min(start + 16, frames)) for start in range(0, frames, 2)]
    for reader in info.readers:
        for wanted in map(list, pairs + clips):
            assert read_numbers(read_frames(path, wanted, reader=reader, info=info)) == wanted, reader


def test_without_info_the_file_is_probed(numbered):
    assert read_numbers(read_frames(numbered["mpeg4_avi"], [39, 3])) == [39, 3]


def test_a_named_reader_needs_no_info(numbered):
    for reader in readers.INSTALLED_READERS:
        assert read_numbers(read_frames(str(numbered["h264"]), [39, 3], reader=reader)) == [39, 3]


def test_one_frame_video(one_frame):
    info = probe(one_frame)
    for reader in info.readers:
        assert read_numbers(read_frames(one_frame, [0, 0], reader=reader, info=info)) == [7, 7]


def test_colours_are_those_that_were_written(tmp_path):
    """Red, green, blue, in this order and with the range of an untagged file."""
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (16, 16, 16), (235, 235, 235)]
    images = np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (5, 32, 32, 3))
    write_video(tmp_path / "x.mp4", images, 25, options={"qp": "1", "g": "1"})
    for reader in probe(tmp_path / "x.mp4").readers:
        frames = read_frames(tmp_path / "x.mp4", range(5), reader=reader)
        np.testing.assert_allclose(frames, images, atol=4)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [[-1], [0, -40], [40], [0, 400]])
def test_frame_that_is_not_there_is_refused_with_the_range(numbered, wanted):
    with pytest.raises(UserError, match=r"0\.\.39") as caught:
        read_frames(numbered["h264"], wanted, info=probe(numbered["h264"]))
    assert str(numbered["h264"]) in str(caught.value)


@pytest.mark.parametrize("wanted", [[-1], [40], [0, 400]])
@pytest.mark.parametrize("reader", readers.INSTALLED_READERS)
def test_frame_that_is_not_there_is_refused_without_info(numbered, reader, wanted):
    with pytest.raises(UserError, match=str(max(wanted, key=abs))) as caught:
        read_frames(numbered["h264"], wanted, reader=reader)
    assert "StopIteration" not in str(caught.value)
    assert "inf" not in str(caught.value)


@pytest.mark.parametrize("wanted", [[], np.zeros((0, 16), int)])
def test_no_frames_are_refused(numbered, wanted):
    with pytest.raises(UserError, match="at least one frame"):
        read_frames(numbered["h264"], wanted)


def test_unknown_reader_is_refused_with_the_known_ones(numbered):
    with pytest.raises(UserError, match=r"'cv2'.*decord.*pyav"):
        read_frames(numbered["h264"], [0], reader="cv2")


@pytest.mark.parametrize("reader", ["auto", *readers.INSTALLED_READERS])
def test_file_that_does_not_decode_is_named_with_a_reason(tmp_path, reader):
    path = tmp_path / "text.mp4"
    path.write_text("this is no video\n" * 100)
    with pytest.raises(UnreadableVideo) as caught:
        read_frames(path, [0], reader=reader)
    assert caught.value.path == str(path)
    assert caught.value.reason


@pytest.mark.parametrize("change", ["content", "time", "gone"])
def test_file_that_changed_after_it_was_probed_is_refused(tmp_path, change):
    path = numbered_video(tmp_path / "x", 40)
    info = probe(path)
    if change == "content":
        numbered_video(path, 60)
    elif change == "time":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    with pytest.raises(UnreadableVideo, match="no such file" if change == "gone" else "changed since it was probed"):
        read_frames(path, [3], info=info)


@pytest.mark.parametrize("reader", readers.INSTALLED_READERS)
def test_file_that_breaks_while_it_is_read_is_named(tmp_path, reader):
    path = numbered_video(tmp_path / "x", 40, "h264")
    info = probe(path)
    path.write_bytes(path.read_bytes()[:1000])
    info = replace(info, stamp=tuple(read_file_stamp(path)))  # as if it broke within the read
    with pytest.raises(UnreadableVideo, match=reader):
        read_frames(path, [39], reader=reader, info=info)


# -- scaling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "short_side", "size"),
    [
        (48, 64, 24, (24, 32)),
        (64, 48, 24, (32, 24)),
        (48, 64, 48, (48, 64)),
        (48, 64, 96, (96, 128)),
        (50, 50, 33, (33, 33)),
    ],
)
def test_short_side_scales_and_keeps_the_picture(tmp_path, height, width, short_side, size):
    path = numbered_video(tmp_path / "x", 20, height=height, width=width)
    info = probe(path)
    for reader in info.readers:
        frames = read_frames(path, [19, 3, 3], short_side=short_side, reader=reader, info=info)
        assert frames.shape == (3, *size, 3)
        assert read_numbers(frames) == [19, 3, 3]


def test_halving_is_area_averaging(numbered):
    whole = read_frames(numbered["h264"], [11]).astype(float)
    half = read_frames(numbered["h264"], [11], short_side=24)
    np.testing.assert_allclose(half, whole.reshape(1, 24, 2, 32, 2, 3).mean((2, 4)), atol=1.5)


def test_scaled_frames_do_not_depend_on_which_reader_is_faster(numbered):
    """PyAV scales as it converts; a reader that is named scales the RGB picture, almost the same."""
    info = probe(numbered["h264"])
    frames = {r: read_frames(numbered["h264"], [4, 9], short_side=31, reader=r, info=info) for r in info.readers}
    for reader in info.readers:
        auto = read_frames(numbered["h264"], [4, 9], short_side=31, info=replace(info, reader=reader))
        assert (auto == frames["pyav"]).all()
    assert np.abs(frames["decord"].astype(int) - frames["pyav"]).mean() < 2


def test_scaling_while_converting_is_area_averaging_on_real_videos(shared_data):
    for name, factor in (("mpeg4_320x240_25fps_audio.avi", 4), ("h264_1280x720_bt709_full.mp4", 8)):
        path = shared_data / "videos" / name
        whole = read_frames(path, [0, 20]).astype(float)
        height, width = whole.shape[1] // factor, whole.shape[2] // factor
        average = whole.reshape(2, height, factor, width, factor, 3).mean((2, 4))
        scaled = read_frames(path, [0, 20], short_side=height)
        assert np.abs(scaled - average).mean() < 3.5, name  # saturated colours differ: they are clipped after


@pytest.mark.parametrize("reader", readers.INSTALLED_READERS)
def test_only_what_is_kept_of_each_frame_is_returned(numbered, reader):
    info = probe(numbered["h264"])
    whole = read_frames(numbered["h264"], [30, 2, 2], reader=reader, info=info)
    box = read_frames(numbered["h264"], [30, 2, 2], reader=reader, info=info, keep=lambda f: f[5:20, 7:40])
    np.testing.assert_array_equal(box, whole[:, 5:20, 7:40])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_an_image_is_a_video_of_one_frame_whatever_its_name(tmp_path, suffix):
    for name, grey in (("v%03d", 200), ("v001", 10), ("v002", 10)):
        Image.new("RGB", (64, 48), (grey,) * 3).save(tmp_path / f"{name}{suffix}")
    path = tmp_path / f"v%03d{suffix}"
    assert probe(path).num_frames == 1
    frames = read_frames(path, [0, 0])
    assert frames.shape == (2, 48, 64, 3)
    assert abs(frames.mean() - 200) < 2


# -- what other packages do to the process ----------------------------------------------------------------------------


@pytest.fixture
def torch_bridge():
    """decord's output type is global; importing pytorchvideo.data sets it so."""
    decord.bridge.set_bridge("torch")
    yield
    decord.bridge.reset_bridge()


@pytest.mark.usefixtures("torch_bridge")
def test_the_global_output_type_of_decord_does_not_matter(numbered):
    assert "decord" in probe(numbered["h264"]).readers
    frames = read_frames(numbered["h264"], [39, 0, 7], reader="decord")
    assert type(frames) is np.ndarray
    assert read_numbers(frames) == [39, 0, 7]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_display_rotation_is_applied(tmp_path, degrees):
    rotated_video(tmp_path / "x.mov", degrees)
    info = probe(tmp_path / "x.mov")
    assert (info.rotation, info.width, info.height) == (degrees, 64, 48)
    for reader in info.readers:
        wanted = [0, 19, 7, 12]
        assert read_numbers(read_frames(tmp_path / "x.mov", wanted, reader=reader, info=info)) == wanted


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_frames_can_be_scaled_as_they_come(tmp_path, degrees):
    rotated_video(tmp_path / "x.mov", degrees)
    info = probe(tmp_path / "x.mov")
    for reader in info.readers:
        scaled = read_frames(tmp_path / "x.mov", [0, 19], reader=reader, info=info, keep=lambda f: scale_frame(f, 24))
        assert scaled.shape == (2, 24, 32, 3)
        assert read_numbers(scaled) == [0, 19]


@pytest.mark.parametrize(
    "name",
    ["12:30", "file:a", "concat:a.mp4|b", "subfile,,start,0,end,100,,:a", "http:a", "pipe:0", "cache:a", "v%03d"],
)
def test_names_that_look_like_protocols(tmp_path, monkeypatch, name):
    """A path that is relative to the working folder, of a video that is there beside the one that it might mean."""
    numbered_video(tmp_path / "a", 5)
    numbered_video(tmp_path / "b", 5)
    monkeypatch.chdir(tmp_path)
    os.replace(numbered_video(tmp_path / "c", 5, start=20), f"{name}.mp4")
    info = probe(f"{name}.mp4")
    for reader in info.readers:
        assert read_numbers(read_frames(f"{name}.mp4", [4], reader=reader, info=info)) == [24]


@pytest.mark.parametrize(
    ("request_", "how", "message"),
    [([0.7], {}, "integers"), ([0], {"short_side": 0}, "at least 1"), ([True], {}, "integers")],
)
def test_requests_that_are_no_numbers_are_refused(numbered, request_, how, message):
    with pytest.raises(UserError, match=message):
        read_frames(numbered["h264"], request_, **how)


# -- real files -------------------------------------------------------------------------------------------------------


def exact_rgb(frame):
    """The textbook conversion of a planar 4:2:0 frame, each chroma sample repeated."""
    raw = frame.to_ndarray().astype(float) / (4 if is_deep(frame) else 1)
    size, half = (frame.height, frame.width), (frame.height // 2, frame.width // 2)
    y, cb, cr = np.split(raw.ravel(), np.cumsum([np.prod(size), np.prod(half)]))
    y, (cb, cr) = y.reshape(size), (c.reshape(half).repeat(2, 0).repeat(2, 1) - 128 for c in (cb, cr))
    if frame.color_range != 2:  # not full: 16..235 and 16..240
        y, cb, cr = (y - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
    red, blue = (0.2126, 0.0722) if frame.colorspace == 1 else (0.299, 0.114)
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1).clip(0, 255)


def is_deep(frame):
    return frame.format.name.endswith("10le")


def truth(path, wanted):
    """{number: frame} of one sequential decode, the number of all frames, and whether they have 10 bits."""
    frames = {}
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                rgb = exact_rgb(frame) if is_deep(frame) else frame.to_ndarray(format="rgb24")
                frames[number] = np.rot90(rgb, frame.rotation // 90)
    return frames, number + 1, is_deep(frame)


def wrong_frames(path, info, clips=3):
    """How many frames of random clips, over all allowed readers, are not those of a sequential decode."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, max(info.num_frames - 16, 0), clips, endpoint=True)
    requests = [list(range(s, min(s + 16, info.num_frames))) for s in starts] + [[info.num_frames - 1], [0]]
    frames, count, deep = truth(path, {i for request in requests for i in request})
    assert info.num_frames == count
    wrong = 0
    for reader in info.readers:
        for request in requests:
            for number, got in zip(request, read_frames(path, request, reader=reader, info=info), strict=True):
                assert got.shape == frames[number].shape
                wrong += np.abs(got - frames[number]).mean() > 3 if deep else (got != frames[number]).any()
    return wrong


def quirky_files(shared_data):
    """Path and what the manifest says of each file that decodes."""
    with (shared_data / "videos" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["frames"]]
    assert len(rows) == 19
    return [(shared_data / "videos" / row["file"], row) for row in rows]


def test_every_frame_of_quirky_real_files_is_right(shared_data):
    for path, row in quirky_files(shared_data):
        info = probe(path)
        size = (info.width, info.height) if info.rotation % 180 == 0 else (info.height, info.width)
        assert size == (int(row["width"]), int(row["height"])), path
        assert (info.num_frames, info.has_audio) == (int(row["frames"]), row["audio"] != "0"), path
        # the list has what the header states
        assert info.fps == pytest.approx(float(row["fps"]), rel=0.1 if info.uneven_seconds else 0.002), path
        assert wrong_frames(path, info) == 0, path


def test_colours_of_real_files_are_those_of_their_tags(shared_data):
    """FFmpeg's 8-bit conversion rounds down, which makes up most of the distance."""
    for path, _ in quirky_files(shared_data):
        with av.open(str(path)) as container:
            frame = next(container.decode(container.streams.best("video")))
        exact = np.rot90(exact_rgb(frame), frame.rotation // 90)
        assert np.abs(read_frames(path, [0], reader="pyav")[0] - exact).mean() < 1.5, path


def test_every_frame_of_real_clips_with_broken_time_stamps_is_right(shared_data):
    paths = sorted((shared_data / "ut-interaction-6" / "videos").rglob("*.avi"))
    for path in paths[:: len(paths) // 10][:10]:
        assert wrong_frames(path, probe(path), clips=5) == 0, path


def test_counts_of_real_clips_are_those_of_their_index(shared_data):
    with (shared_data / "ut-interaction-6" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))[::12]
    for row in rows:
        info = probe(shared_data / "ut-interaction-6" / "videos" / row["path"])
        assert (info.num_frames, info.width, info.height) == (int(row["frames"]), int(row["width"]), int(row["height"]))


@pytest.mark.parametrize("how", [{}, {"disposal": 2}, {"optimize": False}], ids=["parts", "whole", "plain"])
def test_a_gif_that_a_list_names_is_read_exactly(tmp_path, how):
    moved = lambda i: np.roll(np.full((48, 64, 3), (200, 30, 30), np.uint8) * (np.arange(64) > 20)[:, None], 3 * i, 1)
    first, *others = [Image.fromarray(moved(i).astype(np.uint8)) for i in range(12)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=[100] * 6 + [300] * 6, **how)
    info = probe(tmp_path / "a.gif")
    assert info.num_frames == 12
    for index in (11, 0, 7, 3):
        for reader in info.readers:
            (frame,) = read_frames(tmp_path / "a.gif", [index], reader=reader)
            assert np.array_equal(frame, moved(index)), (reader, index)
