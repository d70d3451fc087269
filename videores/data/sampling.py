"""Which frames: (number of frames, rate, policy) -> index_KT, pure integer arithmetic on numpy arrays.

A clip is T frames, each `step` frames after the one before; its span is the distance from its first to its last frame
plus one. Starts lie in 0..last, where last = num_frames - span: that many places a whole clip fits. K clips, T frames.
"""

import numpy as np


def step_of(fps, stride=1, target_fps=None):
    """Source frames between two frames of a clip: the stride, or what turns the video's rate into `target_fps`."""
    return stride if target_fps is None else fps / target_fps


def span_of(frames, step):
    return int(np.floor((frames - 1) * step + 0.5)) + 1


def random_starts(num_frames, span, clips, rng):
    """`clips` independent starts, uniform over all places where the clip fits; 0 for a video shorter than the clip."""
    return rng.integers(0, max(num_frames - span, 0), size=clips, endpoint=True)


def uniform_starts(num_frames, span, clips):
    """Evenly spaced starts whose first clip begins with the video and whose last ends with it; a single one is central.

    The set is its own mirror image (start s goes to last - s), so that a video and its reversal are seen alike; only
    the middle clip of an odd number cannot be where `last` is odd.
    """
    last = max(num_frames - span, 0)
    k = np.arange((clips + 1) // 2)
    first_half = (2 * last * k + clips - 1) // (2 * (clips - 1)) if clips > 1 else k
    if clips % 2:
        first_half[-1] = last // 2
    return np.concatenate([first_half, last - first_half[: clips // 2][::-1]])


def clip_indices(starts, frames, step, num_frames, short="loop"):
    """index_KT of the clips that begin at `starts`; past the end a short video loops or shows its last frame."""
    offsets = np.floor(np.arange(frames) * step + 0.5).astype(int)
    index_KT = np.asarray(starts)[:, None] + offsets
    return index_KT % num_frames if short == "loop" else np.minimum(index_KT, num_frames - 1)
