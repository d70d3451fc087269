"""Delete or insert the places that a map names, and watch the probability of the class.

Source: Petsiuk et al. 2018, arXiv:1806.07421, section 3.2. A map that names what the network uses has a low area under
the deletion curve and a high one under the insertion curve. They delete by gray, which no training video shows, so that
part of every fall is the network's surprise. Here a deleted place shows what the middle frame shows there (`frozen`),
which takes the motion and leaves a natural frame, or its surroundings (`blurred`), which takes the appearance and
leaves the motion.

A random order of single pixels is noise, that deletes faster than connected places do whatever they are. So random maps
have the resolution of the method's maps, and are interpolated alike.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from videores.evaluation.metrics import bootstrap_interval
from videores.explain.baselines import make_center_prior, make_random_maps
from videores.explain.maps import upsample_maps

DeletionFill = Literal["frozen", "blurred"]
STEPS = 10  # of equally many places
RANDOM_ORDERS = 3  # whose curves are averaged
_CLIPS_AT_A_TIME = 32


class Curves(NamedTuple):
    """Probabilities of the class after 0 .. STEPS steps, 0 to 1."""

    deletion_BS: np.ndarray
    insertion_BS: np.ndarray


def compare_deletion(
    network: nn.Module,
    clips_BCTHW: Tensor,
    classes_B: Tensor,
    maps_BTHW: Tensor,
    *,
    groups: Any = None,
    fill: DeletionFill = "frozen",
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the curves of maps with those of random orders and of a center prior.

    Returns {"fill", "deletion", "insertion"}; of each curve the area of each order in per cent, the mean difference of
    the maps' to the others' with its 95 % interval over `groups` of videos, and the mean curve.
    """
    orders = {"map": [maps_BTHW], "center": [make_center_prior(clips_BCTHW)]}
    orders["random"] = [make_random_maps(maps_BTHW, seed + number) for number in range(RANDOM_ORDERS)]
    curves = {
        name: [trace_curves(network, clips_BCTHW, classes_B, one, fill, seed) for one in maps]
        for name, maps in orders.items()
    }
    return {"fill": fill, **{name: _compare_areas(curves, name, groups) for name in ("deletion", "insertion")}}


def _compare_areas(curves, name, groups):
    mean_BS = {order: np.mean([getattr(one, f"{name}_BS") for one in of], 0) for order, of in curves.items()}
    area_B = {order: np.trapezoid(curve_BS, dx=1 / STEPS) for order, curve_BS in mean_BS.items()}
    found: dict[str, Any] = {"area": {order: 100 * float(area.mean()) for order, area in area_B.items()}}
    for order in ("random", "center"):
        gain_B = area_B["map"] - area_B[order]
        found[f"above_{order}"] = 100 * float(gain_B.mean())
        found[f"ci95_above_{order}"] = bootstrap_interval(gain_B, groups)
    return {**found, "curves": {order: (100 * curve_BS.mean(0)).tolist() for order, curve_BS in mean_BS.items()}}


def trace_curves(
    network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor, maps_BTHW: Tensor, fill: DeletionFill, seed: int = 0
) -> Curves:
    """Return the probabilities of the class as more and more of the highest places are deleted, or inserted."""
    filled_BCTHW = fill_clips(clips_BCTHW, fill)
    rank_B1THW = _rank_places(upsample_maps(maps_BTHW, clips_BCTHW.shape[2:]), seed)[:, None]
    steps = [rank_B1THW < step / STEPS for step in range(STEPS + 1)]
    deletion = [_score(network, torch.where(chosen, filled_BCTHW, clips_BCTHW), classes_B) for chosen in steps]
    insertion = [_score(network, torch.where(chosen, clips_BCTHW, filled_BCTHW), classes_B) for chosen in steps]
    return Curves(np.stack(deletion, 1), np.stack(insertion, 1))


def fill_clips(clips_BCTHW: Tensor, fill: DeletionFill) -> Tensor:
    """Return what deleted places show: the middle frame, or the frames blurred by an eighth of their short side."""
    if fill == "frozen":
        middle = clips_BCTHW.shape[2] // 2
        return clips_BCTHW[:, :, middle : middle + 1].expand_as(clips_BCTHW)
    size = min(clips_BCTHW.shape[-2:])
    kernel = 2 * min(size // 4, size - 1) + 1
    frames = clips_BCTHW.transpose(1, 2).flatten(0, 1)
    blurred = F.gaussian_blur(frames, [kernel, kernel], [size / 8] * 2)
    return blurred.unflatten(0, (len(clips_BCTHW), -1)).transpose(1, 2)


def _rank_places(maps_BTHW, seed):
    """Return ranks from 0 (highest) to below 1; equal places follow each other at random."""
    flat_BX = maps_BTHW.flatten(1)
    mixed_X = torch.randperm(flat_BX.shape[1], generator=torch.Generator().manual_seed(seed)).to(flat_BX.device)
    order_BX = mixed_X[flat_BX[:, mixed_X].argsort(dim=1, descending=True, stable=True)]
    place_X = torch.arange(flat_BX.shape[1], device=flat_BX.device) / flat_BX.shape[1]
    return torch.zeros_like(flat_BX).scatter(1, order_BX, place_X.expand_as(flat_BX)).view_as(maps_BTHW)


@torch.no_grad()
def _score(network, clips_BCTHW, classes_B):
    """Return the probability of each clip's class as a NumPy array."""
    logits_BN = torch.cat([network(clips).float() for clips in clips_BCTHW.split(_CLIPS_AT_A_TIME)])
    return logits_BN.softmax(1).gather(1, classes_B[:, None])[:, 0].cpu().numpy()
