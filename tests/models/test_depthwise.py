"""The depthwise convolution with its own backward pass computes what torch's does, in both number formats."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from videores.models import cpu_conv

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def exact(x, weight, dy, stride):
    """Output and gradients in float64."""
    x, weight = (t.detach().double().requires_grad_() for t in (x, weight))
    y = F.conv3d(x, weight, None, stride, [k // 2 for k in weight.shape[2:]], groups=len(weight))
    y.backward(dy.double())
    return y.detach(), x.grad, weight.grad


def error(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (5, 1, 1)])
@pytest.mark.parametrize("clip", [(1, 5, 7), (2, 4, 4), (3, 2, 2), (4, 1, 1), (8, 3, 6)])
def test_output_and_gradients_are_the_convolutions(clip, kernel, stride, number_format, layout):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, *clip, generator=generator).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(16, 1, *kernel, generator=generator).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=number_format == torch.bfloat16):
        y = cpu_conv.depthwise_conv3d(x, weight, stride)
    assert y.dtype == number_format
    dy = torch.randn(y.shape, generator=generator)
    y.backward(dy.to(number_format))
    limit = 1e-5 if number_format == torch.float32 else 0.02
    for found, expected in zip((y, x.grad, weight.grad), exact(x, weight, dy, stride), strict=True):
        assert found.shape == expected.shape
        assert error(found, expected) < limit


def test_it_applies_to_depthwise_convolutions_that_learn_on_the_cpu():
    x, weight = torch.zeros(1, 8, 2, 4, 4), torch.zeros(8, 1, 3, 3, 3, requires_grad=True)
    assert cpu_conv.can_use_depthwise(x, weight, 8, (1, 1, 1))
    assert not cpu_conv.can_use_depthwise(x, weight, 8, (0, 1, 1))  # does not keep the size
    assert not cpu_conv.can_use_depthwise(x, torch.zeros(8, 2, 3, 3, 3, requires_grad=True), 4, (1, 1, 1))
    assert not cpu_conv.can_use_depthwise(x.to("meta"), weight, 8, (1, 1, 1))
    assert not cpu_conv.can_use_depthwise(x, weight.detach(), 8, (1, 1, 1))
    with torch.no_grad():
        assert not cpu_conv.can_use_depthwise(x, weight, 8, (1, 1, 1))


def test_a_gradient_that_nobody_wants_is_not_computed():
    x, weight = torch.randn(1, 8, 2, 4, 4), nn.Parameter(torch.randn(8, 1, 3, 3, 3))
    cpu_conv.depthwise_conv3d(x, weight, (1, 1, 1)).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
