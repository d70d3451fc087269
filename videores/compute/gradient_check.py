"""Check that layers compute right gradients in a fast setting, each alone, from equal inputs.

A whole network's gradient says less: through batch norms, rounding alone moves it by a third (measured in bf16 at the
first weights of r2plus1d_18), as much as a wrong layer might. A layer alone is exact to about 1 %, or wrong.
"""

import copy

import torch

from videores.compute import cost, precision

MAX_RELATIVE_ERROR = 0.05  # relative error; bf16 rounds by 0.004


def compute_layer_errors(
    network: torch.nn.Module,
    clips_BCTHW: torch.Tensor,
    label_B: torch.Tensor,
    setting: precision.PrecisionSetting,
    exact: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Return {name: relative error} of each layer's gradients in one training step.

    What goes into a layer, and the gradient that comes back to it, are those of the step. The network stays as it is.
    """
    network = copy.deepcopy(network).train()
    seen: dict[str, tuple[torch.nn.Module, torch.Tensor, torch.Tensor]] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, cost.COUNTED_LAYERS):
            layer.register_forward_hook(_make_recorder(seen, name, layer))
    cost.run_step(network, clips_BCTHW, label_B, setting)
    return {name: compute_layer_error(*layer_x_upstream, setting, exact) for name, layer_x_upstream in seen.items()}


def _make_recorder(seen, name, layer):
    def keep(_, inputs, output):
        if output.requires_grad:
            x = inputs[0].detach()
            output.register_hook(
                lambda gradient: seen.update({name: (layer, x, _normalize_gradient(gradient.detach()))})
            )

    return keep


def _normalize_gradient(gradient):
    """Scale a gradient to 1 at most, as fp16's loss scaling would, so that nothing small is lost."""
    return gradient / gradient.abs().max().clamp(min=torch.finfo(gradient.dtype).tiny)


def compute_layer_error(
    layer: torch.nn.Module,
    x: torch.Tensor,
    upstream: torch.Tensor,
    setting: precision.PrecisionSetting,
    exact: torch.dtype,
) -> float:
    """Return the largest relative error of a layer's gradients, inf if not finite."""
    got = _compute_layer_gradients(layer, x, upstream, setting.precision)
    plain = _without_hooks(layer).to(exact, memory_format=torch.contiguous_format)
    expected = _compute_layer_gradients(plain, x.to(exact).contiguous(), upstream.to(exact).contiguous(), "fp32")
    return max(_compute_relative_error(g, e) for g, e in zip(got, expected, strict=True))


def _compute_layer_gradients(layer, x, upstream, number_format):
    """Return the gradients by x and by each weight that needs one.

    A bias's is left out: it is a sum that cancels, and leaves what was rounded.
    """
    layer, x = _without_hooks(layer), x.detach().requires_grad_()
    with precision.autocast(x.device.type, number_format):
        y = layer(x)
    y.backward(upstream.to(y.dtype))
    return [x.grad, *(p.grad for p in layer.parameters() if p.ndim > 1 and p.grad is not None)]


def _without_hooks(layer):
    layer = copy.deepcopy(layer)
    layer._forward_hooks.clear()
    layer.zero_grad()
    return layer


def _compute_relative_error(got, expected):
    error = (got.to(expected.dtype) - expected).norm() / expected.norm().clamp(min=torch.finfo(expected.dtype).tiny)
    return float(error.nan_to_num(torch.inf, torch.inf))
