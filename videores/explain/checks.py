"""Check the maps of a method: all that can say whether they show what the network uses.

deletion   does the class go with the places that a map names?
cascade    do the maps change when the network is randomized?
pointing   are they on the object, where its place is known?
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from videores.explain.cascade import Explain, compare_cascade
from videores.explain.deletion import DeletionFill, compare_deletion
from videores.explain.pointing import compare_pointing

_CLIPS_AT_A_TIME = 8  # of which gradients keep all activations


def check_maps(
    network: nn.Module,
    clips_BCTHW: Tensor,
    classes_B: Tensor,
    explain: Explain,
    *,
    masks_BTHW: Tensor | None = None,
    groups: Any = None,
    fill: DeletionFill = "frozen",
    seed: int = 0,
) -> dict[str, Any]:
    """Run all checks of a method on one clip of each of some videos.

    Args:
        network: clips_BCTHW -> logits_BN, in eval mode.
        clips_BCTHW: normalized.
        classes_B: the class of each clip that is explained.
        explain: (network, clips_BCTHW, classes_B) -> maps_BTHW, one of `maps.METHODS` with its options.
        masks_BTHW: True where the object is; the pointing game needs them.
        groups: names of the videos' groups, over which intervals are taken.
        fill: what deleted places show.

    Returns:
        {"videos", "constant": maps that are the same everywhere, "deletion", "insertion", "cascade", "pointing"}.
    """
    explain = partial(_explain_in_batches, explain)
    maps_BTHW = explain(network, clips_BCTHW, classes_B)
    flat_BX = maps_BTHW.flatten(1)
    options = dict(groups=groups, seed=seed)
    pointing = None
    if masks_BTHW is not None:
        pointing = compare_pointing(network, clips_BCTHW, classes_B, masks_BTHW, explain, **options)
    return {
        "videos": len(clips_BCTHW),
        "resolution": list(maps_BTHW.shape[1:]),
        "constant": int((torch.amax(flat_BX, 1) == torch.amin(flat_BX, 1)).sum()),
        **compare_deletion(network, clips_BCTHW, classes_B, maps_BTHW, fill=fill, **options),
        "cascade": compare_cascade(network, clips_BCTHW, classes_B, explain, **options),
        "pointing": pointing,
    }


def _explain_in_batches(explain, network, clips_BCTHW, classes_B):
    batches = zip(clips_BCTHW.split(_CLIPS_AT_A_TIME), classes_B.split(_CLIPS_AT_A_TIME), strict=True)
    return torch.cat([explain(network, *batch) for batch in batches])
