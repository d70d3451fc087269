"""Logits to numbers. V videos, K views of each, N classes.

Clip accuracy is over the V x K views, video accuracy over the views' fused scores. A video without logits (its row is
NaN: it did not decode) counts as wrong. A class that ties with the right one counts as above it, so that a model which
says nothing scores nothing.
"""

import numpy as np
import torch
import torch.distributed as dist

RESAMPLES = 2000


def fuse(logits_VKN, fusion):
    """scores_VN: the mean over views of the probabilities, or of the logits, in float64."""
    logits_VKN = np.asarray(logits_VKN, dtype=np.float64)
    return (softmax(logits_VKN) if fusion == "softmax-mean" else logits_VKN).mean(1)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def hits(scores_XN, label_X, k=1):
    """bool_X: whether the right class is among the k best."""
    label_X = np.asarray(label_X)
    right_X1 = np.take_along_axis(scores_XN, label_X[:, None], axis=1)
    others_above = (scores_XN >= right_X1).sum(1) - 1  # the right class equals itself
    return (others_above < k) & ~np.isnan(scores_XN).any(1)


def metrics(logits_VKN, label_V, fusion):
    """The accuracies of metrics.json, in per cent; top-5 is None below 6 classes."""
    _, views, classes = logits_VKN.shape
    scores_VN = fuse(logits_VKN, fusion)
    clips, clip_labels = logits_VKN.reshape(-1, classes), np.repeat(label_V, views)
    right_V = hits(scores_VN, label_V)
    return {
        "clip_top1": percent(hits(clips, clip_labels)),
        "clip_top5": percent(hits(clips, clip_labels, 5)) if classes > 5 else None,
        "video_top1": percent(right_V),
        "video_top5": percent(hits(scores_VN, label_V, 5)) if classes > 5 else None,
        "mean_class_top1": 100 * float(np.mean([right_V[label_V == c].mean() for c in np.unique(label_V)])),
        "ci95_video_top1": bootstrap_interval(right_V),
    }


def cross_entropy(logits_VKN, label_V):
    """Mean negative log-likelihood of the clips."""
    powers = softmax(np.asarray(logits_VKN, dtype=np.float64))
    return float(-np.log(powers[np.arange(len(label_V)), :, label_V]).mean())


def percent(right):
    return 100 * float(np.mean(right))


def bootstrap_interval(right_V, seed=0):
    """95 % percentile interval of the accuracy over resampled videos, in per cent."""
    picks = np.random.default_rng(seed).integers(0, len(right_V), (RESAMPLES, len(right_V)))
    return [float(q) for q in np.percentile(100 * right_V[picks].mean(1), [2.5, 97.5])]


def confusion(scores_VN, label_V):
    """counts_NN[true, predicted]; videos without scores are left out."""
    scored = ~np.isnan(scores_VN).any(1)
    counts_NN = np.zeros((scores_VN.shape[1],) * 2, dtype=int)
    np.add.at(counts_NN, (np.asarray(label_V)[scored], scores_VN[scored].argmax(1)), 1)
    return counts_NN


class Scores:
    """Collects logits of videos, each exactly once over all processes, without a collective until the end."""

    def __init__(self, videos, views, classes):
        self.logits_VKN = torch.zeros(videos, views, classes)
        self.seen_V = torch.zeros(videos, dtype=torch.int32)

    def update(self, video_B, logits_BKN):
        video_B = torch.as_tensor(video_B).cpu()
        self.logits_VKN[video_B] = logits_BKN.float().cpu()
        self.seen_V += torch.bincount(video_B, minlength=len(self.seen_V)).int()

    def compute(self, device="cpu"):
        """logits_VKN as an array, equal on every rank. Raises RuntimeError unless each video was seen exactly once."""
        totals = [total.to(device) for total in (self.logits_VKN, self.seen_V)]
        if dist.is_available() and dist.is_initialized():
            for total in totals:  # all but one rank add zeros: the sum is exact
                dist.all_reduce(total)
        logits_VKN, seen_V = (total.cpu() for total in totals)
        wrong = (seen_V != 1).nonzero().flatten().tolist()
        if wrong:
            raise RuntimeError(
                f"{len(wrong)} videos were not scored exactly once, e.g. number {wrong[0]}: {seen_V[wrong[0]]} times"
            )
        return logits_VKN.numpy()
