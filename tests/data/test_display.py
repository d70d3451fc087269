"""Pictures are shown as players show them: turned and mirrored."""

import struct
from math import cos, radians, sin

import numpy as np
import pytest
from helpers.videos import numbered_video, read_numbers
from PIL import Image, ImageOps

from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.video import reencode
from videores.data.video.encode import write_video
from videores.data.video.reencode import EncodingSettings


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
