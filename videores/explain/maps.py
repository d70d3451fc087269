"""Say which places of a clip speak for a class: maps_BTHW, each at the resolution that its method has.

    gradcam    channels of a layer, weighted by their mean gradient    Selvaraju et al. 2017, arXiv:1610.02391, eq. 1, 2
    layercam   each place weighted by its own positive gradient        Jiang et al. 2021, doi:10.1109/TIP.2021.3089943
    ig         gradients on the way from a clip without content        Sundararajan et al. 2017, arXiv:1703.01365, eq. 1
    occlusion  what the logit loses without a box                      Zeiler and Fergus 2014, arXiv:1311.2901, 4.2
    frames     what it loses where one frame shows its neighbor instead
    order      what it loses where two segments of the clip change places

A method maps (network, clips_BCTHW, classes_B) and its options to float32 maps in units of the logit, which are not
scaled. Clips are normalized float32, the network is in eval mode, and 0 is a pixel of mean color. In 3D the means of
Grad-CAM are over time too. `frames` and `order` have no places: their maps are B x T x 1 x 1.
"""

from collections.abc import Callable, Sequence
from itertools import chain, combinations, product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from videores.errors import UserError
from videores.explain.layers import disable_autocast, record_layer, score_classes
from videores.inference.exported import ExportedNetwork

Fill = Literal["grey", "frozen"]  # a pixel of mean color, or what an earlier frame shows at its place


def grad_cam(network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor, *, layer: str | None = None) -> Tensor:
    """Return relu(sum over channels of mean gradient x activation) of a layer."""
    x_BCTHW, gradient_BCTHW = record_layer(network, layer, clips_BCTHW, classes_B)
    weight_BC = gradient_BCTHW.mean((2, 3, 4), keepdim=True)
    return (weight_BC * x_BCTHW).sum(1).relu().float()


def layer_cam(network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor, *, layer: str | None = None) -> Tensor:
    """Return relu(sum over channels of relu(gradient) x activation) of a layer."""
    x_BCTHW, gradient_BCTHW = record_layer(network, layer, clips_BCTHW, classes_B)
    return (gradient_BCTHW.relu() * x_BCTHW).sum(1).relu().float()


def integrate_gradients(
    network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor, *, steps: int = 32, fill: Fill = "grey"
) -> Tensor:
    """Return (clip - start) x mean gradient between the two, summed over colors.

    Middles of `steps` equal parts are taken. The sum of a map nears the logit of the clip minus that of the start: a
    grey clip, or the first frame repeated, so that a map says what motion adds.
    """
    if isinstance(network, ExportedNetwork):
        raise UserError(f"method ig needs gradients, and {network.path} has none: use --method occlusion")
    start_BCTHW = clips_BCTHW[:, :, :1].expand_as(clips_BCTHW) if fill == "frozen" else torch.zeros_like(clips_BCTHW)
    total = torch.zeros_like(clips_BCTHW)
    for step in range(steps):
        x = torch.lerp(start_BCTHW, clips_BCTHW, (step + 0.5) / steps).requires_grad_()
        with torch.enable_grad(), disable_autocast(x):
            score = score_classes(network, x, classes_B).sum()
            total += torch.autograd.grad(score, x)[0]
    return ((clips_BCTHW - start_BCTHW) * total / steps).sum(1).float()


def occlude_boxes(
    network: nn.Module,
    clips_BCTHW: Tensor,
    classes_B: Tensor,
    *,
    boxes: tuple[int, int, int] = (4, 7, 7),
    fill: Fill = "grey",
    batch_size: int = 8,
) -> Tensor:
    """Return the logit's loss without each of `boxes`, T x H x W equal parts of a clip."""
    parts = [_split_axis(size, count) for size, count in zip(clips_BCTHW.shape[2:], boxes, strict=True)]

    def remove(place):
        (t, end), (top, bottom), (left, right) = place

        def change(clip_CTHW):
            box = clip_CTHW.clone()[:, :, top:bottom, left:right]
            changed = clip_CTHW.clone()
            shown = t - 1 if t else min(end, clip_CTHW.shape[1] - 1)
            changed[:, t:end, top:bottom, left:right] = box[:, shown, None] if fill == "frozen" else 0
            return changed

        return change

    drops_BX = _measure_drops(network, clips_BCTHW, classes_B, list(map(remove, product(*parts))), batch_size)
    return drops_BX.unflatten(1, [len(axis) for axis in parts])


def freeze_frames(network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor, *, batch_size: int = 8) -> Tensor:
    """Return the logit's loss where a frame shows the one before it, the first the second."""
    frames = clips_BCTHW.shape[2]

    def freeze(t):
        index_T = torch.arange(frames, device=clips_BCTHW.device)
        index_T[t] = min(abs(t - 1), frames - 1)
        return lambda clip_CTHW: clip_CTHW[:, index_T]

    drops_BT = _measure_drops(network, clips_BCTHW, classes_B, list(map(freeze, range(frames))), batch_size)
    return drops_BT[:, :, None, None]


def swap_segments(
    network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor, *, segments: int = 4, batch_size: int = 8
) -> Tensor:
    """Return the logit's mean loss where a segment changes places with each other one.

    All pairs are swapped, so nothing is drawn. Networks that ignore the order lose nothing.
    """
    parts = _split_axis(clips_BCTHW.shape[2], segments)
    pairs = list(combinations(range(len(parts)), 2))

    def swap(pair):
        order = list(range(len(parts)))
        order[pair[0]], order[pair[1]] = pair[1], pair[0]
        index_T = torch.tensor(list(chain(*(range(*parts[place]) for place in order))), device=clips_BCTHW.device)
        return lambda clip_CTHW: clip_CTHW[:, index_T]

    drops_BP = _measure_drops(network, clips_BCTHW, classes_B, list(map(swap, pairs)), batch_size)
    maps_BT = drops_BP.new_zeros(len(drops_BP), len(parts))
    for place, pair in enumerate(pairs):
        maps_BT[:, list(pair)] += drops_BP[:, place, None] / (len(parts) - 1)
    return maps_BT[:, :, None, None]


METHODS: dict[str, Callable[..., Tensor]] = {
    "gradcam": grad_cam,
    "layercam": layer_cam,
    "ig": integrate_gradients,
    "occlusion": occlude_boxes,
    "frames": freeze_frames,
    "order": swap_segments,
}
LAYER_METHODS = ("gradcam", "layercam")  # those that take `layer`


def upsample_maps(maps_BTHW: Tensor, size_THW: Sequence[int]) -> Tensor:
    """Interpolate maps trilinearly to a clip's size; that adds nothing to their resolution."""
    return interpolate(maps_BTHW[:, None], list(size_THW), mode="trilinear", align_corners=False)[:, 0]


def _split_axis(size, count):
    """Return (begin, end) of `count` parts as equal as can be, at most one for each place."""
    count = min(count, size)
    return [(size * n // count, size * (n + 1) // count) for n in range(count)]


@torch.no_grad()
def _measure_drops(network, clips_BCTHW, classes_B, changes, batch_size):
    """Return drops_BX: what the logit loses by each change of a clip.

    The unchanged clip is in the first batch, so that rounding is the same.
    """
    changes = [lambda clip_CTHW: clip_CTHW, *changes]
    groups = [changes[start : start + batch_size] for start in range(0, len(changes), batch_size)]
    drops = []
    for clip_CTHW, label in zip(clips_BCTHW, classes_B, strict=True):
        batches = (torch.stack([change(clip_CTHW) for change in group]) for group in groups)
        with disable_autocast(clip_CTHW):
            scores_X = torch.cat([score_classes(network, batch, label.expand(len(batch))) for batch in batches])
        drops.append(scores_X[0] - scores_X[1:])
    return torch.stack(drops).float()
