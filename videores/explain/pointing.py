"""Play the pointing game: is the highest place of a map on the object, whose place is known?

Sources: Zhang et al. 2018, arXiv:1608.00507, section 4.1 (hit: the highest place; without their 15 pixels around it);
Wang et al. 2020, arXiv:1910.01279, section 4.3 (energy: the share of the map on the object).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from videores.evaluation.metrics import bootstrap_interval
from videores.explain.baselines import make_center_prior, make_frame_difference
from videores.explain.cascade import Explain, randomize_network
from videores.explain.maps import upsample_maps

RANDOM_NETWORKS = 3  # whose results are averaged


def compare_pointing(
    network: nn.Module,
    clips_BCTHW: Tensor,
    classes_B: Tensor,
    masks_BTHW: Tensor,
    explain: Explain,
    *,
    groups: Any = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare hits and energy of a method's maps with those of others, paired by video, in per cent.

    The others are the method's maps of the network with random weights, the differences of frames, and a center prior.
    `uniform` is the share of the object in the clip, which is what a map without content gets.
    """
    explained = lambda one: point_maps(explain(one, clips_BCTHW, classes_B), masks_BTHW)
    fresh = [randomize_network(network, seed + number) for number in range(RANDOM_NETWORKS)]
    scores_2B = {
        "trained": explained(network),
        "random": np.mean([explained(one) for one in fresh], 0),
        "difference": point_maps(make_frame_difference(clips_BCTHW), masks_BTHW),
        "center": point_maps(make_center_prior(clips_BCTHW), masks_BTHW),
    }
    share_B = masks_BTHW.float().mean((1, 2, 3)).cpu().numpy()
    found: dict[str, Any] = {"uniform": 100 * float(share_B.mean())}
    for row, what in enumerate(("hit", "energy")):
        found[what] = {name: 100 * float(scores[row].mean()) for name, scores in scores_2B.items()}
        for other in ("random", "difference", "center"):
            gain_B = scores_2B["trained"][row] - scores_2B[other][row]
            found[f"{what}_above_{other}"] = 100 * float(gain_B.mean())
            found[f"ci95_{what}_above_{other}"] = bootstrap_interval(gain_B, groups)
    return found


def point_maps(maps_BTHW: Tensor, masks_BTHW: Tensor) -> np.ndarray:
    """Return [hit_B, energy_B] from 0 to 1 of maps, which are interpolated to the masks.

    If several places are the highest, the hit is the share of them that are on the object. Negative values count as 0;
    a map without positive ones counts as uniform.
    """
    maps_BTHW = upsample_maps(maps_BTHW, masks_BTHW.shape[1:]).clamp(min=0)
    empty_B = maps_BTHW.amax((1, 2, 3)) == 0
    maps_BTHW = torch.where(empty_B[:, None, None, None], torch.ones_like(maps_BTHW), maps_BTHW)
    highest_BTHW = maps_BTHW == maps_BTHW.amax((1, 2, 3), keepdim=True)
    share = lambda x: ((x * masks_BTHW).sum((1, 2, 3)) / x.sum((1, 2, 3))).cpu().numpy()
    return np.stack([share(highest_BTHW.float()), share(maps_BTHW)])
