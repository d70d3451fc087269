"""Containers x codecs x what files come with: no wrong frame, no whole file lost, no cut one unsaid."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import numbered_frames, read_numbers

from videores.data.decode import read_frames
from videores.data.manifest import probe_all
from videores.data.video import containers

FRAMES = 60
CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".ts")
CODECS = {
    "mpeg4": {"g": "12", "bf": "2"},
    "libx264": {"g": "12", "bf": "2", "preset": "veryfast"},
    "mjpeg": {},
    "mpeg2video": {"g": "12", "bf": "2"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
}
UNEVEN = np.cumsum([0, *(40 + 40 * (i % 5 == 0) for i in range(FRAMES - 1))])  # time stamps in ms
VARIANTS = {
    "plain": {},
    "sound": {"sound": True},
    "uneven": {"stamps": UNEVEN},
    "aspect": {"aspect": Fraction(4, 3)},
    "interlaced": {"options": {"flags": "+ildct+ilme"}},
    "turned": {"matrix": (180, False)},
    "mirrored": {"matrix": (0, True)},
    "held": {"last": 5},
    "longer": {"sound": True, "seconds": 6},
}
SOUND = {".webm": "libopus", ".ts": "mp2", ".avi": "mp3", ".wmv": "mp2"}
UNKNOWN = {(".ts", "mjpeg"), (".ts", "libvpx")}  # which FFmpeg writes, and doesn't know again
WITH_MATRIX = (".mp4", ".mov")


def write_variant(
    path, codec, *, sound=False, seconds=FRAMES / 25, stamps=None, aspect=None, options=(), matrix=(), last=0
):
    with av.open(str(path), "w") as container:
        base = Fraction(1, 25) if stamps is None else Fraction(1, 1000)
        video = container.add_stream(codec, rate=25, options={**CODECS[codec], **dict(options)})
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec != "mpeg2video" and stamps is not None:  # which knows a few rates only
            video.codec_context.time_base = base
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        if matrix:
            video.set_display_rotation(*matrix)
        track = (
            container.add_stream("mp2" if path.suffix == ".ts" else "libopus", rate=48000, layout="mono")
            if sound
            else None
        )
        packets = []
        for i, image in enumerate(numbered_frames(FRAMES)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i if stamps is None else int(stamps[i]), base
            packets += video.encode(frame)
        packets += video.encode(None)
        if last:
            packets[-1].duration = round(last / packets[-1].time_base)
        if track:
            kind = track.codec_context.format.name
            silence = np.zeros((1, round(seconds * 48000)), np.float32 if kind.startswith("flt") else np.int16)
            samples, fifo = av.AudioFrame.from_ndarray(silence, format=kind, layout="mono"), av.AudioFifo()
            samples.sample_rate, samples.pts, samples.time_base = 48000, 0, Fraction(1, 48000)
            fifo.write(samples)
            while frame := fifo.read(track.codec_context.frame_size or 1024, partial=True):
                packets += track.encode(frame)
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def write_grid(folder, suffix, codec):
    """{name: variant} of those that the container can hold."""
    written = {}
    for variant, how in VARIANTS.items():
        if "matrix" in how and suffix not in WITH_MATRIX:
            continue
        path = folder / f"{variant}{suffix}"
        try:
            write_variant(path, codec, **how)
        except (av.FFmpegError, ValueError):
            path.unlink(missing_ok=True)
            continue
        written[path.name] = variant
    return written


def wrong_frames(path, info):
    wanted = [0, 1, 17, 30, info.num_frames - 1]
    for reader in info.readers:
        frames = read_frames(path, wanted, reader=reader, info=info)
        frames = np.rot90(frames, -(info.rotation // 90), axes=(1, 2))
        frames = frames[:, :, ::-1] if info.mirrored else frames
        yield from (reader for number, shown in zip(wanted, read_numbers(frames), strict=True) if shown != number)


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_kind_of_file_is_read_exactly_or_told(tmp_path, suffix, codec):
    written = {} if (suffix, codec) in UNKNOWN else write_grid(tmp_path, suffix, codec)
    if not written:
        pytest.skip(f"no {codec} in {suffix}")
    infos, bad = probe_all(tmp_path, list(written), progress=False)
    assert bad == {}
    for name, info in infos.items():
        assert info.num_frames == FRAMES, name
        assert list(wrong_frames(tmp_path / name, info)) == [], name
        assert (info.rotation, info.mirrored) == VARIANTS[written[name]].get("matrix", (0, False)), name
        if written[name] == "uneven" and codec != "mpeg2video" and suffix not in (".avi", ".wmv"):
            np.testing.assert_allclose(info.seconds_T, UNEVEN / 1000, atol=0.002)
    cuts = {}
    for name in written:
        content = (tmp_path / name).read_bytes()
        for share in (20, 50, 95):
            (tmp_path / f"{share}-{name}").write_bytes(content[: len(content) * share // 100])
            cuts[f"{share}-{name}"] = containers.count_missing_bytes(tmp_path / name) is not None
    infos, bad = probe_all(tmp_path, list(cuts), progress=False)
    for name, info in infos.items():
        assert not cuts[name] or (info.num_frames >= 0.94 * FRAMES and info.warnings), (name, info)
