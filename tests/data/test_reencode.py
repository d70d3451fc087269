"""The copy of one video: all its frames, at their times, quick to seek in; and copies that are wrong are refused."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from helpers.videos import AVAILABLE, numbered_frames, numbered_video, read_numbers, rotated_video

from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.video import readers, reencode
from videores.data.video.reencode import EncodingSettings
from videores.data.video.scan import scan
from videores.errors import UnreadableVideo


def copy_of(source, target, **settings):
    """Makes the copy, here and now. Returns its path."""
    reencode.reencode(source, target, EncodingSettings(**settings), len(times_of(source)), lambda stage: None)
    return target


def pictures(path):
    """(time in seconds, is a keyframe, shows before others that are stored before it) of every frame."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        packets = [packet for packet in container.demux(stream) if packet.size]
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        times = [
            (f.pts * stream.time_base if f.pts is not None else None, f.key_frame) for f in container.decode(stream)
        ]
    return times, [packet.pts != packet.dts for packet in packets]


def times_of(path):
    return [time for time, _ in pictures(path)[0]]


def keyframes(path):
    return [number for number, (_, key) in enumerate(pictures(path)[0]) if key]


def has_b_frames(path):
    return any(pictures(path)[1])


def sound_of(path):
    """Of each sound stream: its coding, and its packets' bytes and times in seconds."""
    with av.open(str(path)) as container:
        return [(s.codec_context.name, sound_packets(path, s.index)) for s in container.streams.audio]


def sound_packets(path, number):
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams[number]) if p.size]
        return [(bytes(p), float(p.pts * p.time_base)) for p in packets]


# -- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", AVAILABLE)
def test_every_frame_is_there_in_order_with_close_keyframes(numbered, tmp_path, codec):
    assert pictures(numbered[codec])[0], "the source has frames"
    copy = copy_of(numbered[codec], tmp_path / numbered[codec].name)
    info = probe(copy)
    assert (info.num_frames, info.width, info.height, info.fps, info.has_audio) == (40, 64, 48, 25, False)
    assert {"pyav", "decord"} <= set(info.readers)
    assert keyframes(copy) == [0, 12, 24, 36]
    assert not has_b_frames(copy)
    assert times_of(copy) == [Fraction(i, 25) for i in range(40)]
    for reader in info.readers:
        assert read_numbers(read_frames(copy, range(40), reader=reader, info=info)) == list(range(40))


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".webm", ".mpg", ".wmv", ".flv", ".ts", ".3gp", ".mov", ".m4v"])
def test_any_name_serves_for_the_copy(numbered, tmp_path, suffix):
    """Copies are mp4 files under their sources' names, so lists need no change; FFmpeg looks at what is in a file."""
    info = probe(copy_of(numbered["h264"], tmp_path / f"x{suffix}"))
    assert {"pyav", "decord"} <= set(info.readers)
    for reader in info.readers:
        assert read_numbers(read_frames(tmp_path / f"x{suffix}", [39, 0, 17], reader=reader, info=info)) == [39, 0, 17]


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((64, 48), 48, (64, 48)),
        ((64, 48), 128, (64, 48)),  # never scaled up
        ((64, 48), 24, (32, 24)),
        ((70, 48), 26, (38, 26)),  # 37.9
        ((48, 70), 32, (32, 46)),  # 46.7: 47 rows without the last
        ((51, 45), 64, (50, 44)),  # 1 row and 1 column less
    ],
)
def test_size(tmp_path, size, short_side, expected):
    width, height = size
    source = numbered_video(tmp_path / "x", 5, "mjpeg_avi", width=width, height=height)
    info = probe(copy_of(source, tmp_path / "copy.avi", short_side=short_side))
    assert (info.width, info.height) == expected
    assert read_numbers(read_frames(tmp_path / "copy.avi", range(5), info=info)) == list(range(5))


def test_pictures_are_those_that_reading_at_that_size_returns(tmp_path):
    """Of a full-range file too, whose copy has the usual range."""
    for codec in ("h264", "mjpeg_avi"):
        source = numbered_video(tmp_path / codec, 12, codec, width=96, height=64)
        copy = copy_of(source, tmp_path / f"copy{source.suffix}", short_side=32, crf=10)
        expected = read_frames(source, range(12), short_side=32).astype(int)
        assert np.abs(read_frames(copy, range(12)) - expected).mean() < 2


def test_settings_reach_the_encoder(tmp_path):
    source = noisy_video(tmp_path / "x.mp4")
    copies = {crf: copy_of(source, tmp_path / f"{crf}.mp4", crf=crf, keyframes=8) for crf in (0, 18, 40)}
    sizes = [copy.stat().st_size for copy in copies.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert keyframes(copies[18]) == [0, 8, 16, 24]


def noisy_video(path, frames=30, move=0, seed=0):
    """A still picture of noise, with noise of its own in every frame, moved by `move` pixels a frame."""
    rng = np.random.default_rng(seed)
    still = rng.integers(60, 200, (64, 64))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "bf": "2"})
        stream.width = stream.height = 64
        for i in range(frames):
            grey = np.roll(still, move * i, 1) + rng.normal(0, 3, still.shape)
            image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("crf", [18, 30, 45])
def test_a_still_scene_with_noise_is_not_taken_for_a_wrong_copy(tmp_path, crf):
    copy_of(noisy_video(tmp_path / "x.mp4"), tmp_path / "copy.mp4", crf=crf)


def test_the_same_source_gives_the_same_bytes(numbered, tmp_path):
    one, other = (copy_of(numbered["mpeg4_avi"], tmp_path / f"{i}.avi").read_bytes() for i in range(2))
    assert one == other


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_in_the_pixels(tmp_path, degrees):
    rotated_video(tmp_path / "x.mov", degrees)
    info = probe(copy_of(tmp_path / "x.mov", tmp_path / "copy.mov", short_side=32))
    assert (info.rotation, info.width, info.height) == (0, 42, 32)
    assert read_numbers(read_frames(tmp_path / "copy.mov", range(20), info=info)) == list(range(20))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_videos(tmp_path, frames):
    copy = copy_of(numbered_video(tmp_path / "x", frames, start=9), tmp_path / "copy.mp4")
    assert read_numbers(read_frames(copy, range(frames))) == list(range(9, 9 + frames))


def test_an_image_is_copied_as_it_is(tmp_path):
    with av.open(str(tmp_path / "x.png"), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 300, 200, "rgb24"
        image = av.VideoFrame.from_ndarray(numbered_frames(1, 3, 200, 300)[0], format="rgb24")
        container.mux(stream.encode(image)), container.mux(stream.encode(None))
    copy = copy_of(tmp_path / "x.png", tmp_path / "copy.png")
    assert copy.read_bytes() == (tmp_path / "x.png").read_bytes()


# -- times ------------------------------------------------------------------------------------------------------------


def timed_video(path, stamps, base):
    """An H.264 video whose frames have these time stamps, in units of `base`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.codec_context.time_base = 64, 48, base
        for stamp, image in zip(stamps, numbered_frames(len(stamps)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


VARIABLE = {
    "x.mp4": ([0, 512, 1024, 4096, 4097, 9000, 20000, 20512], Fraction(1, 12800)),
    "x.mkv": ([0, 33, 67, 100, 133, 500, 517, 2000, 2001], Fraction(1, 1000)),
    "late.mkv": ([700, 733, 767, 1500, 1533], Fraction(1, 1000)),
    "x.mov": ([0, 1001, 2002, 4004, 5005], Fraction(1, 30000)),
}


@pytest.mark.parametrize("name", VARIABLE)
def test_a_variable_frame_rate_is_kept(tmp_path, name):
    source = timed_video(tmp_path / name, *VARIABLE[name])
    before = times_of(source)
    assert len({b - a for a, b in pairwise(before)}) > 1
    copy = copy_of(source, tmp_path / f"copy-{name}")
    assert times_of(copy) == [time - before[0] for time in before]
    assert read_numbers(read_frames(copy, range(len(before)))) == list(range(len(before)))


@pytest.mark.parametrize("fps", [6, 12.5, Fraction(30000, 1001), Fraction(24000, 1001), 120])
def test_a_constant_frame_rate_is_kept(tmp_path, fps):
    source = numbered_video(tmp_path / "x", 12, fps=fps)
    assert probe(copy_of(source, tmp_path / "copy.mp4")).fps == pytest.approx(probe(source).fps, rel=1e-6)


def shuffled_video(path, frames=20, fps=25):
    """Every frame a keyframe, with the time stamp of another, as broken writers leave them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i, image in enumerate(numbered_frames(frames)):
            [packet] = stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
            packet.pts, packet.dts = i + 2 * (i % 3 == 0), i
            container.mux(packet)
    return path


def test_where_time_stamps_do_not_rise_frames_follow_at_the_rate(tmp_path):
    source = shuffled_video(tmp_path / "x.mkv", fps=Fraction(25, 2))
    stamps = times_of(source)
    assert stamps != sorted(stamps)
    assert times_of(copy_of(source, tmp_path / "copy.mkv")) == [Fraction(2 * i, 25) for i in range(20)]
    assert read_numbers(read_frames(tmp_path / "copy.mkv", range(20))) == list(range(20))


# -- sound ------------------------------------------------------------------------------------------------------------


def sounding_video(path, codecs=("aac",), late=0, picture="libx264"):
    """2 s of pictures, the first `late` seconds after the sound's, and as many sound streams as codecs."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream(picture, rate=25, options={"bf": "0"})
        video.width, video.height = 64, 48
        tracks = [container.add_stream(codec, rate=48000, layout="mono") for codec in codecs]
        container.start_encoding()
        packets = []
        for i, image in enumerate(numbered_frames(50)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i + round(25 * late), Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for track in tracks:
            fifo = av.AudioFifo()
            kind = track.codec_context.format.name
            values = rng.normal(0, 0.1, (1, 96000))
            values = values.astype(np.float32) if kind.startswith("flt") else (values * 9999).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(values, format=kind, layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 48000, 0, Fraction(1, 48000)
            fifo.write(samples)
            while frame := fifo.read(track.codec_context.frame_size or 1024, partial=True):
                packets += track.encode(frame)
            packets += track.encode(None)
        container.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


@pytest.mark.parametrize(
    ("name", "codecs"),
    [("x.mp4", ["aac"]), ("x.mkv", ["aac", "ac3"]), ("x.avi", ["ac3"]), ("x.mkv", ["flac"]), ("x.avi", ["pcm_s16le"])],
)
def test_sound_is_kept_packet_by_packet(tmp_path, name, codecs):
    source = sounding_video(tmp_path / name, codecs)
    copy = copy_of(source, tmp_path / f"copy-{name}", audio="keep")
    assert probe(copy).has_audio
    tracks = list(zip(sound_of(source), sound_of(copy), strict=True))
    assert len(tracks) == len(codecs)
    for (coding, before), (copied_coding, after) in tracks:
        assert copied_coding == coding
        assert b"".join(data for data, _ in before) == b"".join(data for data, _ in after)
        shift = float(times_of(source)[0])  # an AVI file's first picture is at one frame's time, not at 0
        assert after[0][1] == pytest.approx(before[0][1] - shift, abs=0.002)
        assert after[-1][1] == pytest.approx(before[-1][1] - shift, abs=0.07)  # pcm is cut into packets anew
    assert read_numbers(read_frames(copy, range(50))) == list(range(50))


def test_sound_is_dropped(tmp_path):
    source = sounding_video(tmp_path / "x.mp4")
    assert sound_of(copy_of(source, tmp_path / "copy.mp4", audio="drop")) == []


@pytest.mark.parametrize("late", [0, 0.4, 0.8])
def test_sound_and_pictures_stay_together(tmp_path, late):
    """Time begins with the first picture: sound of before has negative times."""
    source = sounding_video(tmp_path / "x.mkv", late=late)
    copy = copy_of(source, tmp_path / "copy.mkv", audio="keep")
    [(_, before)], [(_, after)] = sound_of(source), sound_of(copy)
    assert times_of(copy) == [Fraction(i, 25) for i in range(50)]
    assert len(after) == len(before)
    assert [time for _, time in after] == pytest.approx([time - late for _, time in before], abs=0.002)


def test_sound_that_mp4_cannot_hold_is_said(tmp_path):
    source = sounding_video(tmp_path / "x.avi", ["adpcm_ms"])
    with pytest.raises(UnreadableVideo, match="sound does not fit into mp4, use --audio drop"):
        copy_of(source, tmp_path / "copy.avi", audio="keep")
    assert list(tmp_path.iterdir()) == [source]
    copy_of(source, tmp_path / "copy.avi", audio="drop")


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_source_that_decodes_otherwise_than_it_was_probed_is_refused(numbered, tmp_path):
    with pytest.raises(UnreadableVideo, match="40 frames decode now, 39 when it was probed") as caught:
        reencode.reencode(numbered["h264"], tmp_path / "x.mp4", EncodingSettings(), 39, lambda stage: None)
    assert caught.value.path == str(numbered["h264"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UnreadableVideo, match=r"x\.mp4: cannot be re-encoded"):
        reencode.reencode(tmp_path / "x.mp4", tmp_path / "copy.mp4", EncodingSettings(), 3, lambda stage: None)


def test_a_failure_keeps_an_older_copy(numbered, tmp_path):
    copy = copy_of(numbered["h264"], tmp_path / "x.mp4")
    before = copy.read_bytes()
    with pytest.raises(UnreadableVideo):
        reencode.reencode(numbered["h264"], copy, EncodingSettings(), 39, lambda stage: None)
    assert copy.read_bytes() == before
    assert list(tmp_path.iterdir()) == [copy]


def check(path, frames, times=None, keyframes=12, **size):
    """Checks a file against these numbered frames."""
    images = numbered_frames(max(frames) + 1, **size)
    some = {i: reencode.compute_block_means(images[number]) for i, number in enumerate(frames)}
    reencode.check_copy(
        path, some, times or [Fraction(i, 25) for i in range(len(frames))], keyframes, lambda stage: None
    )


def test_what_is_wrong_in_a_copy_is_found(tmp_path):
    plain = {"g": "12", "bf": "0", "sc_threshold": "0"}
    good = numbered_video(tmp_path / "good", 30, **plain)
    check(good, range(30))
    wrong = {
        "it has 29 frames, not 30": (numbered_video(tmp_path / "short", 29, **plain), range(30)),
        "it has 30 frames, not 29": (good, range(29)),
        "it has B-frames": (numbered_video(tmp_path / "b", 30, **{**plain, "bf": "2"}), range(30)),
        "30 frames pass from one key": (numbered_video(tmp_path / "g", 30, **{**plain, "g": "99"}), range(30)),
        "its frame 7 looks like another one": (good, [*range(7), 8, 7, *range(9, 30)]),
        "its frame 0 looks like another one": (good, [*range(1, 30), 0]),  # all are late by one
    }  # fmt: skip
    for message, (path, frames) in wrong.items():
        with pytest.raises(UnreadableVideo, match=f"its copy is wrong: {message}"):
            check(path, frames)
    late = [Fraction(i, 25) + Fraction(i == 3, 50) for i in range(30)]
    with pytest.raises(UnreadableVideo, match="the time of frame 3 is wrong"):
        check(good, range(30), late)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_shift_by_one_frame_is_found_in_a_moving_scene(tmp_path, shift):
    images = readers.read_pyav(noisy_video(tmp_path / "x.mp4", move=1), np.arange(30))
    blocks = [reencode.compute_block_means(image) for image in images]
    for moved in (0, shift):
        some = {i: blocks[i + moved] for i in range(1, 29)}
        assert all(reencode.is_closer_to_other_frame(blocks[i], i, some) == (moved != 0) for i in range(2, 28))


# -- real files -------------------------------------------------------------------------------------------------------


REAL = ["h264_10bits.mp4", "h264_1280x720_bt709_full.mp4", "h264_two_streams_audio.mp4", "h264_unordered.mov",
        "h264_rotation_90.mov", "h264_340x256_32frames.mp4", "h264_426x240_pancake.mkv", "hevc_10bits.mp4",
        "mpeg4_320x240_25fps_audio.avi", "mpeg4_640x480_5fps.mp4"]  # fmt: skip


@pytest.mark.parametrize("name", [*REAL, "HandShaking", "Pushing"])
def test_real_files_of_many_kinds(shared_data, tmp_path, name):
    """That the copy shows the same frames is checked while it is made."""
    clips = shared_data / "ut-interaction-6" / "videos" / name
    source = min(clips.iterdir()) if clips.is_dir() else shared_data / "videos" / name
    found = scan(source)
    copy = tmp_path / source.name
    reencode.reencode(source, copy, EncodingSettings(audio="keep"), len(found.checksums), lambda stage: None)
    info = probe(copy)
    assert (info.num_frames, info.rotation, info.has_audio) == (len(found.checksums), 0, found.has_audio)
    assert min(info.width, info.height) == min(128, *found.size)
    assert "decord" in info.readers
    assert info.fps == pytest.approx(found.fps, rel=0.05)  # a file may state another rate than its time stamps have
    ends = [0, info.num_frames - 1]
    expected = read_frames(source, ends, reader="pyav", short_side=min(info.width, info.height))
    assert np.abs(read_frames(copy, ends, info=info) - expected[:, : info.height, : info.width].astype(int)).mean() < 4
