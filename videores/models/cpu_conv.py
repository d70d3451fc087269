"""Convolve on the CPU with measured repairs of its kernels."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def can_use_depthwise(x, weight, groups, padding):
    """Return whether the depthwise path gains: an odd kernel that keeps the size."""
    is_depthwise = groups == x.shape[1] == len(weight) > 1
    keeps_size = all(k == 2 * p + 1 for k, p in zip(weight.shape[2:], padding, strict=True))
    wants_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return is_depthwise and keeps_size and wants_gradient and x.device.type == "cpu"


def depthwise_conv3d(x_BCTHW, weight, stride):
    """Compute F.conv3d(x, weight, stride=stride, padding=kernel // 2, groups=C)."""
    if torch.is_autocast_enabled("cpu"):
        number_format = torch.get_autocast_dtype("cpu")
        x_BCTHW, weight = x_BCTHW.to(number_format), weight.to(number_format)
    return _DepthwiseConv3d.apply(x_BCTHW, weight, stride)


class _DepthwiseConv3d(torch.autograd.Function):
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
        dx = _compute_input_gradient(dy, weight, ctx.stride, x) if wants_dx else None
        return dx, _compute_weight_gradient(dy, weight, ctx.stride, x) if wants_dw else None, None


def _compute_input_gradient(dy, weight, stride, x):
    if tuple(stride) != (1, 1, 1):
        spread = torch.zeros_like(x)
        spread[:, :, :: stride[0], :: stride[1], :: stride[2]] = dy
        dy = spread
    return F.conv3d(dy, weight.flip((2, 3, 4)), None, 1, [k // 2 for k in weight.shape[2:]], groups=len(weight))


def _compute_weight_gradient(dy, weight, stride, x):
    """Return the weight gradient from a padded copy that serves all frames of the kernel.

    oneDNN sees no padding: it is wrong about some.
    """
    kt, kh, kw = weight.shape[2:]
    t, frames, channels = stride[0], dy.shape[2], len(weight)
    padded = F.pad(x, [p for k in (kw, kh, kt) for p in (k // 2, k // 2)])
    dy_rows = dy.transpose(1, 2).flatten(0, 1)  # (B*T) C H W
    gradients = []
    for k in range(kt):
        met = padded[:, :, k : k + t * (frames - 1) + 1 : t].transpose(1, 2).flatten(0, 1)
        gradients.append(_compute_weight_gradient_2d(dy_rows, met, weight[:, :, k], stride[1:], channels))
    return torch.stack(gradients, 2)


def _compute_weight_gradient_2d(dy, x, weight, stride, channels):
    options = (list(stride), [0, 0], [1, 1], False, [0, 0], channels, [False, True, False])
    return torch.ops.aten.convolution_backward(dy, x, weight, None, *options)[1]


class Conv2d(nn.Conv2d):
    def forward(self, x):
        x, padding = write_padding(x, self.padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(nn.Conv3d):
    """torch's Conv3d with the repairs of this module."""

    def forward(self, x):
        if self.bias is None and can_use_depthwise(x, self.weight, self.groups, self.padding):
            return depthwise_conv3d(x, self.weight, self.stride)
        if self.kernel_size[1:] == self.stride[1:] == (1, 1) and self.groups == 1 and _is_cpu_float(x):
            return conv3d_repaired(x, self.weight, self.bias, self.stride[0], self.padding[0])
        x, padding = write_padding(x, self.padding)
        return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def conv3d_repaired(x_BCTHW, weight, bias, stride, padding):
    """Compute F.conv3d of a kernel 1 wide and high, as a 2D convolution.

    The sums are the same, and oneDNN takes 0.3 to 0.9 of the time for them (docs/background/benchmark-step.md).
    In bf16 neither its speed nor its gradients have been measured, so there `Conv3d` leaves it.
    """
    y = F.conv2d(x_BCTHW.flatten(3), weight.flatten(3), bias, (stride, 1), (padding, 0))
    return y.unflatten(3, x_BCTHW.shape[3:])


def _is_cpu_float(x):
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def write_padding(x, padding):
    """Return x with zeros written around small dimensions, and the padding that is left.

    The outcome is the same, but oneDNN's bf16 weight gradient on the CPU is garbage, often inf, if it pads two frames
    itself (the last stage of a 16-frame R3D) or strides over a map one or two pixels wide, where it may even crash.
    Seen with torch 2.14, oneDNN 3.12 and AVX-512; two frames cost the convolution up to a half more time this way.
    Its fp32 gradients are right, and keep its own padding.
    """
    if x.device.type != "cpu" or not (torch.is_autocast_enabled("cpu") or x.dtype == torch.bfloat16):
        return x, padding
    *time, height, width = x.shape[2:]
    small = [t == 2 for t in time] + [min(height, width) <= 2] * 2
    written = [p if is_small else 0 for p, is_small in zip(padding, small, strict=True)]
    if any(written):
        x = F.pad(x, [p for dimension in reversed(written) for p in (dimension, dimension)])
    return x, tuple(p - q for p, q in zip(padding, written, strict=True))
