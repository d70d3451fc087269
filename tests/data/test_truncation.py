"""Files that lost their end are told from whole ones, in every container, with and without sound."""

from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import numbered_frames, read_numbers
from PIL import Image

from videores.data.decode import read_frames
from videores.data.manifest import probe_all
from videores.data.probe import probe
from videores.data.video import containers, readers
from videores.errors import UnreadableVideo

FRAMES = 100
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
# name -> encoder, sound, options of the container
FILES = {
    "x.avi": ("mpeg4", "mp3", {}),
    "h264.avi": ("libx264", "pcm_s16le", {}),
    "x.mkv": ("mpeg4", "aac", {}),
    "h264.mkv": ("libx264", "flac", {}),
    "x.webm": ("libvpx", "libopus", {}),
    "x.flv": ("flv", "aac", {}),
    "h264.flv": ("libx264", "aac", {}),
    "x.wmv": ("wmv2", "wmav2", {}),
    "x.mp4": ("mpeg4", "aac", {"movflags": "faststart"}),
    "x.mov": ("libx264", "aac", {}),
    "fragments.mp4": ("mpeg4", "aac", FRAGMENTS),
    "x.3gp": ("h263", None, {"movflags": "faststart"}),
}
SAMPLES = {"flt": np.float32, "s16": np.int16, "s32": np.int32}
OPTIONS = {"libvpx": {"deadline": "realtime", "cpu-used": "8"}, "libx264": {"preset": "ultrafast", "g": "12"}}


def write_mixed(path, codec, sound=None, options=(), frames=FRAMES, seconds=None, last=None, others=()):
    """Pictures at 25 fps, `seconds` of silence (as long as the pictures), and `others`: tracks of (codec, seconds).

    The last picture is shown for `last` seconds.
    """
    height, width = (144, 176) if codec == "h263" else (48, 64)
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=dict(options)) as container:
        video = container.add_stream(codec, rate=25, options=OPTIONS.get(codec, {}))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        track = container.add_stream(sound, rate=48000, layout="stereo") if sound else None
        if sound == "wmav2":
            track.bit_rate = 64000
        extra = [(container.add_stream(other, rate=5), length) for other, length in others]
        for stream, _ in extra:
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        packets = []
        for image in numbered_frames(frames, height=height, width=width):
            noisy = (image + rng.integers(-20, 21, image.shape)).clip(0, 255).astype(np.uint8)
            packets += video.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24"))
        packets += video.encode(None)
        if last:
            packets[-1].duration = round(last / packets[-1].time_base)
        if track:
            fifo, kind = av.AudioFifo(), track.codec_context.format.name
            count = round((seconds or frames / 25) * 48000)
            shape = (2, count) if kind.endswith("p") else (1, 2 * count)
            silence = np.zeros(shape, SAMPLES[kind.rstrip("p")])
            samples = av.AudioFrame.from_ndarray(silence, format=kind, layout="stereo")
            samples.sample_rate, samples.pts, samples.time_base = 48000, 0, Fraction(1, 48000)
            fifo.write(samples)
            while frame := fifo.read(track.codec_context.frame_size or 1024, partial=True):
                packets += track.encode(frame)
            packets += track.encode(None)
        for stream, length in extra:
            for image in numbered_frames(5 * length, height=16, width=16):
                packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def cut(path, share, name="cut"):
    content = path.read_bytes()
    target = path.with_name(f"{name}{path.name}")
    target.write_bytes(content[: int(len(content) * share)])
    return target


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each of FILES, whole, with and without sound."""
    folder, paths = tmp_path_factory.mktemp("files"), {}
    for name, (codec, sound, options) in FILES.items():
        for track in {sound, None}:
            paths[name, bool(track)] = write_mixed(
                folder / f"{'sound' if track else 'mute'}-{name}", codec, track, options
            )
    return paths


@pytest.mark.parametrize("name", FILES)
def test_whole_files_are_whole(files, name):
    for (other, sound), path in files.items():
        if other == name:
            info = probe(path)
            assert (info.num_frames, info.has_audio, info.warnings) == (FRAMES, sound, ()), path
            assert read_numbers(read_frames(path, [0, 57, 99], info=info)) == [0, 57, 99]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", FILES)
def test_cut_files_are_called_truncated(files, name, share):
    for (other, _), path in files.items():
        if other == name:
            assert_told(cut(path, share))


def assert_told(path):
    """A cut file is refused; where no picture is lost, it is read with a warning."""
    infos, bad = probe_all(path.parent, [path.name], progress=False)
    for reason in bad.values():
        assert reason.startswith("truncated: "), (path, reason)
    for info in infos.values():
        assert info.num_frames >= 0.96 * FRAMES, path
        assert any("bytes are missing" in warning for warning in info.warnings), info


def test_cut_sound_that_outlasts_the_pictures_is_told_with_the_pictures_whole(tmp_path):
    path = write_mixed(tmp_path / "x.mkv", "mpeg4", "pcm_s16le", seconds=12)
    assert probe(path).num_frames == FRAMES
    with pytest.raises(UnreadableVideo, match="truncated"):
        probe(cut(path, 0.6))


def test_a_cut_broadcast_is_read_with_a_warning(tmp_path):
    """Program streams promise nothing; what FFmpeg says of the last picture is passed on."""
    for name, codec in (("x.mpg", "mpeg2video"), ("x.mpg", "mpeg1video")):
        path = write_mixed(tmp_path / name, codec)
        assert probe(path).warnings == ()
        assert probe(cut(path, 0.55)).warnings, name


@pytest.mark.parametrize("name", ["x.mkv", "x.webm", "x.flv", "x.avi", "x.mp4", "x.mov", "x.wmv"])
def test_a_last_picture_may_be_held(tmp_path, name):
    codec, sound, options = FILES[name]
    for track in (None, sound):
        path = write_mixed(tmp_path / name, codec, track, options, last=6)
        assert probe(path).num_frames == FRAMES


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4", "x.mov", "x.ts"])
def test_other_tracks_may_be_longer(tmp_path, name):
    path = write_mixed(tmp_path / name, "mpeg2video" if name == "x.ts" else "mpeg4", others=[("mpeg4", 12)])
    assert probe(path).num_frames == FRAMES


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4", "x.mov"])
def test_subtitles_may_be_longer(tmp_path, name):
    codec = "srt" if name == "x.mkv" else "mov_text"
    source = write_mixed(tmp_path / f"plain-{name}", "mpeg4")
    with av.open(str(source)) as whole, av.open(str(tmp_path / name), "w") as container:
        video = container.add_stream_from_template(whole.streams.video[0])
        titles = container.add_stream(codec)
        titles.codec_context.subtitle_header = b""
        container.start_encoding()
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        text = b"later" if codec == "srt" else b"\0\x05later"
        packet = av.Packet(text)
        packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = (
            titles,
            Fraction(1, 1000),
            3000,
            3000,
            90000,
        )
        container.mux(packet)
    assert probe(tmp_path / name).num_frames == FRAMES


def test_a_frame_of_two_fields_is_not_half_a_file(tmp_path):
    """An MP4 file may count fields, and AVI files slots without a picture."""
    path = write_mixed(tmp_path / "x.avi", "mpeg4", frames=40)
    content = path.read_bytes()
    at = content.index(b"vids") + 32  # the length in its stream header
    path.write_bytes(content[:at] + (80).to_bytes(4, "little") + content[at + 4 :])
    assert probe(path).num_frames == 40


@pytest.mark.parametrize("name", FILES)
def test_missing_bytes_are_counted(files, name):
    path = files[name, False]
    content, part = path.read_bytes(), path.with_name(f"lost-{path.name}")
    assert containers.count_missing_bytes(path) == 0
    for lost in (1, 30, len(content) // 2):
        part.write_bytes(content[: len(content) - lost])
        assert containers.count_missing_bytes(part) > 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"RIFF\0\0\0\0AVI ",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7,
        b"FLV\1",
        b"G" * 188,
    ],
)
def test_what_a_file_does_not_say_is_not_known(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert containers.count_missing_bytes(tmp_path / "x") is None
    assert containers.count_missing_bytes(tmp_path / "none") is None


# -- images and words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_cut_images_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(path)
    assert probe(path).warnings == ()
    with pytest.raises(UnreadableVideo):
        probe(cut(path, share))


def damage(path, share=0.5):
    """Zeros in the middle of the file."""
    content = bytearray(path.read_bytes())
    at = int(len(content) * share)
    content[at : at + 400] = bytes(400)
    path.write_bytes(content)
    return path


def test_the_reason_has_the_words_of_ffmpeg(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    Image.new("RGB", (100, 100)).save(tmp_path / "x.bmp")
    cases = {
        "moov atom not found": cut(write_mixed(tmp_path / "x.mp4", "mpeg4"), 0.5),
        "not enough data": cut(tmp_path / "x.bmp", 0.5),
        "chunk too big": cut(tmp_path / "x.png", 0.5),
    }
    for words, path in cases.items():
        with pytest.raises(UnreadableVideo) as caught:
            probe(path)
        assert words in caught.value.reason, path


@pytest.mark.parametrize("name", ["h264.mkv", "x.mp4", "h264.avi"])
def test_damage_in_the_middle_reaches_the_user_once_and_no_raw_lines(tmp_path, capfd, name):
    codec, _, options = FILES[name]
    path = damage(write_mixed(tmp_path / name, codec, None, options))
    infos, bad = probe_all(tmp_path, [name], progress=False)
    said = [*bad.values(), *(warning for info in infos.values() for warning in info.warnings)]
    assert said
    assert len(said) <= 5
    for reader in readers.INSTALLED_READERS:
        with suppress(*readers.DECODE_ERRORS):
            readers.READERS[reader](str(path), [0, 50, 99])
    assert capfd.readouterr() == ("", "")
