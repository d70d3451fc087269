"""Estimate means and differences with their error over seeds and groups of test videos together.

S seeds, V videos, G groups of videos, B resampled test lists. docs/ablations/rule.md has the formulae.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

LEVEL = 0.04  # of every one-sided test, so that the false ones stay below 5 % also where spreads are not normal
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A mean over seeds, its standard error, and the part of that which more seeds do not lower."""

    value: float
    error: float
    seeds: int
    group_error: float = 0.0

    def compute_limits(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the one-sided lower and upper limit, by Student's t with S - 1 degrees of freedom."""
        reach = compute_t_quantile(1 - level, self.seeds - 1) * self.error
        return self.value - reach, self.value + reach

    def scale_to_seeds(self, seeds: int) -> "Estimate":
        """Return what would be estimated from another number of seeds that differ as much."""
        over_seeds = (self.error**2 - self.group_error**2) * self.seeds / seeds
        return self._replace(error=math.sqrt(over_seeds + self.group_error**2), seeds=seeds)


def estimate_mean(value_S: np.ndarray, replicate_SB: np.ndarray | None = None, groups: int | None = None) -> Estimate:
    """Estimate a mean over seeds, of values or of differences paired by seed.

    The error is that of the bootstrap which resamples seeds and groups independently. Its part over seeds is computed
    exactly for each resampled test list, with S - 1 in place of S. `replicate_SB` are the values on the test lists of
    `resample_accuracies`, with which it comes with the number of `groups`; without them the error is over seeds alone.

    Source: Owen 2007, The pigeonhole bootstrap, doi:10.1214/07-AOAS122; Owen and Eckles 2012, arXiv:1106.2125.
    """
    value_S = np.asarray(value_S, dtype=float)
    replicate_SB = value_S[:, None] if replicate_SB is None else replicate_SB
    over_seeds = replicate_SB.var(axis=0, ddof=1).mean() / len(value_S)
    over_groups = replicate_SB.mean(axis=0).var()
    if groups:
        over_groups = max(over_groups, (100 / groups) ** 2)  # where all groups agree, the next one need not
    return Estimate(float(value_S.mean()), math.sqrt(over_seeds + over_groups), len(value_S), math.sqrt(over_groups))


def resample_accuracies(right_SV: np.ndarray, group_V: np.ndarray) -> np.ndarray:
    """Return accuracy_SB in per cent, on B test lists of resampled groups.

    `group_V` numbers the groups from 0 on. Equal groups give equal lists, so that rows can be compared on each.
    """
    size_G = np.bincount(group_V)
    right_SG = np.stack([np.bincount(group_V, weights=right_V) for right_V in right_SV])
    count_GB = draw_groups(len(size_G)).T
    return 100 * (right_SG @ count_GB) / (size_G @ count_GB)


@functools.cache
def draw_groups(groups: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Return count_BG: how often each group is drawn, from a fixed seed."""
    return np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), resamples).astype(np.float32)


@functools.cache
def compute_t_quantile(probability: float, degrees: int) -> float:
    """Return a quantile above one half of Student's t, by bisection of its finite sum.

    Source: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2  # t is sqrt(degrees) * tan(angle)
    for _ in range(200):
        angle = (low + high) / 2
        low, high = (angle, high) if 0.5 + _compute_half_mass(angle, degrees) / 2 < probability else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def _compute_half_mass(angle, degrees):
    """Return the probability that |t| is below sqrt(degrees) * tan(angle)."""
    term, total = (1.0, 1.0) if degrees % 2 == 0 else (math.cos(angle), math.cos(angle))
    for k in range(2 + degrees % 2, degrees - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    if degrees % 2 == 0:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + math.sin(angle) * total * (degrees > 1))
