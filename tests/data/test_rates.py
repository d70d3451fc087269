"""Frame rates are those of the time stamps, and clips at a rate show what is on the screen at their moments."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import numbered_frames, numbered_video

from videores.config.schema import ClipConfig, TransformConfig, ViewsConfig
from videores.data import sampling, views
from videores.data.dataset import VideoDataset
from videores.data.lists import Video
from videores.data.manifest import probe_all
from videores.data.probe import probe
from videores.data.video import reencode
from videores.data.video.reencode import EncodingSettings

GAPS = {
    "browser": np.random.default_rng(1).choice([31, 33, 34, 36, 40, 62], 119),
    "held": np.where(np.arange(119) == 60, 4000, 40),
    "two rates": np.where(np.arange(119) < 60, 20, 80),
    "dropped": np.where(np.arange(119) % 3, 33, 100),
}


def write_stamped(path, milliseconds, codec="libx264"):
    """Frame i shows i from the given moment on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"deadline": "realtime"} if codec == "libvpx" else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for moment, image in zip(milliseconds, numbered_frames(len(milliseconds)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(moment), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def forget_rate(path):
    """As MediaRecorder writes WebM: without a default duration."""
    content = path.read_bytes()
    at = content.index(b"\x23\xe3\x83")
    size = 4 + (content[at + 3] & 0x7F)
    path.write_bytes(content[:at] + b"\xec" + bytes([0x80 | size - 2]) + bytes(size - 2) + content[at + size :])


def stamps(name, first=0):
    return np.concatenate([[first], first + np.cumsum(GAPS[name])])


KINDS = [(gaps, suffix) for gaps in GAPS for suffix in (".webm", ".mkv", ".mp4")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def stamped(request, tmp_path_factory):
    gaps, suffix = request.param
    path = write_stamped(
        tmp_path_factory.mktemp("stamped") / f"x{suffix}", stamps(gaps), "libvpx" if suffix == ".webm" else "libx264"
    )
    if suffix == ".webm":
        forget_rate(path)
    return path, stamps(gaps) / 1000


def test_the_rate_is_that_of_the_time_stamps(stamped):
    path, seconds = stamped
    info = probe(path)
    assert info.fps == pytest.approx(119 / seconds[-1], rel=0.002)
    np.testing.assert_allclose(info.seconds_T, seconds, atol=0.001)


def test_clips_at_a_rate_show_what_is_on_the_screen_at_their_moments(stamped):
    """A clip's frames are 1 / fps apart in time, whatever the distances of the frames."""
    path, seconds = stamped
    clip, info = ClipConfig(frames=8, fps=4), probe(path)
    dataset = VideoDataset(
        path.parent, [Video(path.name, 0)], {path.name: info}, clip, TransformConfig(short_side=48, crop=48)
    )
    dataset.views = ViewsConfig(clips=5, crops=1)
    index_KT = dataset.frames_shown(0)
    assert (index_KT[0, 0], index_KT[-1, -1]) == (0, 119)
    ends = np.append(seconds[1:], seconds[-1] + 1 / info.fps)
    for index_T in (*index_KT, *(dataset.draw(epoch, 0, 0).index_T for epoch in range(20))):
        assert ((index_T >= 0) & (index_T < 120)).all()
        # there are moments, 1/4 s apart, at which these frames are on the screen
        earliest, latest = ((moments[index_T] - np.arange(8) / 4) for moments in (seconds, ends))
        assert earliest.max() <= latest.min() + 0.002


def test_copies_have_the_time_line_of_their_sources(stamped):
    path, _ = stamped
    copy = path.with_name("copy.mp4")
    reencode.reencode(path, copy, EncodingSettings(), 120, lambda stage: None)
    info, copied = probe(path), probe(copy)
    assert copied.fps == pytest.approx(info.fps, rel=1e-6)
    np.testing.assert_allclose(copied.seconds_T, info.seconds_T, atol=1e-6)
    for short in ("loop", "last"):
        clip = ClipConfig(frames=8, fps=6, short=short)
        moments = sampling.sample_uniform_clips(*sampling.measure_timeline(info, clip), clip, 4)
        index_KT = sampling.find_shown_frames(moments, info, clip)
        np.testing.assert_array_equal(index_KT, sampling.find_shown_frames(moments, copied, clip))


def test_a_rate_that_time_stamps_contradict_is_told(tmp_path):
    path = write_stamped(tmp_path / "x.webm", stamps("browser"), "libvpx")
    forget_rate(path)
    assert any("frames a second" in warning for warning in probe(path).warnings)


def test_the_manifest_keeps_time_stamps(stamped):
    path, _ = stamped
    first, again = (probe_all(path.parent, [path.name], progress=False)[0][path.name] for _ in range(2))
    assert first == again
    assert hash(again)


@pytest.mark.parametrize("fps", [6, 25, 30000 / 1001, 24000 / 1001, 59.94])
@pytest.mark.parametrize("codec", ["h264", "mpeg4_avi", "vp9_webm"])
def test_a_constant_rate_stays_as_the_file_states_it(tmp_path, codec, fps):
    """However the container rounds its time stamps; so numbers of former runs keep their meaning."""
    path = numbered_video(tmp_path / "x", 200, codec, fps=fps)
    info = probe(path)
    with av.open(str(path)) as container:
        assert info.fps == float(container.streams.video[0].average_rate)
    assert (info.uneven_seconds, info.warnings) == (b"", ())
    np.testing.assert_allclose(info.seconds_T, np.arange(200) / fps, atol=0.02)


def test_strides_count_frames_whatever_their_times(stamped):
    path, _ = stamped
    info, clip = probe(path), ClipConfig(frames=8, stride=2)
    assert sampling.measure_timeline(info, clip)[0] == info.num_frames
    assert (sampling.find_shown_frames(np.arange(8), info, clip) == np.arange(8)).all()


def test_all_clips_cover_the_time(stamped):
    path, seconds = stamped
    info, clip, all_clips = probe(path), ClipConfig(frames=8, fps=8), ViewsConfig(clips="all", crops=1)
    expected = np.ceil((seconds[-1] + 1 / info.fps) / 1)
    assert views.count_views(info, clip, all_clips) in (expected, expected - 1, expected + 1)


def test_a_late_start_does_not_matter(tmp_path):
    path = write_stamped(tmp_path / "x.mkv", stamps("browser", first=5000))
    assert probe(path).seconds_T[0] == 0
