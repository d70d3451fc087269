"""A depthwise 3D convolution with a fast backward pass on CPUs; forward, and elsewhere, it is torch's own.

oneDNN computes the forward pass of a depthwise 3x3x3 convolution with special kernels, its two gradients without: they
take 10 to 50 times as long (torch 2.14, oneDNN 3.12, AVX-512). Equal formulations that have kernels:
    input    the forward convolution of the output's gradient, spread out by the stride, with the reversed kernel
    weight   per frame of the kernel, the weight gradient of a depthwise 2D convolution over all frames
"""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def applies(x, weight, groups, padding):
    """Whether there is something to gain, for an odd kernel that keeps the size."""
    is_depthwise = groups == x.shape[1] == len(weight) > 1
    keeps_size = all(k == 2 * p + 1 for k, p in zip(weight.shape[2:], padding, strict=True))
    wants_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return is_depthwise and keeps_size and wants_gradient and x.device.type == "cpu"


def conv3d(x_BCTHW, weight, stride):
    """F.conv3d(x, weight, stride=stride, padding=kernel // 2, groups=C)."""
    if torch.is_autocast_enabled("cpu"):
        number_format = torch.get_autocast_dtype("cpu")
        x_BCTHW, weight = x_BCTHW.to(number_format), weight.to(number_format)
    return DepthwiseConv3d.apply(x_BCTHW, weight, stride)


class DepthwiseConv3d(torch.autograd.Function):
    @staticmethod
    def forward(x, weight, stride):
        return F.conv3d(x, weight, None, stride, [k // 2 for k in weight.shape[2:]], groups=len(weight))

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, ctx.stride = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        (x, weight), (wants_dx, wants_dw, _) = ctx.saved_tensors, ctx.needs_input_grad
        dx = input_gradient(dy, weight, ctx.stride, x) if wants_dx else None
        return dx, weight_gradient(dy, weight, ctx.stride, x) if wants_dw else None, None


def input_gradient(dy, weight, stride, x):
    if tuple(stride) != (1, 1, 1):
        spread = torch.zeros_like(x)
        spread[:, :, :: stride[0], :: stride[1], :: stride[2]] = dy
        dy = spread
    return F.conv3d(dy, weight.flip((2, 3, 4)), None, 1, [k // 2 for k in weight.shape[2:]], groups=len(weight))


def weight_gradient(dy, weight, stride, x):
    """oneDNN sees no padding: it is wrong about some, and here one copy serves all frames of the kernel."""
    kt, kh, kw = weight.shape[2:]
    t, frames, channels = stride[0], dy.shape[2], len(weight)
    padded = F.pad(x, [p for k in (kw, kh, kt) for p in (k // 2, k // 2)])
    dy_rows = dy.transpose(1, 2).flatten(0, 1)  # (B*T) C H W
    gradients = []
    for k in range(kt):
        met = padded[:, :, k : k + t * (frames - 1) + 1 : t].transpose(1, 2).flatten(0, 1)
        gradients.append(weight_gradient_2d(dy_rows, met, weight[:, :, k], stride[1:], channels))
    return torch.stack(gradients, 2)


def weight_gradient_2d(dy, x, weight, stride, channels):
    options = (list(stride), [0, 0], [1, 1], False, [0, 0], channels, [False, True, False])
    return torch.ops.aten.convolution_backward(dy, x, weight, None, *options)[1]
