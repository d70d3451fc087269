"""Remove channels of a network, with all that depends on them.

Torch-Pruning follows them through the network (DepGraph: Fang et al. 2023, arXiv:2301.12900): channels that are added
to each other go together, and a depthwise convolution, a norm or the classifier loses those of its input.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from videores.errors import UserError
from videores.models.parts import split_into_parts
from videores.models.widths import read_shape, read_widths

# ours are subclasses, which Torch-Pruning takes for other layers where it compares types
PLAIN_LAYERS = (nn.Conv2d, nn.Conv3d, nn.BatchNorm2d, nn.BatchNorm3d)
KEPT_PARTS = ("pool", "fc")  # their outputs are those of the network, or weigh time


def prune_channels(
    model: nn.Module, shape_BCTHW: tuple[int, ...], ratio: float | Mapping[str, float], importance: str
) -> nn.Module:
    """Return a copy of a network without its least important channels.

    Args:
        shape_BCTHW: of a clip that the network takes.
        ratio: share of the channels that goes: of each layer by its name, or of the network as a whole.
        importance: "magnitude", the L2 norm of all weights of a channel and of those that depend on it, or "bn", the
            scale of its batch norms (Liu et al. 2017, arXiv:1708.06519).

    Raises:
        UserError: where the network cannot be followed, or a layer would have no channel left.
    """
    try:
        import torch_pruning as tp
    except ImportError:
        raise UserError("pruning needs Torch-Pruning: pip install 'videores[compress]'") from None
    pruned = copy.deepcopy(model).cpu().requires_grad_(True).eval()
    for layer in pruned.modules():
        layer.__class__ = next((plain for plain in PLAIN_LAYERS if isinstance(layer, plain)), layer.__class__)
    layers = dict(pruned.named_modules())
    is_global = not isinstance(ratio, Mapping)
    kept = [module for name, part in split_into_parts(pruned).items() if name in KEPT_PARTS for module in part]
    options: dict[str, Any] = {"in_channel_groups": {}, "out_channel_groups": {}, "global_pruning": is_global}
    if isinstance(ratio, Mapping):
        options |= {"pruning_ratio": 0.0, "pruning_ratio_dict": {layers[name]: r for name, r in ratio.items()}}
    else:
        options |= {"pruning_ratio": ratio}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the scale of SkipInit, which is no channel
        try:
            measure = _make_importance(tp, importance)
            pruner = tp.pruner.BasePruner(pruned, torch.randn(shape_BCTHW), measure, ignored_layers=kept, **options)
            pruner.DG.check_pruning_group = _make_check(pruner.DG, {layer: name for name, layer in layers.items()})
            pruner.step()
        except UserError:
            raise
        except Exception as error:  # of a library, on a network that it does not know
            raise UserError(f"Torch-Pruning cannot follow {type(model).__name__}: {error}") from error
    return pruned


def _make_importance(tp: Any, name: str) -> Callable[..., Any]:
    return tp.importance.BNScaleImportance() if name == "bn" else tp.importance.GroupMagnitudeImportance(p=2)


def _make_check(graph: Any, names: Mapping[nn.Module, str]) -> Callable[[Any], bool]:
    """Return a check that refuses what empties a layer, which Torch-Pruning would leave whole without a word."""

    def check(group: Any) -> bool:
        for dep, channels in group:
            layer = dep.target.module
            is_out = graph.is_out_channel_pruning_fn(dep.handler)
            width = (graph.get_out_channels if is_out else graph.get_in_channels)(layer)
            if width is not None and width <= len(channels):
                name = names.get(layer, type(layer).__name__)
                raise UserError(f"--ratio must leave {name} a channel of its {width}, and would remove all: lower it")
        return True

    return check


def plan_widths(model: nn.Module, ratios: Mapping[str, float]) -> dict[str, int]:
    """Return the width that each layer shall have.

    `ratios` are the shares of the channels that go, by part. Raises UserError where a layer would be empty.
    """
    parts, names = split_into_parts(model), {id(layer): name for name, layer in model.named_modules()}
    widths, wanted = read_widths(model), {}
    for part, ratio in ratios.items():
        if part not in parts or part in KEPT_PARTS:
            known = [name for name in parts if name not in KEPT_PARTS]
            raise UserError(f"--ratio must name parts of {', '.join(known)}, got {part}: correct it")
        for layer in (layer for module in parts[part] for layer in module.modules()):
            name = names[id(layer)]
            if name in widths:
                wanted[name] = int(widths[name] * (1 - ratio) + 1e-6)
                _check_left(name, widths[name], wanted[name], ratio)
    return wanted


def _check_left(name, width, left, ratio):
    if left < 1:
        raise UserError(f"--ratio must leave {name} a channel of its {width}, and {ratio:g} removes all: lower it")


def find_whole_layers(pruned: nn.Module, before: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    """Return the layers that should be narrower and kept their width, since something else needs it.

    Raises UserError where a layer shares its channels with another that was given another ratio.
    """
    widths = {name: read_shape(pruned.get_submodule(name))[1] for name in wanted}
    whole = [name for name, width in wanted.items() if widths[name] == before[name] != width]
    for name, width in wanted.items():
        if widths[name] not in (width, before[name]):
            raise UserError(
                f"--ratio must be equal where outputs are added: {name} should have {width} channels, and shares "
                f"{widths[name]} with another part"
            )
    return whole
