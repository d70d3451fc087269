"""Measure how large the responses of residual branches are.

Source: He et al. 2015, arXiv:1512.03385, figure 7: standard deviations after batch norm, before the sum and the ReLU.
If the best mapping of a block is near the identity, its branch has little to add; deeper networks had smaller ones.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from videores.errors import UserError
from videores.models.parts import find_residual_blocks


class _Moments:
    """Sum a stream of tensors to its standard deviation."""

    def __init__(self):
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, x):
        x = x.detach().double()
        self.count, self.sum, self.squares = (
            self.count + x.numel(),
            self.sum + float(x.sum()),
            self.squares + float((x * x).sum()),
        )

    def deviation(self):
        mean = self.sum / self.count
        return max(self.squares / self.count - mean**2, 0) ** 0.5


class _Block(NamedTuple):
    name: str
    block: nn.Module
    branch: _Moments
    shortcut: _Moments


def measure_responses(network: nn.Module, batches: Iterable[Tensor]) -> list[dict[str, Any]]:
    """Return standard deviations of each block's branch and shortcut, by depth.

    Args:
        network: in eval mode.
        batches: of normalized clips_BCTHW.

    Returns:
        {"block", "branch", "shortcut", "ratio": branch / shortcut} of each block.

    Raises:
        UserError: for a network without residual blocks of ours.
    """
    blocks = [_Block(*found, _Moments(), _Moments()) for found in find_residual_blocks(network).items()]
    if not blocks:
        raise UserError(f"{type(network).__name__} must have residual blocks to measure their responses, it has none")
    with _watch_blocks(blocks), torch.no_grad():
        for clips_BCTHW in batches:
            network(clips_BCTHW)
    return [_describe(block) for block in blocks]


def _describe(block):
    branch, shortcut = block.branch.deviation(), block.shortcut.deviation()
    return {
        "block": block.name,
        "branch": branch,
        "shortcut": shortcut,
        "ratio": branch / shortcut if shortcut else None,
    }


@contextmanager
def _watch_blocks(blocks: list[_Block]) -> Iterator[None]:
    handles = [handle for block in blocks for handle in _watch_block(*block)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch_block(_, block, branch, shortcut):
    """Hook the end of the branch, and what it is added to."""
    last = getattr(block, block.branch[-1]) if block.se is None else block.se
    scale = 1 if block.scale is None else block.scale

    def add_input(module, inputs):
        shortcut.add(inputs[0])

    yield last.register_forward_hook(lambda module, inputs, output: branch.add(output * scale))
    if block.downsample is None:
        yield block.register_forward_pre_hook(add_input)
    else:
        yield block.downsample.register_forward_hook(lambda module, inputs, output: shortcut.add(output))
