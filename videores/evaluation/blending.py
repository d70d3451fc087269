"""Weigh the losses of several streams by how they generalize and overfit: Gradient-Blending.

Source: Wang et al. 2020, "What makes training multi-modal classification networks hard?", arXiv:1905.12681, section 3
and algorithm 1.
"""

from collections.abc import Mapping
from typing import NamedTuple

from videores.errors import UserError

MIN_OVERFITTING = 0.01  # in nats: less is noise of few videos, and would take all of the weight


class Losses(NamedTuple):
    """Cross-entropy of a classifier on training and on validation videos."""

    train: float
    val: float


class Blend(NamedTuple):
    """What a classifier learned between two measurements, and the weight that follows."""

    generalization: float  # G: how much the loss on validation videos fell
    overfitting: float  # O: how much the difference between the two losses grew
    weight: float

    @property
    def ratio(self) -> float | None:
        """Return the overfitting-to-generalization ratio, None where nothing was learned."""
        return abs(self.overfitting / self.generalization) if self.generalization else None


def compute_blend(start: Losses, ends: Mapping[str, Losses]) -> dict[str, Blend]:
    """Return what each classifier learned since the start, and its weight.

    The weight is G / O^2, so that the weights have the sum 1. One that did not generalize has the weight 0. Raises
    UserError where that are all.
    """
    found = {
        name: (start.val - end.val, (end.val - end.train) - (start.val - start.train)) for name, end in ends.items()
    }
    raw = {name: max(gain, 0.0) / max(abs(over), MIN_OVERFITTING) ** 2 for name, (gain, over) in found.items()}
    total = sum(raw.values())
    if not total:
        raise UserError("no classifier has a lower loss on validation videos than at the start: train them longer")
    return {name: Blend(*found[name], raw[name] / total) for name in found}
