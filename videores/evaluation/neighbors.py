"""Judge features by their nearest neighbors, exactly, and never by a video of the same group.

The similarity is the cosine. V videos that are asked, R videos of the gallery, D features, K neighbors, N classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from videores.errors import UserError
from videores.evaluation import metrics
from videores.evaluation.fusion import split_into_blocks

TEMPERATURE = 0.07  # of the votes
RANKS = (1, 5, 10)  # of retrieval


class VideoSet(NamedTuple):
    """Videos with their features; a row of NaN is a video that did not decode."""

    video: Sequence[str]
    label_V: np.ndarray
    group: Sequence[str]  # "" without one
    features_VD: np.ndarray

    @property
    def scenes(self) -> np.ndarray:
        """Return what no neighbor may share with a video: its group, or without one itself."""
        return np.array([group or f"\0{video}" for video, group in zip(self.video, self.group, strict=True)])


class Neighbors(NamedTuple):
    """The neighbors of each video, the most similar first."""

    place_VK: np.ndarray  # in the gallery; -1 where there is none
    cosine_VK: np.ndarray


def normalize_features(features_VD: np.ndarray) -> np.ndarray:
    """Return float64 features of length 1; features that are all 0 stay so."""
    features_VD = np.asarray(features_VD, dtype=np.float64)
    return features_VD / np.maximum(np.linalg.norm(features_VD, axis=1, keepdims=True), np.finfo(float).tiny)


def find_neighbors(asked: VideoSet, gallery: VideoSet, most: int) -> Neighbors:
    """Return at most `most` neighbors of each video, which share no group with it.

    Of equally similar ones the first of the gallery comes first. The gallery may be the asked videos themselves. Raises
    UserError where a video has no neighbor of another group.
    """
    scenes = {*asked.scenes.tolist(), *gallery.scenes.tolist()}
    if len(scenes) == 1 or not len(gallery.video):
        known = f"only {scenes.pop()!r}" if len(gallery.video) else "no video"
        raise UserError(
            f"a neighbor search must have videos of at least two groups, got {known}: one of the same group shows the "
            "same scene; take another gallery, or lists with more groups"
        )
    asked_VD, gallery_RD = normalize_features(asked.features_VD), normalize_features(gallery.features_VD)
    scenes_R, places, cosines = gallery.scenes, [], []
    for block in split_into_blocks(len(asked_VD)):
        cosine_VR = asked_VD[block] @ gallery_RD.T
        cosine_VR[asked.scenes[block, None] == scenes_R] = -np.inf
        cosine_VR[np.isnan(cosine_VR)] = -np.inf
        place_VK = np.argsort(-cosine_VR, axis=1, kind="stable")[:, :most]
        cosines.append(np.take_along_axis(cosine_VR, place_VK, axis=1))
        places.append(np.where(np.isfinite(cosines[-1]), place_VK, -1))
    found = Neighbors(np.concatenate(places), np.concatenate(cosines))
    alone_V = (found.place_VK[:, 0] < 0) & ~np.isnan(asked_VD).any(1)
    if alone_V.any():
        raise UserError(
            f"a neighbor search must have a video of another group for each video, and {asked.video[alone_V.argmax()]} "
            "has none: take another gallery, or lists with more groups"
        )
    return found


def vote(found: Neighbors, label_R: np.ndarray, classes: int) -> np.ndarray:
    """Return votes_VN of the neighbors, NaN for a video without any.

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4: each neighbor has the weight exp(cosine / 0.07).
    """
    weight_VK = np.exp(found.cosine_VK / TEMPERATURE)
    votes_VN = np.zeros((len(weight_VK), classes))
    np.add.at(votes_VN, (np.arange(len(weight_VK))[:, None], label_R[found.place_VK]), weight_VK)
    votes_VN[found.place_VK[:, 0] < 0] = np.nan
    return votes_VN


def judge_votes(asked: VideoSet, gallery: VideoSet, classes: int, most: int) -> dict[str, Any]:
    """Return the accuracy of the vote of `most` neighbors.

    A video that did not decode is wrong.
    """
    votes_VN = vote(find_neighbors(asked, gallery, most), gallery.label_V, classes)
    return summarize(metrics.is_in_top_k(votes_VN, asked.label_V), asked.group)


def judge_retrieval(asked: VideoSet, gallery: VideoSet) -> dict[str, Any]:
    """Return {"R@1", "R@5", "R@10"}: whether one of the k nearest is of the class."""
    place_VK = find_neighbors(asked, gallery, max(RANKS)).place_VK
    same_VK = (gallery.label_V[place_VK] == asked.label_V[:, None]) & (place_VK >= 0)
    return {f"R@{k}": summarize(same_VK[:, :k].any(1), asked.group) for k in RANKS}


def summarize(right_V: np.ndarray, group: Sequence[str]) -> dict[str, Any]:
    """Return {"top1", "ci95"} in per cent of videos that are right or not."""
    return {"top1": metrics.to_percent(right_V), "ci95": metrics.bootstrap_interval(right_V, group)}
