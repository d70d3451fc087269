"""From the scores of a video's views to the scores of the video."""

import numpy as np

VIDEOS_PER_BLOCK = 64  # videos or resamples worked on at a time, so that memory does not grow with their number


# Fusion


def fuse_views(logits_VKN, fusion, views_V=None):
    """scores_VN of videos from their views, in float64.

    softmax-mean and logit-mean: the mean over views of the probabilities, or of the logits. max: the highest
    probability that any view gives to a class. vote: the share of the views that rank a class first; a view that ranks
    several first gives each an equal part. Equal scores count against the right class (`hits`).
    """
    videos, views, classes = logits_VKN.shape
    views_V = all_views_mask(logits_VKN) if views_V is None else np.asarray(views_V)
    scores_VN = np.empty((videos, classes))
    for part in split_into_blocks(videos):
        said_VKN = compute_view_scores(np.asarray(logits_VKN[part], dtype=np.float64), fusion)
        there_VK1 = (np.arange(views) < views_V[part, None])[..., None]
        if fusion == "max":
            scores_VN[part] = np.where(there_VK1, said_VKN, -np.inf).max(1)
        else:
            scores_VN[part] = np.where(there_VK1, said_VKN, 0).sum(1) / views_V[part, None]
    return scores_VN


def compute_view_scores(logits_VKN, fusion):
    """What each view contributes."""
    if fusion == "logit-mean":
        return logits_VKN
    if fusion == "vote":
        first = logits_VKN == logits_VKN.max(-1, keepdims=True)
        with np.errstate(invalid="ignore"):  # NaN where a logit is
            return first / first.sum(-1, keepdims=True)
    return softmax(logits_VKN)


def to_probabilities(scores_VN, fusion):
    """Fused scores as probabilities of the classes, for what needs them: likelihood, confidence."""
    return softmax(scores_VN) if fusion == "logit-mean" else scores_VN / scores_VN.sum(1, keepdims=True)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def all_views_mask(logits_VKN):
    return np.full(len(logits_VKN), logits_VKN.shape[1])


def split_into_blocks(count):
    return [slice(start, start + VIDEOS_PER_BLOCK) for start in range(0, count, VIDEOS_PER_BLOCK)]
