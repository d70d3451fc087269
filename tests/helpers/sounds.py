"""Small videos with sound whose clicks are at known times."""

from collections import namedtuple
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from helpers.videos import numbered_frames

Coding = namedtuple("Coding", "suffix video audio format rate")
SOUND_CODECS = {
    "aac_mp4": Coding(".mp4", "libx264", "aac", "fltp", 44100),
    "mp3_avi": Coding(".avi", "mpeg4", "libmp3lame", "s16p", 44100),
    "pcm_avi": Coding(".avi", "mpeg4", "pcm_s16le", "s16", 22050),
    "pcm_mov": Coding(".mov", "libx264", "pcm_s16le", "s16", 48000),
    "opus_webm": Coding(".webm", "libvpx-vp9", "libopus", "s16", 48000),
    "vorbis_mkv": Coding(".mkv", "libx264", "libvorbis", "fltp", 44100),
    "mp2_mpg": Coding(".mpg", "mpeg2video", "mp2", "s16", 44100),
}


def has_sound_encoder(name):
    try:
        return bool(av.codec.Codec(SOUND_CODECS[name].audio, "w") and av.codec.Codec(SOUND_CODECS[name].video, "w"))
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False


def sounding_video(
    path, sound_S, codec="aac_mp4", *, frames=25, fps=25, size=(32, 32), offset=0.0, start=0, layout="mono", rate=None
):
    """Writes numbered frames with sound, float -1..1 at `rate`, that begins `offset` seconds after the first picture.

    Returns the path, with the codec's suffix.
    """
    suffix, video, audio, form, usual = SOUND_CODECS[codec]
    rate, path = rate or usual, Path(path).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video, rate=fps)
        pictures.height, pictures.width, pictures.pix_fmt = *size, "yuv420p"
        track = container.add_stream(audio, rate=rate, layout=layout)
        packets = []
        for i, image in enumerate(numbered_frames(frames, start, *size)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        resampler = av.AudioResampler(form, layout, rate, frame_size=track.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(
            np.float32(sound_S).reshape(-1, len(track.layout.channels)).T.copy(), "fltp", layout
        )
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
