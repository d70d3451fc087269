"""Fuse the scores of a video's views into scores of the video."""

import numpy as np
from numpy.typing import ArrayLike

VIDEOS_PER_BLOCK = 64  # videos or resamples worked on at a time, so that memory does not grow with their number


def fuse_views(logits_VKN: np.ndarray, fusion: str, views_V: ArrayLike | None = None) -> np.ndarray:
    """Return float64 scores_VN of videos from the logits of their views.

    softmax-mean and logit-mean: the mean over views of the probabilities, or of the logits. max: the highest
    probability that any view gives to a class. vote: the share of the views that rank a class first; a view that ranks
    several first gives each an equal part. `views_V` is the number of views of each video, by default K. Equal scores
    count against the right class (`metrics.is_in_top_k`).
    """
    videos, views, classes = logits_VKN.shape
    views_V = count_all_views(logits_VKN) if views_V is None else np.asarray(views_V)
    scores_VN = np.empty((videos, classes))
    for block in split_into_blocks(videos):
        view_scores_VKN = _compute_view_scores(np.asarray(logits_VKN[block], dtype=np.float64), fusion)
        is_view_VK1 = (np.arange(views) < views_V[block, None])[..., None]
        if fusion == "max":
            scores_VN[block] = np.where(is_view_VK1, view_scores_VKN, -np.inf).max(1)
        else:
            scores_VN[block] = np.where(is_view_VK1, view_scores_VKN, 0).sum(1) / views_V[block, None]
    return scores_VN


def _compute_view_scores(logits_VKN: np.ndarray, fusion: str) -> np.ndarray:
    if fusion == "logit-mean":
        return logits_VKN
    if fusion == "vote":
        first = logits_VKN == logits_VKN.max(-1, keepdims=True)
        with np.errstate(invalid="ignore"):  # NaN where a logit is
            return first / first.sum(-1, keepdims=True)
    return softmax(logits_VKN)


def to_probabilities(scores_VN: np.ndarray, fusion: str) -> np.ndarray:
    """Convert fused scores to class probabilities, for likelihood and confidence."""
    return softmax(scores_VN) if fusion == "logit-mean" else scores_VN / scores_VN.sum(1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def count_all_views(logits_VKN: np.ndarray) -> np.ndarray:
    return np.full(len(logits_VKN), logits_VKN.shape[1])


def split_into_blocks(count: int) -> list[slice]:
    return [slice(start, start + VIDEOS_PER_BLOCK) for start in range(0, count, VIDEOS_PER_BLOCK)]
