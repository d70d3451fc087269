"""Cut the sound of clips, and make log-mel spectrograms of it on the device.

A clip lasts from its first frame for `frames` steps, or to the end of its video. Its sound is `data.audio.seconds`
around the middle of that time, which all videos of a configuration have alike, whatever their frame rates. What is
read, cached and collated are int16 mono samples sound_KS; before the first and after the last picture of a video, and
where it has no sound, they are 0.

The middles of the columns are `hop` apart, and those of the first and last one half a hop from the ends of the sound's
time. Column j is of the samples under a Hann window around its middle, which are real ones at both ends, too.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from videores.config.schema import AudioConfig, ClipConfig
from videores.data import sampling
from videores.data.probe import VideoInfo

# The log of 1e-6 is about the noise of 16 bits. Mean and standard deviation of log-mel energies of the sound that
# docs/guide/streams.md names (-3.4 and 2.9), rounded: constants, so that equal sounds have equal pictures.
FLOOR, MEAN, STD = 1e-6, -3.5, 3.0


def count_video_samples(info: VideoInfo, rate: int) -> int:
    """Return how many samples last as long as a video's pictures; 0 without sound."""
    return round(_measure_seconds(info) * rate) if info.has_audio and info.fps else 0


def _measure_seconds(info):
    return info.seconds_T[-1] + 1 / info.fps


def find_first_samples(info: VideoInfo, clip: ClipConfig, audio: AudioConfig, first_K: np.ndarray) -> np.ndarray:
    """Return the first samples of clips that begin with the frames `first_K`.

    Sample i of a video is at i / rate seconds from its first picture.
    """
    _, rate = sampling.measure_timeline(info, clip)
    length = clip.frames * sampling.compute_step(rate, clip.stride, clip.fps) / rate
    start_K = info.seconds_T[first_K]
    middle_K = (start_K + np.minimum(start_K + length, _measure_seconds(info))) / 2
    return np.floor(middle_K * audio.rate - audio.count_samples(clip) / 2 + 0.5).astype(int)


def make_spectrograms(sound_BKS: Tensor, audio: AudioConfig) -> Tensor:
    """Return float clips_BKCTHW of int16 samples.

    H are bands, the lowest first, W columns. They are the log of torchaudio's MelSpectrogram(center=False),
    standardized. A clip without any sound is 0.
    """
    window_S = torch.hann_window(audio.window_samples, device=sound_BKS.device)
    spectrum_XFW = torch.stft(
        sound_BKS.flatten(0, 1).float() / 2**15,
        audio.window_samples,
        audio.hop_samples,
        window=window_S,
        center=False,
        return_complex=True,
    )
    weight_HF = _make_mel_weights(audio.bands, audio.window_samples, audio.rate).to(sound_BKS.device)
    with torch.autocast(sound_BKS.device.type, enabled=False):  # a product in bf16 would be heard
        mel_XHW = weight_HF @ (spectrum_XFW.real.square() + spectrum_XFW.imag.square())
    level_BKHW = ((mel_XHW + FLOOR).log() - MEAN) / STD
    level_BKHW = level_BKHW.unflatten(0, sound_BKS.shape[:2])
    return level_BKHW.where(find_sound(sound_BKS)[:, :, None, None], 0)[:, :, None, None]


def find_sound(sound_BKS: Tensor) -> Tensor:
    """Return bool has_sound_BK: clips whose samples are not all 0."""
    return (sound_BKS != 0).any(-1)


@lru_cache(maxsize=8)
def _make_mel_weights(bands, window, rate):
    """Return float32 weight_HF: triangles of height 1, evenly over the mel scale.

    Mel = 2595 log10(1 + Hz / 700): O'Shaughnessy 1987, Speech communication, as in HTK and torchaudio.
    """
    hertz_F = np.linspace(0, rate // 2, window // 2 + 1)
    corner = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    low, middle, high = (corner[k : bands + k, None] for k in range(3))
    weight_HF = np.minimum((hertz_F - low) / (middle - low), (high - hertz_F) / (high - middle)).clip(0)
    return torch.tensor(weight_HF, dtype=torch.float32)
