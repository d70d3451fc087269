"""Reorder the channels of networks whose shortcut A pads on both sides of the channels.

Ours appends the new channels (layers.Subsample). akamaster/pytorch_resnet_cifar10 puts half of them before and half
after the old ones, without a trace in names or shapes. Both compute the same if the channels of the residual stream are
renumbered in every layer that writes or reads them.
"""

import re
from collections.abc import Mapping

import torch

from videores.errors import UserError

CONV = re.compile(r"layer(\d+)\.(\d+)\.conv(\d+)\.weight")
WRITERS = ("conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var")  # of the residual stream


def append_padded_channels(state: Mapping[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """Return the weights of basic blocks with the order that appended channels have.

    Weights that project instead of padding stay as they are. Raises UserError for bottlenecks.
    """
    if any(".downsample." in key for key in state):
        return dict(state)
    convs = [tuple(map(int, match.groups())) for key in state if (match := CONV.fullmatch(key))]
    if any(number > 2 for *_, number in convs):
        raise UserError(
            f"{path} has bottlenecks that pad channels; only basic blocks are read, as its project has them"
        )
    blocks = sorted((stage, block) for stage, block, number in convs if number == 2)
    state, order = dict(state), torch.arange(len(state.get("conv1.weight", ())))
    for stage, block in blocks:
        prefix = f"layer{stage}.{block}"
        _select(state, f"{prefix}.conv1.weight", order, 1)
        order = _extend_order(order, len(state[f"{prefix}.conv2.weight"]))
        for name in WRITERS:
            _select(state, f"{prefix}.{name}", order, 0)
    _select(state, "fc.weight", order, 1)
    return state


def _extend_order(order, channels):
    """Return the order of `channels`: the old ones, which lie in the middle, and then the new ones.

    Entry i says where our channel i is in the file.
    """
    new = channels - len(order)
    before = new // 2
    return torch.cat([order + before, torch.arange(before), torch.arange(channels - (new - before), channels)])


def _select(state, key, order, dim):
    if key not in state or state[key].shape[dim] != len(order):
        return  # it does not fit the network either, which the load says
    state[key] = state[key].index_select(dim, order)
