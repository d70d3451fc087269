"""Small videos with sound: clicks at known times, tones."""

from collections import namedtuple
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from helpers.videos import numbered_frames, write_lines

Coding = namedtuple("Coding", "suffix video audio format rate")
SOUND_CODECS = {
    "aac_mp4": Coding(".mp4", "libx264", "aac", "fltp", 44100),
    "mp3_avi": Coding(".avi", "mjpeg", "libmp3lame", "s16p", 44100),
    "pcm_avi": Coding(".avi", "mjpeg", "pcm_s16le", "s16", 22050),
    "pcm_mov": Coding(".mov", "libx264", "pcm_s16le", "s16", 48000),
    "opus_webm": Coding(".webm", "libvpx-vp9", "libopus", "s16", 48000),
    "mp2_mpg": Coding(".mpg", "mpeg2video", "mp2", "s16", 44100),
}


def has_sound_encoder(name):
    """Whether this PyAV build can write that of SOUND_CODECS."""
    try:
        return bool(av.codec.Codec(SOUND_CODECS[name].audio, "w") and av.codec.Codec(SOUND_CODECS[name].video, "w"))
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False


def sounding_video(
    path, sound_S, codec="aac_mp4", *, frames=25, fps=25, size=(32, 32), offset=0.0, start=0, layout="mono", rate=None
):
    """Writes numbered frames, and sound (-1..1, channels innermost) that begins `offset` seconds after the first.

    A list of sounds makes as many tracks. Returns the path, with the codec's suffix.
    """
    suffix, video, audio, form, usual = SOUND_CODECS[codec]
    rate, path = rate or usual, Path(path).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        pictures, packets = container.add_stream(video, rate=fps), []
        pictures.height, pictures.width, pictures.pix_fmt = *size, "yuvj420p" if video == "mjpeg" else "yuv420p"
        tracks = sound_S if isinstance(sound_S, list) else [sound_S]  # of several, or of none
        coding = {} if audio.startswith("pcm") else {"bit_rate": 192000}  # else a click is smeared
        tracks = [(one, container.add_stream(audio, rate=rate, layout=layout, **coding)) for one in tracks if len(one)]
        for i, image in enumerate(numbered_frames(frames, start, *size)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        for one, track in tracks:
            resampler = av.AudioResampler(form, layout, rate, frame_size=track.codec_context.frame_size or 1024)
            planes = np.float32(one).reshape(-1, len(track.layout.channels)).T
            frame = av.AudioFrame.from_ndarray(planes.copy(), "fltp", layout)
            frame.rate, frame.pts, frame.time_base = rate, round(offset * rate), Fraction(1, rate)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                packets += track.encode(part)
            packets += track.encode(None)
        packets = [packet for packet in packets if packet.dts is not None]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def clicks(seconds, at, rate, width=0.002):
    """Silence with short bursts of noise from the times `at` on."""
    sound_S, rng = np.zeros(round(seconds * rate)), np.random.default_rng(0)
    for time in at:
        first = round(time * rate)
        sound_S[first : first + round(width * rate)] = rng.uniform(-0.9, 0.9, round(width * rate))
    return sound_S


def tone(hertz, seconds=0.6, rate=44100):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_sounds(root, classes, train=12, test=7, **video):
    """A set as `write_csv` makes it, each its own group, whose classes have tones; the last test video has no sound."""
    for part, count in (("train", train), ("test", test)):
        lines = ["path,label,group"]
        for i in range(count):
            sound_S = [] if (part, i) == ("test", count - 1) else tone(300 * 2 ** (i % len(classes) / 2))
            start = 1000 * (part == "test") + 100 * i
            path = sounding_video(root / part / f"{i:02}", sound_S, **{"frames": 12, "start": start, **video})
            lines.append(f"{part}/{path.name},{classes[i % len(classes)]},{part}{i:02}")
        write_lines(root / f"{part}.csv", lines)
    return dict(name="tiny", format="csv", root=str(root))
