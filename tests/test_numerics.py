"""The weight gradients of every shipped configuration are right in the precision that training chooses."""

import pytest
import torch
from torch import nn

from videores import config, precision
from videores.models import create_model

CONFIGS = sorted(path.name for path in config.CONFIGS.glob("*.yaml"))
CONVOLUTIONS = {nn.Conv2d: torch.nn.grad.conv2d_weight, nn.Conv3d: torch.nn.grad.conv3d_weight}


def traced_backward(model, clips_BCTHW, autocast):
    """One step; per convolution its input and the gradient at its output."""
    seen = {}

    def keep(module, inputs, output):
        output.register_hook(lambda gradient: seen.update({module: (inputs[0].detach(), gradient.detach())}))

    for module in model.modules():
        if isinstance(module, tuple(CONVOLUTIONS)):
            module.register_forward_hook(keep)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = nn.functional.cross_entropy(model(clips_BCTHW), torch.arange(len(clips_BCTHW)))
    loss.backward()
    return seen


@pytest.mark.parametrize("name", CONFIGS)
def test_weight_gradients_equal_float64(name):
    cfg = config.load(name)
    number_format, channels_last = precision.choose("cpu")
    torch.manual_seed(0)
    model = create_model(cfg.model.name, 8, **cfg.model.overrides())
    if channels_last:
        precision.to_channels_last(model)
    crop = min(cfg.data.transform.crop, 48)  # float64 is slow; the frames, which matter most, are the configuration's
    clips_BCTHW = torch.randn(1, 3, cfg.data.clip.frames, crop, crop)
    for module, (x, gradient) in traced_backward(model, clips_BCTHW, number_format == "bf16").items():
        weight_gradient = next(f for kind, f in CONVOLUTIONS.items() if isinstance(module, kind))
        shape, options = module.weight.shape, {"stride": module.stride, "padding": module.padding}
        exact = weight_gradient(x.double(), shape, gradient.double(), **options)
        error = (module.weight.grad.double() - exact).norm() / exact.norm()
        assert error < 0.02, f"{module}: relative error {error:.3f} for input {tuple(x.shape)}"
