"""Reading by packets: the right frames where the decoder drops others."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import AVAILABLE, numbered_frames, read_numbers

from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.video import packets
from videores.data.video.encode import write_video
from videores.data.video.packets import PacketOrder, order_packets, plan_runs
from videores.data.video.readers import decode_chosen

WITH_B_FRAMES = [codec for codec in AVAILABLE if codec in ("h264", "h264_gop", "mpeg4_avi", "mpeg2_mpg", "hevc")]
X265 = "log-level=none:pools=none:frame-threads=1"
CODINGS = {  # six codecs: suffixes, and options of which each file gets a choice
    "libx264": ((".mp4", ".mkv", ".avi", ".ts"), {"x264-params": ["b-pyramid=none", "open-gop=1", "interlaced=1"]}),
    "libx265": (
        (".mp4", ".mkv"),
        {"x265-params": [f"{X265}:open-gop={n}:bframes={b}" for n in (0, 1) for b in (2, 4)]},
    ),
    "mpeg4": ((".avi", ".mp4", ".mkv"), {"flags": ["+qpel", "+mv4", "+aic"]}),
    "mpeg2video": ((".mpg", ".ts", ".mkv"), {"flags": ["+ilme+ildct", "+bitexact"]}),
    "mpeg1video": ((".mpg", ".mkv"), {"flags": ["+bitexact"]}),
    "libvpx-vp9": ((".webm", ".mkv"), {"deadline": ["realtime"], "auto-alt-ref": ["0", "1"]}),
}


def scrolled_frames(count, rng, height=48, width=64):
    """Numbered frames over a picture that moves, now and then stands still, and is cut once."""
    still = np.repeat(np.cumsum(rng.random(-(-count // 4)) > 0.3), 4)[:count]
    picture = np.kron(rng.integers(0, 60, (height // 4, width // 2, 3)), np.ones((4, 4, 1), int)).astype(np.uint8)
    frames = numbered_frames(count, height=height, width=width) - 30
    for i, step in enumerate(still):
        frames[i] += np.roll(picture, int(step) * 3 + (i > count * 2 // 3) * 31, axis=1)[:, :width]
    return frames


def write_packed(path, frames):
    """An AVI as DivX wrote them: a B-frame is in the packet of the frame after it, an empty packet in its place.

    It takes an odd number of frames.
    """
    with av.open(str(path), "w") as container:
        options = {"bf": "1", "g": "600", "b_strategy": "0", "sc_threshold": "1000000000"}
        stream = container.add_stream("mpeg4", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        coded = [p for f in frames for p in stream.encode(av.VideoFrame.from_ndarray(f, format="rgb24"))]
        coded = list(map(bytes, [*coded, *stream.encode(None)]))
        start = coded[0].index(b"\0\0\1\xb6")
        coded[0] = coded[0][:start] + b"\0\0\1\xb2DivX503b1393p" + coded[0][start:]
        packed = coded[:1]
        for one, other in zip(coded[1::2], coded[2::2], strict=True):
            packed += [one + other, b"\0\0\1\xb6\x50\xcf"]
        for number, content in enumerate(packed):
            packet = av.Packet(content)
            packet.stream, packet.dts, packet.time_base = stream, number, Fraction(1, 25)
            packet.is_keyframe = number == 0
            container.mux(packet)
    return path


def clips(num_frames, rng, count):
    """Requests as training, test and users make them."""
    yield np.arange(num_frames)
    yield np.array([num_frames - 1])
    for _ in range(count):
        index_T = rng.integers(num_frames) + rng.integers(1, 9) * np.arange(rng.integers(1, 17))
        yield np.unique(index_T[index_T < num_frames]) if rng.random() < 0.7 else rng.integers(0, num_frames, 9)


def wrong_frames(path, info, rng, count):
    """(reader, request, frame) of frames that differ from those of one sequential decode."""
    truth = list(decode_all(path))
    assert len(truth) == info.num_frames
    for wanted in clips(info.num_frames, rng, count):
        for reader in info.readers:
            shown = read_frames(path, wanted, reader=reader, info=info)
            yield from (
                (reader, wanted, i)
                for i, frame in zip(wanted, shown, strict=True)
                if not np.array_equal(frame, truth[i])
            )


def decode_all(path):
    """By PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            yield frame.reformat(format="rgb24", interpolation="POINT").to_ndarray()


@pytest.mark.parametrize("codec", WITH_B_FRAMES)
def test_files_with_b_frames_are_read_exactly_with_frames_dropped(numbered, codec):
    info = probe(numbered[codec])
    assert info.packet_order
    for wanted in clips(40, np.random.default_rng(0), 12):
        assert read_numbers(read_frames(numbered[codec], wanted, reader="pyav", info=info)) == wanted.tolist()


@pytest.mark.parametrize("codec", [codec for codec in AVAILABLE if codec in ("h264_intra", "mjpeg_avi", "vp9_webm")])
def test_files_without_b_frames_are_read_as_they_decode(numbered, codec):
    assert probe(numbered[codec]).packet_order == b""


def test_a_read_decodes_fewer_frames(numbered, monkeypatch):
    """Counted where the decoder puts them out: of the 30 frames before the last ones, those with references remain."""
    info, put_out = probe(numbered["mpeg4_avi"]), []
    run = packets._decode_run
    monkeypatch.setattr(packets, "_decode_run", lambda *args: (put_out.append(f) or f for f in run(*args)))
    assert len(list(decode_chosen(numbered["mpeg4_avi"], [36, 39], info.access))) == 2
    assert len(put_out) <= 17


def test_packed_mpeg4_is_read_exactly(tmp_path):
    rng = np.random.default_rng(0)
    path = write_packed(tmp_path / "x.avi", scrolled_frames(41, rng))
    info = probe(path)
    assert info.packet_order
    assert info.warnings == ()
    assert list(wrong_frames(path, info, rng, 20)) == []


def test_reads_in_turns_do_not_disturb_each_other(numbered):
    info = probe(numbered["mpeg4_avi"])
    some, others = [*range(22, 39)], [*range(18, 35)]
    chosen = zip(*(decode_chosen(numbered["mpeg4_avi"], wanted, info.access) for wanted in (some, others)), strict=True)
    shown = [[frame.to_ndarray(format="rgb24") for frame in pair] for pair in chosen]
    assert [read_numbers(frames) for frames in zip(*shown, strict=True)] == [some, others]


def test_every_frame_of_an_mpeg_stream_is_read_by_itself(tmp_path):
    """It has no index, and a seek in a file of few packs ends behind some keyframes."""
    path, frames = tmp_path / "x.mpg", scrolled_frames(37, np.random.default_rng(3))
    write_video(path, frames, 25, codec="mpeg1video", options={"bf": "1", "g": "9", "b_strategy": "0"})
    info, truth = probe(path), list(decode_all(path))
    for number in range(info.num_frames):
        assert np.array_equal(read_frames(path, [number], info=info)[0], truth[number]), number


@pytest.mark.skipif("h264" not in AVAILABLE, reason="FFmpeg has no H.264 encoder here")
def test_the_last_frame_of_a_short_open_group_is_read_by_itself(tmp_path):
    """decord returns the frame before it; reading from the keyframe on, as a trial does, is right."""
    path, frames = tmp_path / "x.mp4", scrolled_frames(16, np.random.default_rng(0))
    coding = {"x264-params": "open-gop=1", "bf": "3", "g": "9", "b_strategy": "0"}
    write_video(path, frames, 25, codec="libx264", options=coding)
    info, truth = probe(path), list(decode_all(path))
    assert [index for index, _ in info.keyframes] == [0, 9]
    for reader in info.readers:
        assert np.array_equal(read_frames(path, [15], reader=reader, info=info)[0], truth[15])


def test_an_order_is_packed_and_unpacked():
    order = order_packets([0, 2, 3, 1, 6, 5], [900, 80, 9, 6, 6, 70, 8], [7, 8, 8, 8, 9, 9], "mpeg4")
    assert order.frame_P.tolist() == [0, 3, 1, 2, -1, 5, 4]
    assert order.before_P.tolist() == [0, 0, 1, 2, 1, 0, 1]
    assert np.array_equal(PacketOrder.unpack(order.pack()), order)


def test_a_read_seeks_only_where_that_pays():
    keyframes = [(0, 0), (12, 120), (24, 240)]
    assert plan_runs([3, 5], keyframes) == [(None, [3, 5])]
    assert plan_runs([3, 13, 14, 30], keyframes) == [(None, [3]), ((12, 120), [13, 14]), ((24, 240), [30])]
    assert plan_runs([8, 13], keyframes) == [(None, [8, 13])]
    assert plan_runs([25], keyframes) == [((24, 240), [25])]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_five_hundred_files_of_six_codecs_have_no_wrong_frame(tmp_path):
    rng, wrong, dropping = np.random.default_rng(0), [], 0
    for number in range(500):
        codec = list(CODINGS)[number % (len(CODINGS) + 1)] if number % (len(CODINGS) + 1) < len(CODINGS) else "packed"
        frames = scrolled_frames(int(rng.integers(9, 90)), rng)
        if codec == "packed":
            path = write_packed(tmp_path / f"{number}.avi", frames[1 - len(frames) % 2 :])
        else:
            suffixes, choices = CODINGS[codec]
            path = tmp_path / f"{number}{rng.choice(suffixes)}"
            some = {name: str(rng.choice(values)) for name, values in choices.items()}
            some |= {"bf": str(rng.integers(1, 4)), "g": str(rng.choice([9, 12, 30, 300])), "b_strategy": "0"}
            write_video(path, frames, 25, codec=codec, options=some)
        info = probe(path)
        dropping += bool(info.packet_order)
        wrong += [(path.name, *what) for what in wrong_frames(path, info, rng, 12)]
    assert wrong == []
    assert dropping > 250
