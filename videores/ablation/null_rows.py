"""Make rows that are equal, of the seeds of one row or by simulation, and compare them by the rule of assertions.

S seeds a row, C cells, P pairs of rows, B resampled test lists, G groups of test videos.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from videores.ablation import significance, tables
from videores.ablation.assertions import number_groups, read_answers
from videores.ablation.columns import read_values

MARGIN = 5  # points, of claims that rows are close
SIMULATIONS = 10_000
MOST_GROUPS = 3_000  # of seeds; of more, DRAWN_PAIRS pairs are drawn instead of all
DRAWN_PAIRS = 100_000
SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "two values": lambda rng, size: rng.choice([-1.0, 1.0], size),  # seeds that learn, and seeds that do not
}


class Nulls(NamedTuple):
    """Differences of equal rows, with their errors."""

    value_P: np.ndarray
    error_P: np.ndarray
    seeds: int

    def count_outcomes(self, difference: float = 0) -> tuple[float, float, float]:
        """Return the shares (%) that hold, fail and are within MARGIN, of rows that differ by `difference`."""
        reach_P = significance.compute_t_quantile(1 - significance.LEVEL, self.seeds - 1) * self.error_P
        value_P = self.value_P + difference
        count = lambda is_so_P: 100 * float(is_so_P.mean())
        return count(value_P > reach_P), count(value_P < -reach_P), count(abs(value_P) + reach_P < MARGIN)


def compare_seeds(cells: list[dict], seeds: int, column: str = "video") -> Nulls:
    """Compare all pairs of disjoint groups of seeds of one row, as if they were rows.

    Where there are more than MOST_GROUPS, DRAWN_PAIRS pairs are drawn. The estimates are those of `estimate_mean`, from
    the second moments of the cells over the resampled lists.
    """
    value_C = np.array([read_values(cell)[column] for cell in cells])
    right_CV, group_V = np.stack([read_answers(cell) for cell in cells]), number_groups(cells[0]["answers"])
    replicate_CB = significance.resample_accuracies(right_CV, group_V)
    if column == "gap":
        replicate_CB = np.array([read_values(cell)["train"] for cell in cells])[:, None] - replicate_CB
    tested = column != "train_loss"
    replicate_CB = replicate_CB if tested else value_C[:, None]
    pairs_P2S = _list_pairs(len(cells), seeds)
    parts = np.array_split(pairs_P2S, len(pairs_P2S) // 10**5 + 1)
    found = [_estimate_pairs(value_C, replicate_CB, part_P2S) for part_P2S in parts]
    value_P, seeds_P, lists_P = map(np.concatenate, zip(*found, strict=True))
    floor = (100 / (group_V.max() + 1)) ** 2 if tested else 0
    return Nulls(value_P, np.sqrt(seeds_P + np.maximum(lists_P, floor)), seeds)


def _list_pairs(cells, seeds):
    """Return pairs_P2S of disjoint groups of seeds."""
    if math.comb(cells, seeds) > MOST_GROUPS:
        rng = np.random.default_rng(0)
        return np.stack([rng.permutation(cells)[: 2 * seeds].reshape(2, seeds) for _ in range(DRAWN_PAIRS)])
    group_GS = np.array([*itertools.combinations(range(cells), seeds)])
    bits_G = (1 << group_GS).sum(1)
    one_P, other_P = np.triu_indices(len(group_GS), 1)
    disjoint_P = bits_G[one_P] & bits_G[other_P] == 0
    return np.stack([group_GS[one_P[disjoint_P]], group_GS[other_P[disjoint_P]]], axis=1)


def _estimate_pairs(value_C, replicate_CB, pairs_P2S):
    """Return differences, and their squared errors over seeds and over test lists."""
    seeds = pairs_P2S.shape[2]
    moment_CC = replicate_CB @ replicate_CB.T / replicate_CB.shape[1]
    square_C = moment_CC.diagonal()
    apart_CC = square_C[:, None] + square_C - 2 * moment_CC  # mean squared difference of two cells
    weight_PC = np.zeros((len(pairs_P2S), len(value_C)))
    np.put_along_axis(weight_PC, pairs_P2S[:, 0], 1 / seeds, axis=1)
    np.put_along_axis(weight_PC, pairs_P2S[:, 1], -1 / seeds, axis=1)
    square_P = ((weight_PC @ moment_CC) * weight_PC).sum(1)  # of the mean over seeds
    over_seeds_P = (apart_CC[pairs_P2S[:, 0], pairs_P2S[:, 1]].sum(1) - seeds * square_P) / (seeds - 1) / seeds
    return weight_PC @ value_C, over_seeds_P, square_P - (weight_PC @ replicate_CB.mean(1)) ** 2


def list_row_pairs(committed: dict[str, list[dict]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of accuracy_SG of rows with the same table, videos and seeds."""
    pairs = []
    for cells in committed.values():
        rows: dict[tuple[str, str], list[np.ndarray]] = {}
        for cell in tables.select_done(cells):
            if "answers" in cell:
                rows.setdefault((cell["answers"]["list"], cell["row"]), []).append(_count_right(cell))
        for (one, ours), (other, theirs) in itertools.combinations(rows.items(), 2):
            if one[0] == other[0] and len(ours) == len(theirs) > 1:
                pairs.append((np.stack(ours), np.stack(theirs)))
    return pairs


def _count_right(cell):
    """Return the accuracy of each group, in per cent."""
    group_V = number_groups(cell["answers"])
    return 100 * np.bincount(group_V, weights=read_answers(cell)) / np.bincount(group_V)


def simulate_nulls(pairs: list, seeds: int, shape: str = "normal", simulations: int = SIMULATIONS) -> Nulls:
    """Estimate differences of rows made equal, with the spreads of committed rows.

    Each takes one pair, subtracts the rows' accuracies, draws test groups, which the two share, and gives each seed a
    deviation of the row's spread over seeds, and each group one of the row's residuals.
    """
    rng, found = np.random.default_rng(0), []
    for _ in range(simulations):
        rows = pairs[rng.integers(len(pairs))]
        groups = rows[0].shape[1]
        picked_G = rng.integers(groups, size=groups)
        ours_SG, theirs_SG = (_simulate_row(row_SG, seeds, picked_G, shape, rng) for row_SG in rows)
        difference_SG = ours_SG - theirs_SG
        replicate_SB = difference_SG.astype(np.float32) @ significance.draw_groups(groups).T / groups
        found.append(significance.estimate_mean(difference_SG.mean(1), replicate_SB, groups))
    return Nulls(np.array([one.value for one in found]), np.array([one.error for one in found]), seeds)


def _simulate_row(row_SG, seeds, picked_G, shape, rng):
    """Return accuracies_SG of an expectation of 0."""
    known = len(row_SG)
    seed_S1, mean_G = row_SG.mean(1, keepdims=True), row_SG.mean(0)
    residual_SG = (row_SG - seed_S1 - mean_G + mean_G.mean()) * math.sqrt(known / (known - 1))
    deviation_S = seed_S1.std(ddof=1) * SHAPES[shape](rng, seeds)
    drawn_SG = residual_SG[rng.integers(known, size=(seeds, len(picked_G))), picked_G]
    return mean_G[picked_G] - mean_G.mean() + deviation_S[:, None] + drawn_SG
