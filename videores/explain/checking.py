"""Check a method on the videos that were explained: the clips that their sheets show."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from videores.data.synthetic.answers import SpriteMasks, find_embedded
from videores.errors import UserError
from videores.explain.checks import check_maps
from videores.explain.choice import Choice
from videores.explain.explanation import Explanation, cut_views, make_dataset, select_method
from videores.inference.exported import ExportedNetwork
from videores.inference.predictor import Predictor


class CheckedClip(NamedTuple):
    """What is kept of an explanation."""

    clip_THWC: np.ndarray
    label: int
    group: str
    mask_THW: np.ndarray | None  # where the sprite is, of embedded sets


def check_checkable(predictor: Predictor, videos: int) -> None:
    """Raise UserError for an exported network, whose weights cannot be randomized, and for a single video."""
    if videos < 2:
        raise UserError(f"--check compares videos, and got {videos}: give more, such as --per-class 4 of a run's test")
    if isinstance(predictor.network.model, ExportedNetwork):
        what = f"--check randomizes the weights, and {predictor.network.source} has none"
        raise UserError(f"{what}: give the run that it is from")


def check_method(predictor: Predictor, clips: Sequence[CheckedClip], method: str, layer: str | None) -> dict[str, Any]:
    """Return what `check_maps` finds on the clips, as `probe.py` writes it.

    Raises UserError for clips of different sizes.
    """
    network = predictor.network
    if len({clip.clip_THWC.shape for clip in clips}) != 1:
        raise UserError("--check needs clips of one size, and test.crops=full gives each video its own: leave it out")
    clips_BTHWC = torch.from_numpy(np.stack([clip.clip_THWC for clip in clips])).to(network.device)
    masks = [clip.mask_THW for clip in clips if clip.mask_THW is not None]
    found = check_maps(
        network.model,
        predictor.preprocessing.normalize(clips_BTHWC).contiguous(),
        torch.tensor([clip.label for clip in clips], device=network.device),
        select_method(method, layer),
        masks_BTHW=torch.from_numpy(np.stack(masks)).to(network.device) if len(masks) == len(clips) else None,
        groups=[clip.group for clip in clips],
    )
    name = f"{method} of {layer}" if layer else method
    return {"protocol": str(predictor.preprocessing), "methods": {name: found}}


def keep_for_check(predictor: Predictor, choice: Choice, one: Explanation) -> CheckedClip:
    """Keep the shown clip of an explanation, with its mask."""
    mask_THW = None
    if spec := find_embedded(str(choice.root)):
        dataset = make_dataset(predictor, choice.root, choice.path)
        dataset.cache = SpriteMasks(spec, [choice.path])  # which is cut like the frames
        mask_THW = (cut_views(predictor, dataset.fixed_views(0, 0))[int(one.view_V[one.shown])][..., 0] > 127).numpy()
    return CheckedClip(one.clips_VTHWC[one.shown], one.label, choice.group or choice.path, mask_THW)
