"""Give layers other widths than their design says: the plan of a pruned network.

A plan is {layer: width}, the channels that convolutions and linear layers put out. What follows a layer takes what
flows in: the inputs of convolutions, norms and the classifier, and depthwise convolutions whole.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from videores.errors import UserError, format_suggestion

Conv = nn.modules.conv._ConvNd
Norm = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


def apply_widths(model: Any, widths: Mapping[str, int], shape_BCTHW: tuple[int, ...]) -> None:
    """Give the layers of a network the widths of a plan; layers that change get new random weights.

    `shape_BCTHW` is of a clip that the network takes. Raises UserError for a plan that does not fit.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, (Conv, nn.Linear))}
    for name in widths:
        if name not in layers or is_depthwise(layers[name]):
            wide = [other for other, layer in layers.items() if not is_depthwise(layer)]
            hint = format_suggestion(name, wide)
            raise UserError(f"model.widths: {name} must be a layer whose width is free{hint}: correct or drop it")
    twin = copy.deepcopy(model).to("meta").eval()
    for name, layer in twin.named_modules():
        if isinstance(layer, (Conv, nn.Linear, *Norm)):
            layer.register_forward_pre_hook(lambda layer, x, name=name: _fit_layer(layer, x[0], name, widths))
    try:
        with torch.no_grad():
            twin(torch.empty(shape_BCTHW, device="meta"))
    except (UserError, RuntimeError) as error:
        raise UserError(f"model.widths must fit the network, e.g. where branches meet: {error}") from None
    for layer, fitted in zip(model.modules(), twin.modules(), strict=True):
        if isinstance(layer, (Conv, nn.Linear, *Norm)) and read_shape(layer) != read_shape(fitted):
            _resize(layer, *read_shape(fitted))
    if hasattr(model, "num_features"):  # ours
        model.num_features = model.fc.in_features
        model.reset_parameters()


def read_widths(model: nn.Module) -> dict[str, int]:
    """Return {layer: width} of all layers whose width a plan can say."""
    layers = model.named_modules()
    return {n: m.weight.shape[0] for n, m in layers if isinstance(m, (Conv, nn.Linear)) and not is_depthwise(m)}


def is_depthwise(layer: nn.Module) -> bool:
    """Return whether a layer convolves each channel alone, so that its width is that of its input."""
    return isinstance(layer, Conv) and layer.groups == layer.in_channels == layer.out_channels > 1


def read_shape(layer: Any) -> tuple[int, int, int]:
    """Return the (channels in, channels out, groups) of a layer."""
    if isinstance(layer, Conv):
        return layer.in_channels, layer.out_channels, layer.groups
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, 1
    width = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features
    return width, width, getattr(layer, "num_groups", 1)


def _fit_layer(layer, x, name, widths):
    """Give a layer the channels of its input, and the width that the plan says."""
    cin = x.shape[-1] if isinstance(layer, nn.Linear) else x.shape[1]
    _, cout, groups = read_shape(layer)
    if isinstance(layer, Norm) or is_depthwise(layer):
        cout, groups = cin, cin if is_depthwise(layer) else groups
    cout = widths.get(name, cout)
    if cin % groups or cout % groups:
        raise UserError(f"{name} has {groups} groups, which must divide its {cin} channels in and {cout} out")
    _resize(layer, cin, cout, groups)


def _resize(layer, cin, cout, groups):
    """Change the channels of a layer. Norms keep the one value that each of their tensors holds."""
    if isinstance(layer, Norm):
        setattr(layer, "num_channels" if isinstance(layer, nn.GroupNorm) else "num_features", cout)
        for kind in (layer._parameters, layer._buffers):
            for key, tensor in kind.items():
                if tensor is not None and tensor.ndim:
                    value = tensor.detach()[:1].repeat(cout)
                    kind[key] = nn.Parameter(value) if kind is layer._parameters else value
        return
    if isinstance(layer, Conv):
        layer.in_channels, layer.out_channels, layer.groups = cin, cout, groups
    else:
        layer.in_features, layer.out_features = cin, cout
    layer.weight = nn.Parameter(layer.weight.new_empty(cout, cin // groups, *layer.weight.shape[2:]))
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.new_empty(cout))
    layer.reset_parameters()
