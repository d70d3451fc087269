"""Draw the sound of a video, by pure functions: a tone in noise.

Everything random comes from the generator that is given.
"""

import numpy as np

from videores.data.video.encode import SOUND_RATE

TONES = (300, 420, 600, 850, 1200, 1700, 2400, 3400)  # Hz
DETUNE = 0.04  # share by which a tone is off, a fifth of the way to the next one at most
AMPLITUDE = (0.1, 0.4)
NOISE = (0.05, 0.4)  # standard deviation / amplitude: white, so little of it is near the tone


def draw_tone(hertz, seconds, rng):
    """Draw float32 samples_S near a frequency, of any phase, loudness and noise.

    The tone is there from the first to the last sample, so that every window has it.
    """
    pitch, phase = hertz * rng.uniform(1 - DETUNE, 1 + DETUNE), rng.uniform(0, 2 * np.pi)
    amplitude, noise = rng.uniform(*AMPLITUDE), rng.uniform(*NOISE)
    seconds_S = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    wave_S = np.sin(2 * np.pi * pitch * seconds_S + phase) + rng.normal(0, noise, len(seconds_S))
    return np.clip(amplitude * wave_S, -1, 1).astype(np.float32)
