"""Fit a linear probe: logistic regression from features to classes."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from videores.errors import UserError
from videores.evaluation import metrics
from videores.evaluation.neighbors import VideoSet, summarize

STEPS = 1000  # of L-BFGS at most; it ends before that


class LinearProbe(NamedTuple):
    """A linear classifier of features_VD."""

    weight_DN: np.ndarray
    bias_N: np.ndarray

    def score(self, features_VD: np.ndarray) -> np.ndarray:
        """Return logits_VN."""
        return np.asarray(features_VD, dtype=np.float64) @ self.weight_DN + self.bias_N


def fit_probe(features_RD: np.ndarray, label_R: np.ndarray, classes: int) -> LinearProbe:
    """Fit a linear probe to features, which are standardized.

    It minimizes the sum of the cross-entropies plus |weight|^2 / 2, scikit-learn's LogisticRegression with C=1. The
    minimum is the only one, so there is no seed. Raises UserError for labels of fewer than two classes.
    """
    if len(np.unique(label_R)) < 2:
        raise UserError(
            "a linear probe must have training videos of at least two classes, got "
            f"{len(np.unique(label_R))}: give --cfg data with labels"
        )
    x_RD, label = torch.from_numpy(features_RD).double(), torch.from_numpy(np.asarray(label_R)).long()
    mean_D, scale_D = x_RD.mean(0), x_RD.std(0, correction=0)
    scale_D = torch.where(scale_D > 1e-9 * mean_D.abs(), scale_D, 1)  # what does not vary may deviate by rounding
    x_RD = (x_RD - mean_D) / scale_D
    weight_DN = torch.zeros(x_RD.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias_N = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_DN, bias_N],
        max_iter=STEPS,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def compute_loss():
        optimizer.zero_grad()
        loss = F.cross_entropy(x_RD @ weight_DN + bias_N, label) + weight_DN.square().sum() / (2 * len(label))
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(compute_loss)
    weight_DN = weight_DN.detach() / scale_D[:, None]
    return LinearProbe(weight_DN.numpy(), (bias_N.detach() - mean_D @ weight_DN).numpy())


def judge_probe(asked: VideoSet, train: VideoSet, classes: int) -> dict[str, Any]:
    """Return the accuracy of a linear probe of training videos.

    A video that did not decode is wrong.
    """
    logits_VN = fit_probe(train.features_VD, train.label_V, classes).score(asked.features_VD)
    return summarize(metrics.is_in_top_k(logits_VN, asked.label_V), asked.group)
