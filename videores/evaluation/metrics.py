"""Metrics from scores: top-k accuracy, mean class accuracy, calibration, intervals."""

import numpy as np

from videores.evaluation.fusion import (
    VIDEOS_PER_BLOCK,
    all_views_mask,
    fuse_views,
    softmax,
    split_into_blocks,
    to_probabilities,
)

RESAMPLES = 2000
BINS = 15  # of the calibration error


# One number each


def is_in_top_k(scores_XN, label_X, k=1):
    """bool_X: whether the right class is among the k best."""
    label_X = np.asarray(label_X)
    right_X1 = np.take_along_axis(scores_XN, label_X[:, None], axis=1)
    others_above = (scores_XN >= right_X1).sum(1) - 1  # the right class equals itself
    return (others_above < k) & ~np.isnan(scores_XN).any(1)


def predict_classes(scores_XN, label_X):
    """class_X: the best class, but the other one where the right one ties with it, as in `hits`; -1 without scores."""
    label_X = np.asarray(label_X)
    others_XN = np.array(scores_XN)
    np.put_along_axis(others_XN, label_X[:, None], -np.inf, axis=1)
    chosen_X = np.where(is_in_top_k(scores_XN, label_X), label_X, others_XN.argmax(1))
    return np.where(np.isnan(scores_XN).any(1), -1, chosen_X)


def count_clip_hits(logits_VKN, label_V, k=1, views_V=None):
    """bool: whether the right class is among the k best of each view of each video, one after the other."""
    views_V = all_views_mask(logits_VKN) if views_V is None else np.asarray(views_V)
    found = []
    for part in split_into_blocks(len(logits_VKN)):
        there_VK = np.arange(logits_VKN.shape[1]) < views_V[part, None]
        found.append(is_in_top_k(logits_VKN[part][there_VK], np.repeat(np.asarray(label_V)[part], views_V[part]), k))
    return np.concatenate(found)


def compute_cross_entropy(logits_VKN, label_V, views_V=None):
    """Mean negative log-likelihood of the clips."""
    views_V = all_views_mask(logits_VKN) if views_V is None else np.asarray(views_V)
    total = 0.0
    for part in split_into_blocks(len(logits_VKN)):
        there_VK = np.arange(logits_VKN.shape[1]) < views_V[part, None]
        powers_XN = softmax(np.asarray(logits_VKN[part][there_VK], dtype=np.float64))
        label_X = np.repeat(np.asarray(label_V)[part], views_V[part])
        total -= np.log(powers_XN[np.arange(len(label_X)), label_X]).sum()
    return float(total / views_V.sum())


def compute_nll(p_VN, label_V):
    """Mean negative log-likelihood of the videos that have scores; None where it is infinite, or there are none."""
    scored_V = ~np.isnan(p_VN).any(1)
    with np.errstate(divide="ignore"):
        loss = -np.log(p_VN[scored_V, np.asarray(label_V)[scored_V]])
    return float(loss.mean()) if len(loss) and np.isfinite(loss).all() else None


def compute_calibration_error(p_VN, right_V):
    """Expected calibration error over the videos that have scores, 0-1, in 15 bins of equal width.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3: the mean over videos of |accuracy - confidence| of their bin.
    """
    scored_V = ~np.isnan(p_VN).any(1)
    if not scored_V.any():
        return None
    confidence = p_VN[scored_V].max(1)
    bin_of = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    excess = np.bincount(bin_of, weights=confidence - np.asarray(right_V)[scored_V])
    return float(np.abs(excess).sum() / len(confidence))


def compute_class_accuracies(right_V, label_V, classes):
    """In per cent, None for a class without videos."""
    count_N, right_N = np.bincount(label_V, minlength=classes), np.bincount(label_V, weights=right_V, minlength=classes)
    return [100 * float(right / count) if count else None for right, count in zip(right_N, count_N, strict=True)]


def compute_macro_f1(chosen_V, label_V, classes):
    """Mean of 2 TP / (predicted + true) in per cent, over the classes that are either; -1 is no prediction."""
    chosen_V, label_V = np.asarray(chosen_V), np.asarray(label_V)
    right_N = np.bincount(label_V[chosen_V == label_V], minlength=classes)
    sum_N = np.bincount(chosen_V[chosen_V >= 0], minlength=classes) + np.bincount(label_V, minlength=classes)
    return 100 * float((2 * right_N[sum_N > 0] / sum_N[sum_N > 0]).mean())


def count_confusions(scores_VN, label_V):
    """counts_NN[true, predicted]; videos without scores are left out."""
    chosen_V, label_V = predict_classes(scores_VN, label_V), np.asarray(label_V)
    counts_NN = np.zeros((scores_VN.shape[1],) * 2, dtype=int)
    np.add.at(counts_NN, (label_V[chosen_V >= 0], chosen_V[chosen_V >= 0]), 1)
    return counts_NN


def to_percent(right):
    return 100 * float(np.mean(right))


# The interval


def bootstrap_interval(right_V, group_V=None, seed=0):
    """95 % percentile interval of the accuracy in per cent, over resampled videos, or groups where there are some.

    Videos of one group (one scene, one source video) are right or wrong together, so that they say less than as many
    independent ones. Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, sections 2.4 and 3.8.
    """
    right_V = np.asarray(right_V)
    cluster_V = group_indices(group_V, len(right_V))
    right_G, size_G = np.bincount(cluster_V, weights=right_V), np.bincount(cluster_V)
    rng, accuracies = np.random.default_rng(seed), []
    for _ in range(0, RESAMPLES, VIDEOS_PER_BLOCK):
        picks = rng.integers(0, len(size_G), (VIDEOS_PER_BLOCK, len(size_G)))
        accuracies.append(100 * right_G[picks].sum(1) / size_G[picks].sum(1))
    return [float(q) for q in np.percentile(np.concatenate(accuracies)[:RESAMPLES], [2.5, 97.5])]


def group_indices(group_V, videos):
    """The number of each video's cluster: its group; a video without one is its own. One cluster says no interval, so
    then, too, each video is its own."""
    if group_V is None:
        return np.arange(videos)
    names = [(group, None if group else number) for number, group in enumerate(group_V)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names]) if len(numbers) > 1 else np.arange(videos)


# All together


def compute_accuracies(logits_VKN, scores_VN, label_V, views_V=None):
    """Clip and video accuracy in per cent; top-5 is None below 6 classes."""
    five = scores_VN.shape[1] > 5
    return {
        "clip_top1": to_percent(count_clip_hits(logits_VKN, label_V, 1, views_V)),
        "clip_top5": to_percent(count_clip_hits(logits_VKN, label_V, 5, views_V)) if five else None,
        "video_top1": to_percent(is_in_top_k(scores_VN, label_V)),
        "video_top5": to_percent(is_in_top_k(scores_VN, label_V, 5)) if five else None,
    }


def compute_validation_metrics(logits_VKN, label_V, fusion, views_V=None):
    """The numbers of a validation: {"loss", "clip_top1", "video_top1"}."""
    found = compute_accuracies(logits_VKN, fuse_views(logits_VKN, fusion, views_V), label_V, views_V)
    loss = compute_cross_entropy(logits_VKN, label_V, views_V)
    return {"loss": loss, "clip_top1": found["clip_top1"], "video_top1": found["video_top1"]}


def compute_metrics(logits_VKN, label_V, fusion, group_V=None, views_V=None):
    """The numbers of metrics.json (docs/evaluation.md says what each is): the accuracies, and what follows from
    the videos' fused scores."""
    scores_VN = fuse_views(logits_VKN, fusion, views_V)
    return {
        **compute_accuracies(logits_VKN, scores_VN, label_V, views_V),
        **compute_video_metrics(scores_VN, label_V, fusion, group_V),
    }


def compute_video_metrics(scores_VN, label_V, fusion, group_V=None):
    classes, label_V = scores_VN.shape[1], np.asarray(label_V)
    right_V, p_VN = is_in_top_k(scores_VN, label_V), to_probabilities(scores_VN, fusion)
    per_class = compute_class_accuracies(right_V, label_V, classes)
    clustered = group_indices(group_V, len(label_V))
    mean_class = float(np.mean([accuracy for accuracy in per_class if accuracy is not None]))
    return {
        "mean_class_top1": mean_class,
        "ci95_video_top1": bootstrap_interval(right_V, group_V),
        "ci95_over": "groups" if clustered.max() + 1 < len(label_V) else "videos",
        "uar": mean_class,  # the same number under its name in other fields
        "macro_f1": compute_macro_f1(predict_classes(scores_VN, label_V), label_V, classes),
        "nll": compute_nll(p_VN, label_V),
        "ece": compute_calibration_error(p_VN, right_V),
        "per_class_top1": per_class,
        "confusion": count_confusions(scores_VN, label_V).tolist(),
    }


def find_worst_mistakes(scores_VN, label_V, fusion, most=20):
    """[(video, predicted class, its probability), ...] of videos that are wrong with the highest confidence."""
    p_VN, chosen_V = to_probabilities(scores_VN, fusion), predict_classes(scores_VN, label_V)
    wrong = np.flatnonzero((chosen_V >= 0) & (chosen_V != np.asarray(label_V)))
    confidence = p_VN[wrong, chosen_V[wrong]]
    order = np.argsort(-confidence, kind="stable")[:most]
    return [(int(wrong[i]), int(chosen_V[wrong[i]]), float(confidence[i])) for i in order]
