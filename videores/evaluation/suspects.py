"""Rank videos by how little their label fits to scores of networks that did not train on them.

Source: the label quality scores of Northcutt, Jiang & Chuang 2021, Confident Learning, arXiv:1911.00068.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from videores.errors import UserError
from videores.evaluation.fusion import fuse_views, to_probabilities
from videores.evaluation.predictions import Predictions, check_same_classes

RANKINGS = ("self_confidence", "margin")


class Suspect(NamedTuple):
    """A video, its label, and the class that is likeliest apart from the label."""

    video: str
    label: str
    other: str
    self_confidence: float  # probability of the label
    margin: float  # (that - probability of the other class + 1) / 2: below 0.5 the other is likelier
    runs: int  # that scored the video; the probabilities are means over them


def rank_labels(predictions: Sequence[Predictions], fusion: str, by: str = "self_confidence") -> list[Suspect]:
    """Return the scored videos of all runs, those whose label is least likely first.

    The runs are folds, with test videos of their own, or have scored the same videos. `by` is one of RANKINGS.

    Raises:
        UserError: if runs have other classes or labels of a video, or there is one class.
    """
    classes, first = predictions[0].classes.tolist(), predictions[0]
    if len(classes) < 2:
        raise UserError(f"{first.path}: --suspects needs at least two classes")
    p_of: dict[str, list[np.ndarray]] = {}
    label_of: dict[str, int] = {}
    for p in predictions:
        check_same_classes(f"{first.path} and {p.path}", classes, p.classes.tolist())
        p_VN = to_probabilities(fuse_views(p.logits, fusion, p.views_V), fusion)
        for video, label, p_N in zip(p.video.tolist(), p.label.tolist(), p_VN, strict=True):
            if label_of.setdefault(video, label) != label:
                names = f"{classes[label_of[video]]} and {classes[label]}"
                raise UserError(f"{p.path}: {video} has two labels in these runs, {names}: take runs of one list")
            if not np.isnan(p_N).any():
                p_of.setdefault(video, []).append(p_N)
    rows = [_judge(video, label_of[video], p_RN, classes) for video, p_RN in p_of.items()]
    return sorted(rows, key=lambda row: (getattr(row, by), row.margin, row.video))


def _judge(video, label, p_RN, classes):
    p_N = np.mean(p_RN, 0)
    others_N = np.where(np.arange(len(classes)) == label, -1, p_N)
    other, confidence = int(others_N.argmax()), float(p_N[label])
    margin = (confidence - float(others_N[other]) + 1) / 2
    return Suspect(video, classes[label], classes[other], confidence, margin, len(p_RN))
