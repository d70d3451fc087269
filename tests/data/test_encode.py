"""Writing videos: what is written is what is read back, and a file is whole or not there."""

import av
import numpy as np
import pytest

from videores.data.video.encode import write_video
from videores.errors import UserError


def noise(frames=7, height=24, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


LOSSLESS = {
    "x264-rgb": ("clip.mp4", "libx264rgb", "rgb24", {"qp": "0"}),
    "x264-rgb-bframes": ("clip.mp4", "libx264rgb", "rgb24", {"qp": "0", "g": "6", "bf": "2"}),
    "ffv1": ("clip.mkv", "ffv1", "bgr0", None),
}


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options"), LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_is_exact(tmp_path, name, codec, pix_fmt, options):
    frames = noise()
    write_video(tmp_path / name, frames, 25, codec=codec, pix_fmt=pix_fmt, options=options)
    np.testing.assert_array_equal(decode(tmp_path / name), frames)


LOSSY = {
    "x264": ("clip.mp4", "libx264", {}),
    "x264-gop": ("clip.mp4", "libx264", {"g": "4", "bf": "2"}),
    "mpeg4-avi": ("clip.avi", "mpeg4", {"g": "12", "bf": "2"}),
}


@pytest.mark.parametrize(("name", "codec", "options"), LOSSY.values(), ids=LOSSY)
def test_count_order_and_rate(tmp_path, name, codec, options):
    grey = np.linspace(20, 230, 13).astype(np.uint8)
    frames = np.broadcast_to(grey[:, None, None, None], (13, 32, 48, 3))
    write_video(tmp_path / name, frames, 12.5, codec=codec, options=options)
    np.testing.assert_allclose(decode(tmp_path / name).mean((1, 2, 3)), grey, atol=4)
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].average_rate == 12.5


def test_options_reach_the_encoder(tmp_path):
    write_video(tmp_path / "intra.mp4", noise(), 25, options={"g": "1"})
    write_video(tmp_path / "inter.mp4", noise(), 25, options={"g": "50", "sc_threshold": "0"})
    assert keyframes(tmp_path / "intra.mp4") == 7
    assert keyframes(tmp_path / "inter.mp4") == 1


def keyframes(path):
    with av.open(str(path)) as container:
        return sum(frame.key_frame for frame in container.decode(video=0))


def test_an_iterator_of_frames_is_written_as_an_array_is(tmp_path):
    # lossless: x264's rate control was once seen to code the same frames in other bytes, on another machine
    write_video(tmp_path / "clip.mp4", iter(noise()), 25, codec="libx264rgb", pix_fmt="rgb24", options={"qp": "0"})
    np.testing.assert_array_equal(decode(tmp_path / "clip.mp4"), noise())


def test_only_the_finished_file_is_seen(tmp_path):
    path = tmp_path / "clip.mp4"

    def frames():
        for frame in noise():
            assert not path.exists()
            yield frame

    write_video(path, frames(), 25)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 25)
    before = path.read_bytes()

    def frames():
        yield from noise(3, seed=1)
        assert len(list(tmp_path.iterdir())) == 2  # the new one has begun, under another name
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write_video(path, frames(), 25, options={"tune": "zerolatency"})  # or nothing is written before the end
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


BAD = {
    "float": (noise().astype(np.float32), {}, "uint8"),
    "one-image": (noise()[0], {}, "H,W,3"),
    "grey": (noise()[..., :1], {}, "H,W,3"),
    "sizes": ([noise()[0], noise(width=16)[0]], {}, "one size"),
    "empty": (noise(0), {}, "at least one frame"),
    "odd-size": (noise(height=23), {}, "cannot be written"),
    "codec": (noise(), {"codec": "no_such_codec"}, "no_such_codec"),
    "pix_fmt": (noise(), {"pix_fmt": "no_such_format"}, "no_such_format"),
}


@pytest.mark.parametrize(("frames", "how", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_and_named(tmp_path, frames, how, message):
    with pytest.raises(UserError, match=message) as caught:
        write_video(tmp_path / "clip.mp4", frames, 25, **how)
    assert "clip.mp4" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_container_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"clip\.nothing"):
        write_video(tmp_path / "clip.nothing", noise(), 25)
