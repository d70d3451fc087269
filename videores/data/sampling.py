"""Compute which frames make clips: (number of frames, rate, policy) -> index_KT.

dense     a clip is T frames, each `step` frames after the one before; its span is the distance from its first to its
          last frame plus one. Starts lie in 0..last, where last = num_frames - span: a clip fits at last + 1 places.
segments  the video is cut into T equal parts, and a clip has one frame of each.
`clip` is a config.ClipConfig.
"""

import numpy as np
from numpy.typing import ArrayLike

from videores.config.schema import ClipConfig
from videores.data.probe import VideoInfo

TICKS = 1000  # moments a second from which clips are cut by time stamps


def measure_timeline(info: VideoInfo, clip: ClipConfig) -> tuple[int, float]:
    """Return how many moments clips of a video are cut from, and how many a second.

    They are its frames, or, for clips with a rate of their own of a video without a constant one, milliseconds.
    """
    if not _goes_by_stamps(info, clip):
        return info.num_frames, info.fps
    return max(1, round((info.seconds_T[-1] + 1 / info.fps) * TICKS)), TICKS


def find_shown_frames(moments: np.ndarray, info: VideoInfo, clip: ClipConfig) -> np.ndarray:
    """Return the numbers of the frames that are shown at moments of `measure_timeline`."""
    if not _goes_by_stamps(info, clip):
        return moments
    return np.searchsorted(info.seconds_T, np.asarray(moments) / TICKS + 1e-6, side="right") - 1


def _goes_by_stamps(info, clip):
    return clip.fps is not None and bool(info.uneven_seconds)


def sample_random_clip(num_frames: int, fps, clip, rng, speed=1):
    """Return index_T of a training clip, anywhere in the video.

    `speed` multiplies the distance between its frames.
    """
    if clip.sampling == "segments":
        return draw_segments(num_frames, clip.frames, rng)
    step = compute_step(fps, clip.stride, clip.fps) * speed
    starts = draw_starts(num_frames, compute_span(clip.frames, step), 1, rng)
    return compute_clip_indices(starts, clip.frames, step, num_frames, clip.short)[0]


def sample_uniform_clips(num_frames, fps, clip, clips):
    """Return index_KT of test clips, spread evenly over the video."""
    if clip.sampling == "segments":
        return center_segments(num_frames, clip.frames, clips)
    step = compute_step(fps, clip.stride, clip.fps)
    starts = space_starts(num_frames, compute_span(clip.frames, step), clips)
    return compute_clip_indices(starts, clip.frames, step, num_frames, clip.short)


def sample_view_clips(num_frames, fps, clip, views):
    """Return index_KT of the clips that a config.ViewsConfig asks for."""
    if views.clips != "all" and views.starts == "uniform":
        return sample_uniform_clips(num_frames, fps, clip, views.clips)
    step = compute_step(fps, clip.stride, clip.fps)
    if views.clips == "all":
        starts = _tile_starts(num_frames, clip.frames, step)
    else:
        starts = _space_dense_starts(num_frames, clip.frames, step, views.clips)
    return compute_clip_indices(starts, clip.frames, step, num_frames, clip.short)


# Dense


def compute_step(fps: float | None, stride: int = 1, target_fps: float | None = None) -> float:
    """Return the distance of a clip's frames: the stride, or fps / target_fps."""
    return stride if target_fps is None or fps is None else fps / target_fps


def compute_span(frames: int, step: float) -> int:
    """Return the distance from a clip's first frame to its last, plus one."""
    return int(np.floor((frames - 1) * step + 0.5)) + 1


def draw_starts(num_frames, span, clips, rng):
    """Draw `clips` independent starts, uniform over all places where the clip fits.

    They are 0 for a video shorter than the clip.
    """
    return rng.integers(0, max(num_frames - span, 0), size=clips, endpoint=True)


def space_starts(num_frames, span, clips):
    """Return evenly spaced starts, from the video's first frame to its last clip.

    A single clip is central.

    The set is its own mirror image (start s goes to last - s), so that a video and its reversal are seen alike; only
    the middle clip of an odd number cannot be where `last` is odd.
    """
    last = max(num_frames - span, 0)
    k = np.arange((clips + 1) // 2)
    first_half = (2 * last * k + clips - 1) // (2 * (clips - 1)) if clips > 1 else k
    if clips % 2:
        first_half[-1] = last // 2
    return np.concatenate([first_half, last - first_half[: clips // 2][::-1]])


def _tile_starts(num_frames, frames, step):
    """Return starts of clips that follow each other and cover the whole video.

    Each clip spans `frames` x `step` frames.

    The last one of a video that they do not divide is moved back to end with the video, and overlaps the one before.
    """
    last, length = max(num_frames - compute_span(frames, step), 0), count_source_frames(frames, step)
    starts = np.arange(0, last + 1, length)
    return np.append(starts, last) if starts[-1] + length < num_frames and starts[-1] < last else starts


def _space_dense_starts(num_frames, frames, step, clips):
    """Return evenly spaced starts, rounded down, from the first frame on.

    The last leaves room for `frames` x `step` frames; in a shorter video all starts are 0.

    Source: the dense test sampling of TSM's authors (github.com/mit-han-lab/temporal-shift-module, ops/dataset.py):
    10 clips of 8 frames, 8 apart.
    """
    return np.linspace(0, max(num_frames - count_source_frames(frames, step), 0), clips, dtype=int)


def count_source_frames(frames: int, step: float) -> int:
    """Count the frames of the video per clip, where clips follow each other evenly."""
    return max(1, int(np.floor(frames * step + 0.5)))


def compute_clip_indices(
    starts: ArrayLike, frames: int, step: float, num_frames: int, short: str = "loop"
) -> np.ndarray:
    """Return index_KT of the clips that begin at `starts`.

    Past the end a short video loops or shows its last frame.
    """
    offsets = np.floor(np.arange(frames) * step + 0.5).astype(int)
    index_KT = np.asarray(starts)[:, None] + offsets
    return index_KT % num_frames if short == "loop" else np.minimum(index_KT, num_frames - 1)


# Segments (temporal segment networks: Wang et al. 2016, arXiv:1608.00859, section 3.1)


def draw_segments(num_frames, frames, rng):
    """Return index_T: the frame at a random moment of each of `frames` parts.

    A moment, and not one of the part's whole frames: so parts need not be a whole number of frames, a video shorter
    than the clip repeats its frames evenly, and a reversed video is drawn alike.
    """
    moment_T = (np.arange(frames) + rng.random(frames)) * num_frames / frames
    return np.minimum(moment_T.astype(int), num_frames - 1)


def center_segments(num_frames: int, frames: int, clips: int) -> np.ndarray:
    """Return index_KT: the frames at the centers of `frames` equal parts of the video.

    With K clips they are at K evenly shifted moments of each part.

    The moments are (t + (k + 1/2) / K) / T of the video. A moment between two frames shows the one nearer to the
    video's middle, so that the set is its own mirror image; only a moment in the very middle cannot be.
    """
    moments = frames * clips
    twice = 2 * (np.arange(frames) * clips + np.arange(clips)[:, None]) + 1  # moment = twice / (2 * moments)
    late = twice > moments
    return (num_frames * twice - late) // (2 * moments)
