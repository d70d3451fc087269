"""Compute metrics from scores: top-k accuracy, mean class accuracy, calibration, intervals."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from videores.evaluation.auc import bootstrap_auc, compute_auc
from videores.evaluation.fusion import (
    VIDEOS_PER_BLOCK,
    count_all_views,
    fuse_views,
    softmax,
    split_into_blocks,
    to_probabilities,
)

RESAMPLES = 2000
BINS = 15  # of the calibration error
WORST_MISTAKES = 20  # that metrics.json names


# One number each


def is_in_top_k(scores_XN: np.ndarray, label_X: np.ndarray, k: int = 1) -> np.ndarray:
    """Return bool_X: the right class is among the k best; ties and NaN count as wrong."""
    label_X = np.asarray(label_X)
    right_X1 = np.take_along_axis(scores_XN, label_X[:, None], axis=1)
    others_above = (scores_XN >= right_X1).sum(1) - 1  # the right class equals itself
    return (others_above < k) & ~np.isnan(scores_XN).any(1)


def _predict_classes(scores_XN: np.ndarray, label_X: np.ndarray) -> np.ndarray:
    """Return class_X: the best class, -1 without scores.

    A tie with the right class is predicted as the other class, as in `is_in_top_k`.
    """
    label_X = np.asarray(label_X)
    others_XN = np.array(scores_XN)
    np.put_along_axis(others_XN, label_X[:, None], -np.inf, axis=1)
    predicted_X = np.where(is_in_top_k(scores_XN, label_X), label_X, others_XN.argmax(1))
    return np.where(np.isnan(scores_XN).any(1), -1, predicted_X)


def _list_views(
    logits_VKN: np.ndarray, label_V: np.ndarray, views_V: ArrayLike | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (logits_XN, label_X) of the views that there are, by blocks of videos."""
    views_V, label_V = count_all_views(logits_VKN) if views_V is None else np.asarray(views_V), np.asarray(label_V)
    for block in split_into_blocks(len(logits_VKN)):
        is_view_VK = np.arange(logits_VKN.shape[1]) < views_V[block, None]
        yield logits_VKN[block][is_view_VK], np.repeat(label_V[block], views_V[block])


def compute_cross_entropy(logits_VKN: np.ndarray, label_V: np.ndarray, views_V: ArrayLike | None = None) -> float:
    """Return the mean negative log-likelihood of the clips."""
    total, count = 0.0, 0
    for logits_XN, label_X in _list_views(logits_VKN, label_V, views_V):
        p_XN = softmax(np.asarray(logits_XN, dtype=np.float64))
        total -= np.log(p_XN[np.arange(len(label_X)), label_X]).sum()
        count += len(label_X)
    return float(total / count)


def compute_nll(p_VN: np.ndarray, label_V: np.ndarray) -> float | None:
    """Return the mean negative log-likelihood of the videos that have scores.

    It is None where it is infinite or no video has scores.
    """
    scored_V = ~np.isnan(p_VN).any(1)
    with np.errstate(divide="ignore"):
        loss = -np.log(p_VN[scored_V, np.asarray(label_V)[scored_V]])
    return float(loss.mean()) if len(loss) and np.isfinite(loss).all() else None


def compute_calibration_error(p_VN: np.ndarray, right_V: np.ndarray) -> float | None:
    """Return the expected calibration error (0-1), None without scores.

    It is over the videos that have scores, in 15 bins of equal width.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3: the mean over videos of |accuracy - confidence| of their bin.
    """
    scored_V = ~np.isnan(p_VN).any(1)
    if not scored_V.any():
        return None
    confidence = p_VN[scored_V].max(1)
    bin_of = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    excess = np.bincount(bin_of, weights=confidence - np.asarray(right_V)[scored_V])
    return float(np.abs(excess).sum() / len(confidence))


def _compute_class_accuracies(right_V: np.ndarray, label_V: np.ndarray, classes: int) -> list[float | None]:
    """Return the accuracy of each class in per cent, None for a class without videos."""
    count_N, right_N = np.bincount(label_V, minlength=classes), np.bincount(label_V, weights=right_V, minlength=classes)
    return [100 * float(right / count) if count else None for right, count in zip(right_N, count_N, strict=True)]


def compute_macro_f1(predicted_V: np.ndarray, label_V: np.ndarray, classes: int) -> float:
    """Return macro F1 in per cent: the mean of 2 TP / (predicted + true).

    It is over the classes that are predicted or true; a prediction of -1 is none.
    """
    predicted_V, label_V = np.asarray(predicted_V), np.asarray(label_V)
    right_N = np.bincount(label_V[predicted_V == label_V], minlength=classes)
    sum_N = np.bincount(predicted_V[predicted_V >= 0], minlength=classes) + np.bincount(label_V, minlength=classes)
    return 100 * float((2 * right_N[sum_N > 0] / sum_N[sum_N > 0]).mean())


def count_confusions(scores_VN: np.ndarray, label_V: np.ndarray) -> np.ndarray:
    """Return counts_NN[true, predicted], without the videos that have no scores."""
    predicted_V, label_V = _predict_classes(scores_VN, label_V), np.asarray(label_V)
    counts_NN = np.zeros((scores_VN.shape[1],) * 2, dtype=int)
    np.add.at(counts_NN, (label_V[predicted_V >= 0], predicted_V[predicted_V >= 0]), 1)
    return counts_NN


def to_percent(right: np.ndarray) -> float:
    """Return the mean in per cent."""
    return 100 * float(np.mean(right))


# The interval


def bootstrap_interval(right_V: np.ndarray, group_V: ArrayLike | None = None, seed: int = 0) -> list:
    """Return the 95 % percentile interval [low, high] of the accuracy in per cent.

    The bootstrap resamples videos, or groups if there are any. Videos of one group (one scene, one source video) are
    right or wrong together, so they carry less information than as many independent ones.

    Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, sections 2.4 and 3.8.
    """
    right_V = np.asarray(right_V)
    cluster_V = group_indices(group_V, len(right_V))
    right_G, size_G = np.bincount(cluster_V, weights=right_V), np.bincount(cluster_V)
    rng, accuracies = np.random.default_rng(seed), []
    for _ in range(0, RESAMPLES, VIDEOS_PER_BLOCK):
        picks = rng.integers(0, len(size_G), (VIDEOS_PER_BLOCK, len(size_G)))
        accuracies.append(100 * right_G[picks].sum(1) / size_G[picks].sum(1))
    return [float(q) for q in np.percentile(np.concatenate(accuracies)[:RESAMPLES], [2.5, 97.5])]


def group_indices(group_V: ArrayLike | None, videos: int) -> np.ndarray:
    """Return the number of each video's group; a video without a group is its own.

    Where all videos share one group, each counts alone: one group gives no interval.
    """
    if group_V is None:
        return np.arange(videos)
    names = [(group, None if group else number) for number, group in enumerate(np.asarray(group_V).tolist())]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names]) if len(numbers) > 1 else np.arange(videos)


def name_resampled_unit(group_V: ArrayLike | None, videos: int) -> str:
    """Return what `bootstrap_interval` resamples: "groups" or "videos"."""
    return "groups" if group_indices(group_V, videos).max() + 1 < videos else "videos"


# All together


def _compute_accuracies(
    logits_VKN: np.ndarray, scores_VN: np.ndarray, label_V: np.ndarray, views_V: ArrayLike | None = None
) -> dict[str, float | None]:
    """Return clip and video accuracy in per cent; top-5 is None below 6 classes."""
    five = scores_VN.shape[1] > 5
    clip_hits = lambda k: [is_in_top_k(x, y, k) for x, y in _list_views(logits_VKN, label_V, views_V)]
    return {
        "clip_top1": to_percent(np.concatenate(clip_hits(1))),
        "clip_top5": to_percent(np.concatenate(clip_hits(5))) if five else None,
        "video_top1": to_percent(is_in_top_k(scores_VN, label_V)),
        "video_top5": to_percent(is_in_top_k(scores_VN, label_V, 5)) if five else None,
    }


def compute_validation_metrics(
    logits_VKN: np.ndarray, label_V: np.ndarray, fusion: str, views_V: ArrayLike | None = None
) -> dict[str, float | None]:
    """Return the metrics of a validation: {"loss", "clip_top1", "video_top1"}."""
    accuracies = _compute_accuracies(logits_VKN, fuse_views(logits_VKN, fusion, views_V), label_V, views_V)
    loss = compute_cross_entropy(logits_VKN, label_V, views_V)
    return {"loss": loss, "clip_top1": accuracies["clip_top1"], "video_top1": accuracies["video_top1"]}


def compute_metrics(
    logits_VKN: np.ndarray,
    label_V: np.ndarray,
    fusion: str,
    group_V: ArrayLike | None = None,
    views_V: ArrayLike | None = None,
) -> dict[str, Any]:
    """Return the metrics of metrics.json: clip accuracies, and what fused scores give.

    docs/guide/evaluation.md defines each. `group_V` are names of groups for the interval, `views_V` the number of views
    of each video where not all have K.
    """
    scores_VN = fuse_views(logits_VKN, fusion, views_V)
    return {
        **_compute_accuracies(logits_VKN, scores_VN, label_V, views_V),
        **_compute_video_metrics(scores_VN, label_V, fusion, group_V),
    }


def _compute_video_metrics(scores_VN, label_V, fusion, group_V):
    classes, label_V = scores_VN.shape[1], np.asarray(label_V)
    right_V, p_VN = is_in_top_k(scores_VN, label_V), to_probabilities(scores_VN, fusion)
    per_class = _compute_class_accuracies(right_V, label_V, classes)
    mean_class = float(np.mean([accuracy for accuracy in per_class if accuracy is not None]))
    return {
        "mean_class_top1": mean_class,
        "ci95_video_top1": bootstrap_interval(right_V, group_V),
        "ci95_over": name_resampled_unit(group_V, len(label_V)),
        "uar": mean_class,  # the same number under its name in other fields
        "auc": compute_auc(p_VN, label_V),
        "ci95_auc": bootstrap_auc(p_VN, label_V, group_indices(group_V, len(label_V)), RESAMPLES),
        "macro_f1": compute_macro_f1(_predict_classes(scores_VN, label_V), label_V, classes),
        "nll": compute_nll(p_VN, label_V),
        "ece": compute_calibration_error(p_VN, right_V),
        "per_class_top1": per_class,
        "confusion": count_confusions(scores_VN, label_V).tolist(),
    }


def find_worst_mistakes(
    scores_VN: np.ndarray, label_V: np.ndarray, fusion: str, most: int | None = None
) -> list[tuple[int, int, float]]:
    """Return all or `most` mistakes: [(video, predicted class, probability)].

    The surest come first.
    """
    p_VN, predicted_V = to_probabilities(scores_VN, fusion), _predict_classes(scores_VN, label_V)
    wrong = np.flatnonzero((predicted_V >= 0) & (predicted_V != np.asarray(label_V)))
    confidence = p_VN[wrong, predicted_V[wrong]]
    order = np.argsort(-confidence, kind="stable")[:most]
    return [(int(wrong[i]), int(predicted_V[wrong[i]]), float(confidence[i])) for i in order]
