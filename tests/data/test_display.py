"""Pictures are shown as players show them: turned and mirrored."""

import struct
from fractions import Fraction
from math import cos, radians, sin

import av
import numpy as np
import pytest
from helpers.videos import numbered_video, read_numbers
from PIL import Image, ImageOps

from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.video import reencode
from videores.data.video.encode import write_video
from videores.data.video.reencode import EncodingSettings

KINDS = [("x.mp4", "libx264"), ("x.mkv", "libx264"), ("x.avi", "mpeg4"), ("x.mpg", "mpeg2video")]


def turn(degrees):
    """The matrix that turns a picture clockwise."""
    angle = radians(degrees)
    return cos(angle), sin(angle), -sin(angle), cos(angle)


# (a, b, c, d) shows the pixel x, y at a x + c y, b x + d y; with what numpy makes of it, rotation and mirroring
MATRICES = {
    "upright": ((1, 0, 0, 1), lambda p: p, 0, False),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1], 0, True),
    "flipped": ((1, 0, 0, -1), lambda p: p[::-1], 180, True),
    "upside down": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1], 180, False),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2), 90, True),
    "transversed": ((0, -1, -1, 0), lambda p: p.transpose(1, 0, 2)[::-1, ::-1], 270, True),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1), 270, False),
    "counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p), 90, False),
    "1 degree": (turn(1), lambda p: p, 0, False),
    "-2.5 degrees": (turn(-2.5), lambda p: p, 0, False),
    "89.2 degrees": (turn(89.2), lambda p: np.rot90(p, -1), 270, False),
    "180.4 degrees": (turn(180.4), lambda p: np.rot90(p, 2), 180, False),
    "270.1 degrees": (turn(270.1), lambda p: np.rot90(p), 90, False),
    "nothing": ((0, 0, 0, 0), lambda p: p, 0, False),
    "half as large": ((0.5, 0, 0, 0.5), lambda p: p, 0, False),
}


def with_matrix(source, target, matrix):
    """A copy of an mp4 file with another display matrix."""
    content = bytearray(source.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # after version, times, number, duration, layer and volume
    a, b, c, d = matrix
    struct.pack_into(">9i", content, at, *(round(x * 65536) for x in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    target.write_bytes(content)
    return target


def lopsided(number=0, height=48, width=64):
    """A picture that no turn and no mirror leaves as it is."""
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[: height // 3, : width // 4] = (220, 60, 60)
    picture[-8:, -20:] = 200
    picture[:, 8 + 3 * number : 12 + 3 * number] = 128
    return picture


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    write_video(path, [lopsided(i) for i in range(12)], 10, options={"qp": "4"})
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_are_shown_as_players_show_them(plain, tmp_path, name):
    matrix, show, rotation, mirrored = MATRICES[name]
    path = with_matrix(plain, tmp_path / "x.mp4", matrix)
    coded, info = read_frames(plain, range(12)), probe(path)
    assert (info.rotation, info.mirrored) == (rotation, mirrored)
    assert (info.height, info.width) == show(coded[0]).shape[:2]
    for reader in info.readers:
        frames = read_frames(path, [11, 0, 5], reader=reader, info=info)
        for number, frame in zip((11, 0, 5), frames, strict=True):
            np.testing.assert_array_equal(frame, show(coded[number]))


@pytest.mark.parametrize("name", MATRICES)
def test_copies_are_upright(plain, tmp_path, name):
    matrix, show, *_ = MATRICES[name]
    path = with_matrix(plain, tmp_path / "x.mp4", matrix)
    reencode.reencode(path, tmp_path / "copy.mp4", EncodingSettings(short_side=24, crf=8), 12, lambda stage: None)
    info = probe(tmp_path / "copy.mp4")
    assert (info.rotation, info.mirrored) == (0, False)
    expected = read_frames(path, [0, 7], short_side=24).astype(int)
    assert np.abs(read_frames(tmp_path / "copy.mp4", [0, 7], info=info) - expected).mean() < 3
    small = read_frames(plain, [0, 7], short_side=24)
    assert np.abs(expected - np.stack([show(frame) for frame in small])).mean() < 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_shown_as_their_exif_data_say(tmp_path, orientation, suffix):
    image = Image.fromarray(lopsided())
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x{suffix}", exif=exif, quality=95)
    with Image.open(tmp_path / f"x{suffix}") as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved).convert("RGB")).astype(int)
    frame = read_frames(tmp_path / f"x{suffix}", [0])[0]
    assert frame.shape == expected.shape
    assert np.abs(frame - expected).mean() < 2


def test_mirrored_frames_are_exact_wherever_reading_begins(tmp_path):
    source = numbered_video(tmp_path / "x", 60, "h264_gop")
    path = with_matrix(source, tmp_path / "mirrored.mp4", (-1, 0, 0, 1))
    info = probe(path)
    for wanted in ([59], [0, 30], list(range(17, 60, 3))):
        assert read_numbers(read_frames(path, wanted, info=info)[:, :, ::-1]) == wanted


# -- pixels that are not square ---------------------------------------------------------------------------------------


def write_aspect(path, aspect, height=58, width=72, codec="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for i in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(lopsided(i, height, width), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def shown_shape(path):
    """Width / height of the shown picture, after turning."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width / stream.height * float(stream.sample_aspect_ratio or 1)


@pytest.mark.parametrize("aspect", [Fraction(64, 45), Fraction(8, 9), Fraction(4, 3), Fraction(1)])
@pytest.mark.parametrize(
    ("name", "codec"), [("x.mp4", "libx264"), ("x.mkv", "libx264"), ("x.avi", "mpeg4"), ("x.mpg", "mpeg2video")]
)
def test_the_shape_of_pixels_is_said_and_kept_in_copies(tmp_path, name, codec, aspect):
    size = {"height": 576, "width": 720} if name == "x.mpg" else {}  # which knows picture shapes only
    aspect = aspect if name != "x.mpg" else Fraction(64, 45) if aspect > 1 else Fraction(16, 15)
    path = write_aspect(tmp_path / name, aspect, codec=codec, **size)
    info = probe(path)
    assert info.pixel_aspect == f"{aspect.numerator}:{aspect.denominator}"
    copy = tmp_path / "copy.mp4"
    reencode.reencode(path, copy, EncodingSettings(short_side=48), info.num_frames, lambda stage: None)
    assert probe(copy).pixel_aspect == info.pixel_aspect
    assert shown_shape(copy) == pytest.approx(shown_shape(path), rel=0.02)


def test_the_shape_of_pixels_is_turned_with_the_picture(tmp_path):
    source = write_aspect(tmp_path / "x.mp4", Fraction(64, 45))
    path = with_matrix(source, tmp_path / "turned.mp4", (0, 1, -1, 0))
    assert probe(path).pixel_aspect == "45:64"
    reencode.reencode(path, tmp_path / "copy.mp4", EncodingSettings(short_side=48), 5, lambda stage: None)
    assert probe(tmp_path / "copy.mp4").pixel_aspect == "45:64"
    assert shown_shape(tmp_path / "copy.mp4") == pytest.approx(1 / shown_shape(source), rel=0.02)


# -- interlaced pictures ----------------------------------------------------------------------------------------------


def write_interlaced(path, codec="libx264", height=96, width=128):
    """A pattern that moves between the two fields of a frame."""
    options = {"libx264": {"x264-params": "tff=1", "qp": "4"}}.get(codec, {"flags": "+ildct+ilme", "qscale": "2"})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(8):
            image = np.full((height, width, 3), 60, np.uint8)
            for field in (0, 1):
                left = 10 + 8 * (2 * i + field) % 100
                image[field::2, left : left + 24] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("x.mp4", "libx264"), ("x.mkv", "libx264"), ("x.mpg", "mpeg2video"), ("x.avi", "mpeg4")]
)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_interlaced_pictures_are_scaled_by_area_averaging(tmp_path, name, codec, factor):
    path = write_interlaced(tmp_path / name, codec)
    whole = read_frames(path, range(8)).astype(float)
    height, width = 96 // factor, -(-128 // factor)
    expected = np.stack([area_average(frame, height, round(128 * height / 96)) for frame in whole])
    scaled = read_frames(path, range(8), short_side=height)
    assert scaled.shape == (8, height, round(128 * height / 96), 3)
    assert np.abs(scaled - expected).mean() < 1.5
    assert abs(width - scaled.shape[2]) <= 1
    copy = tmp_path / f"copy-{name}"
    reencode.reencode(path, copy, EncodingSettings(short_side=height, crf=4), 8, lambda stage: None)
    copied = read_frames(copy, range(8))
    assert np.abs(copied - expected[:, : copied.shape[1], : copied.shape[2]]).mean() < 3


def area_average(picture, height, width):
    """Each pixel the mean of what it covers, by numpy alone."""
    for axis, size in ((0, height), (1, width)):
        edges = np.linspace(0, picture.shape[axis], size + 1)
        total = np.concatenate([np.zeros_like(picture.take([0], axis)), picture.cumsum(axis)], axis)
        low = np.floor(edges).astype(int)
        part = (edges - low).reshape([-1 if a == axis else 1 for a in range(3)])
        upper = np.minimum(low + 1, picture.shape[axis])
        at_edges = total.take(low, axis) * (1 - part) + total.take(upper, axis) * part
        picture = np.diff(at_edges, axis=axis) / np.diff(edges)[0]
    return picture
