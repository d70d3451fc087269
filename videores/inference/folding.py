"""Fold batch norms into the convolutions before them: the same function, in evaluation."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def fold_batch_norms(model: nn.Module, clips_BCTHW: torch.Tensor) -> nn.Module:
    """Return a copy in evaluation mode whose batch norms are folded where they can be.

    A norm can be folded if its input is what a convolution puts out, which a pass over the clips tells for networks of
    any structure. A norm before its convolution, as in pre-activated blocks, stays.
    """
    model = copy.deepcopy(model).eval()
    parents = {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}
    for norm, conv in _find_pairs(model, clips_BCTHW):
        _fold(conv, norm)
        setattr(*parents[norm], nn.Identity())
    return model


def _find_pairs(model, clips_BCTHW):
    """Return [(norm, the convolution whose output it takes)]."""
    outputs, pairs = {}, []  # the outputs are kept: the address of one that is freed would be another's
    keep = lambda conv, _, output: outputs.update({id(output): (conv, output)})
    look = lambda norm, inputs: pairs.append((norm, outputs[id(inputs[0])][0])) if id(inputs[0]) in outputs else None
    hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    hooks += [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, _BatchNorm)]
    try:
        with torch.no_grad():
            model(clips_BCTHW)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _fold(conv, norm):
    """Scale a convolution's kernels and set its bias, in double precision, rounded once."""
    scale = norm.weight.data.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = 0 if conv.bias is None else conv.bias.data.double()
    weight = conv.weight.data.double() * scale.reshape(-1, *[1] * (conv.weight.ndim - 1))
    conv.weight.data.copy_(weight)  # in place: its memory layout stays
    shift = norm.bias.data.double() + (bias - norm.running_mean.double()) * scale
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
