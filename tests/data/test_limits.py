"""Files that would take more memory than there is, or are no videos: refused by name, quickly."""

import struct
import zlib

import av
import numpy as np
import pytest
from helpers.videos import numbered_frames, numbered_video
from PIL import Image

from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.video import sandbox
from videores.errors import UnreadableVideo, UserError


def write_png_bomb(path, side):
    """One colour, deflated: some hundred kB that say `side` x `side` pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    deflate = zlib.compressobj(9)
    rows = b"".join(deflate.compress(bytes(1 + side // 8)) for _ in range(side)) + deflate.flush()
    header = struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0)  # one bit a pixel
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def refuse(path):
    with pytest.raises(UnreadableVideo) as caught:
        probe(path)
    return caught.value.reason


def test_a_picture_larger_than_memory_is_refused_with_the_limit(tmp_path):
    assert "VIDEORES_MAX_PIXELS" in refuse(write_png_bomb(tmp_path / "x.png", 14000))
    assert refuse(write_png_bomb(tmp_path / "y.png", 30000))  # FFmpeg's own limit


@pytest.mark.parametrize("codec", ["h264", "mpeg4_avi", "vp9_webm", "mjpeg_avi"])
def test_the_limit_holds_for_videos_and_can_be_set(tmp_path, monkeypatch, codec):
    path = numbered_video(tmp_path / "x", 5, codec, height=96, width=128)
    monkeypatch.setenv("VIDEORES_MAX_PIXELS", str(96 * 128))
    assert probe(path).num_frames == 5
    assert read_frames(path, [4]).shape == (1, 96, 128, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp", ".png", ".gif"])
def test_the_limit_holds_for_images(tmp_path, limit, suffix):
    Image.new("RGB", (200, 100)).save(tmp_path / f"x{suffix}")
    assert "VIDEORES_MAX_PIXELS" in refuse(tmp_path / f"x{suffix}")


@pytest.fixture
def limit(monkeypatch):
    """A limit that a new helper process inherits."""
    monkeypatch.setenv("VIDEORES_MAX_PIXELS", "10000")
    helper = sandbox.Helper()
    monkeypatch.setattr(sandbox, "get_process_helper", lambda _: helper)
    yield
    helper.end()


@pytest.mark.parametrize("codec", ["h264", "mpeg4_avi", "vp9_webm", "mjpeg_avi", "mpeg2_mpg"])
def test_videos_above_the_limit_are_refused(tmp_path, limit, codec):
    path = numbered_video(tmp_path / "x", 5, codec, height=96, width=128)
    assert "VIDEORES_MAX_PIXELS" in refuse(path)
    assert probe(numbered_video(tmp_path / "small", 5, codec)).num_frames == 5


@pytest.mark.parametrize("text", ["-1", "many", "0", "1e9", "99999999999"])
def test_a_limit_that_is_no_number_is_refused(tmp_path, monkeypatch, text):
    path = numbered_video(tmp_path / "x", 5)
    info = probe(path)
    monkeypatch.setenv("VIDEORES_MAX_PIXELS", text)
    with pytest.raises(UserError, match="VIDEORES_MAX_PIXELS"):
        read_frames(path, [0], info=info, reader="pyav")


@pytest.mark.parametrize("name", ["notes.txt", "x.nfo", "x.ans", "x.diz"])
def test_text_is_not_drawn(tmp_path, name):
    (tmp_path / name).write_text("some text\n" * 50)
    assert refuse(tmp_path / name)


def write_covered(path, pictures, codec="aac", first="pictures"):
    """Sound with a cover picture, and a video if `pictures`, before the cover or after."""
    with av.open(str(path), "w") as container:
        streams = []
        sound = container.add_stream(codec, rate=48000, layout="mono")
        for what in ("pictures", "cover") if first == "pictures" else ("cover", "pictures"):
            if what == "cover":
                cover = container.add_stream("mjpeg", rate=1)
                cover.disposition = av.stream.Disposition.attached_pic
                streams.append((cover, numbered_frames(1, 999, 192, 256)))
            elif pictures:
                streams.append((container.add_stream("libx264", rate=25), numbered_frames(10)))
        for stream, images in streams:
            stream.height, stream.width = images.shape[1:3]
            stream.pix_fmt = "yuvj420p" if stream is cover else "yuv420p"
        container.start_encoding()
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 19200), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48000
        fifo = av.AudioFifo()
        fifo.write(samples)
        packets = []
        while frame := fifo.read(1024, partial=True):
            packets += sound.encode(frame)
        packets += sound.encode(None)
        for stream, images in streams:
            for image in images:
                packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
            packets += stream.encode(None)
        for packet in packets:
            container.mux(packet)
    return path


@pytest.mark.parametrize(("name", "codec"), [("x.mp4", "aac"), ("x.mp3", "mp3")])
def test_a_cover_picture_is_no_video(tmp_path, name, codec):
    assert "no video stream" in refuse(write_covered(tmp_path / name, pictures=False, codec=codec))


@pytest.mark.parametrize("first", ["pictures", "cover"])
@pytest.mark.parametrize("name", ["x.mp4", "x.mov"])
def test_a_cover_picture_beside_a_video_is_left_alone(tmp_path, name, first):
    info = probe(write_covered(tmp_path / name, pictures=True, first=first))
    assert (info.num_frames, info.width) == (10, 64)
