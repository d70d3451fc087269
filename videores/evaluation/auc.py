"""Compute the area under the ROC curve (AUC): one class against the others, mean over classes, with an interval.

It does not depend on how frequent the classes are, so that on imbalanced data it says what accuracy does not.
R resamples of V videos, G groups of equal scores.
"""

from collections.abc import Iterator

import numpy as np

from videores.evaluation.fusion import VIDEOS_PER_BLOCK

MAX_CLASSES = 20  # above it, the interval of a large test would take minutes


def compute_auc(p_VN: np.ndarray, label_V: np.ndarray) -> float | None:
    """Return the AUC (0-1), None for one class and above MAX_CLASSES.

    Of two classes it is that of the second; of more, the mean over the classes that are there, as MedMNIST's evaluator
    has it. Equal scores count half. A video without scores ranks last for its own class and first for the others.
    """
    if p_VN.shape[1] > MAX_CLASSES:
        return None
    auc = _compute_weighted_auc(p_VN, label_V, np.ones((1, len(p_VN))))[0]
    return None if np.isnan(auc) else float(auc)


def bootstrap_auc(
    p_VN: np.ndarray, label_V: np.ndarray, cluster_V: np.ndarray, resamples: int, seed: int = 0
) -> list[float] | None:
    """Return the 95 % percentile interval [low, high] of the AUC, None where that is.

    The bootstrap resamples the clusters of videos. Resamples of one class alone do not count.
    """
    if compute_auc(p_VN, label_V) is None:
        return None
    weights = _draw_weights(cluster_V, resamples, np.random.default_rng(seed))
    auc_R = np.concatenate([_compute_weighted_auc(p_VN, label_V, weight_RV) for weight_RV in weights])[:resamples]
    return None if np.isnan(auc_R).all() else [float(q) for q in np.nanpercentile(auc_R, [2.5, 97.5])]


def _draw_weights(cluster_V: np.ndarray, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield weight_RV by blocks: how often a video is in a resample of clusters."""
    clusters, rows = cluster_V.max() + 1, np.arange(VIDEOS_PER_BLOCK)[:, None]
    for _ in range(0, resamples, VIDEOS_PER_BLOCK):
        picks = rng.integers(0, clusters, (VIDEOS_PER_BLOCK, clusters)) + clusters * rows
        yield np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape)[:, cluster_V]


def _compute_weighted_auc(p_VN, label_V, weight_RV):
    """Return the mean AUC_R of the classes, NaN for a row of one class alone."""
    classes = [1] if p_VN.shape[1] == 2 else range(p_VN.shape[1])
    auc_NR = np.stack([_compute_class_auc(p_VN[:, n], np.asarray(label_V) == n, weight_RV) for n in classes])
    there_NR = ~np.isnan(auc_NR)
    with np.errstate(invalid="ignore"):
        return np.where(there_NR, auc_NR, 0).sum(0) / there_NR.sum(0)


def _compute_class_auc(score_V, positive_V, weight_RV):
    """Return AUC_R, the share of (positive, other) pairs that are in order."""
    score_V = np.where(np.isnan(score_V), np.where(positive_V, -np.inf, np.inf), score_V)
    order = np.argsort(score_V, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(np.unique(score_V, return_inverse=True)[1][order]) > 0))
    weight_RV, positive_V = weight_RV[:, order], positive_V[order]
    positive_RG = np.add.reduceat(weight_RV * positive_V, starts, axis=1)
    other_RG = np.add.reduceat(weight_RV * ~positive_V, starts, axis=1)
    lower_RG = other_RG.cumsum(1) - other_RG / 2  # others with lower scores, and half of those with equal ones
    pairs_R = positive_RG.sum(1) * other_RG.sum(1)
    with np.errstate(invalid="ignore"):
        return (positive_RG * lower_RG).sum(1) / np.where(pairs_R > 0, pairs_R, np.nan)
