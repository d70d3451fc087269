"""Let clips go on where others ended, in networks whose shifts are causal.

A shift hands channels of each frame to the next one, and zeros come into the first frame of a clip (Lin et al. 2019,
arXiv:1811.08383, online models). With the channels of the frame before it instead, one new frame is enough.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from videores.models.layers import Shift


def find_shifts(model: nn.Module) -> list[Shift]:
    """Return the temporal shifts of a network."""
    return [module for module in model.modules() if isinstance(module, Shift)]


@contextmanager
def carry_shifts(model: nn.Module, past_SBCHW: Sequence[Tensor] | None) -> Iterator[list[Tensor]]:
    """Carry causal shifts on for one forward pass; yield a list that gets what the last frames hand on, as `past`.

    Args:
        model: a network with causal shifts; call it once.
        past_SBCHW: what the frames before these clips handed on at each shift; None: nothing, so zeros come in.
    """
    left_SBCHW: list[Tensor] = []
    hooks = [
        shift.register_forward_hook(partial(_carry, left_SBCHW, None if past_SBCHW is None else past_SBCHW[i]))
        for i, shift in enumerate(find_shifts(model))
    ]
    try:
        yield left_SBCHW
    finally:
        for hook in hooks:
            hook.remove()


def _carry(left_SBCHW, past_BCHW, shift, inputs, output):
    x, clips = inputs
    n = x.shape[1] // shift.part
    left_SBCHW.append(x.unflatten(0, (clips, -1))[:, -1, :n].clone())
    if past_BCHW is not None:
        output.unflatten(0, (clips, -1))[:, 0, :n] = past_BCHW
