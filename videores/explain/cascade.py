"""Randomize a network from its last layer to its first, and see whether a method's maps change.

Source: Adebayo et al. 2018, arXiv:1810.03292, section 3, cascading randomization. A method whose maps stay alike shows
the video, not what the network has learned.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from videores.errors import UserError
from videores.evaluation.metrics import bootstrap_interval
from videores.explain.baselines import make_edge_maps
from videores.explain.layers import unwrap
from videores.models.parts import split_into_parts

Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (network, clips_BCTHW, classes_B) -> maps_BTHW
_WINDOW = 7  # pixels of SSIM's window
_SEED = 1_000_003  # added to seeds: a run's own would draw the weights that its training began with


def compare_cascade(
    network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor, explain: Explain, *, groups: Any = None, seed: int = 0
) -> dict[str, Any]:
    """Compare a method's maps before and after randomizing more and more of the network.

    Returns {"steps": a row for each part, the last one first}, with the mean similarities over videos of the method's
    maps, and of edge maps, which do not depend on the network and must stay at 1. `other_videos` is the similarity of
    maps of different videos: maps that are no more alike than that have nothing left of the video's.
    """
    before, edges = explain(network, clips_BCTHW, classes_B), make_edge_maps(clips_BCTHW)
    steps = []
    for part, changed in randomize_cascade(network, seed):
        after = explain(changed, clips_BCTHW, classes_B)
        control = compute_rank_correlation(edges, make_edge_maps(clips_BCTHW))
        row = {"part": part, **summarize_similarity(before, after, groups), "edges": float(np.mean(control))}
        steps.append(row)
    return {"steps": steps, "other_videos": summarize_similarity(before, before.roll(1, 0), groups)}


def randomize_cascade(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield (part, copy of the network that is random from this part to the end), the last part first."""
    changed, fresh = copy.deepcopy(unwrap(network)), split_into_parts(randomize_network(network, seed))
    for name, modules in reversed(split_into_parts(changed).items()):
        for ours, theirs in zip(modules, fresh[name], strict=True):
            ours.load_state_dict(theirs.state_dict())
        yield name, changed


def randomize_network(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy with weights as before training, in eval mode.

    Raises UserError for an exported network, whose weights cannot be drawn again.
    """
    if not list(network.parameters()):
        raise UserError("the cascade needs a network with weights, an exported one has none: give the run")
    fresh = copy.deepcopy(unwrap(network))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED + seed)
        for module in [*list(fresh.modules())[1:], fresh]:  # a whole network may draw its layers' weights in its way
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return fresh.eval()


# Similarity


def summarize_similarity(first_BTHW: Tensor, second_BTHW: Tensor, groups: Any = None) -> dict[str, Any]:
    """Return mean similarities of pairs of maps with the interval over groups, and how many pairs have none."""
    rank_B, ssim_B = compute_rank_correlation(first_BTHW, second_BTHW), compute_ssim(first_BTHW, second_BTHW)
    known_B = ~np.isnan(rank_B)
    if not known_B.any():
        return {"spearman": None, "ci95_spearman": None, "ssim": None, "constant": len(rank_B)}
    interval = bootstrap_interval(rank_B[known_B], None if groups is None else np.asarray(groups)[known_B])
    return {
        "spearman": float(rank_B[known_B].mean()),
        "ci95_spearman": [limit / 100 for limit in interval],
        "ssim": float(ssim_B.mean()),
        "constant": int((~known_B).sum()),  # pairs of which a map is the same everywhere
    }


def compute_rank_correlation(first_BTHW: Tensor, second_BTHW: Tensor) -> np.ndarray:
    """Return Spearman's correlation of each pair of maps, NaN where one is constant."""
    a_BX, b_BX = (_rank(maps_BTHW) for maps_BTHW in (first_BTHW, second_BTHW))
    a_BX, b_BX = a_BX - a_BX.mean(1, keepdims=True), b_BX - b_BX.mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (a_BX * b_BX).sum(1) / np.sqrt((a_BX**2).sum(1) * (b_BX**2).sum(1))


def _rank(maps_BTHW):
    """Return ranks_BX; equal values have the mean of theirs."""
    ranks = []
    for values_X in maps_BTHW.flatten(1).cpu().numpy():
        _, place_X, count = np.unique(values_X, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[place_X])
    return np.stack(ranks)


def compute_ssim(first_BTHW: Tensor, second_BTHW: Tensor) -> np.ndarray:
    """Return the structural similarity of each pair of maps, each divided by its largest absolute value.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, equation 13, in square windows of frames.
    """
    size = min(_WINDOW, *first_BTHW.shape[-2:])
    a, b = (maps / maps.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30) for maps in (first_BTHW, second_BTHW))
    mean = lambda x: avg_pool2d(x, size, stride=1)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, covariance = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    ssim = ssim / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return ssim.mean((1, 2, 3)).cpu().numpy()
