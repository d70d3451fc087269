"""Negative controls: what the papers' tables say is worse, kept out of resnet.py.

    scaled     shortcuts times 0.5             He et al. 2016, arXiv:1603.05027, table 1: (0.5, 1) fails to converge
    conv1x1    a 1x1 convolution as every shortcut                                        12.2 % instead of 6.6 %
    dropout    dropout 0.5 of every shortcut                                              fails to converge
    no_relu    no relu after the sum, as in many a blog's residual block
    one_layer  a shortcut around every convolution, at equal depth      table 3, "1-layer skip": 9.9 % instead of 6.6 %
(Errors of the 110 layers on CIFAR-10.) They are for post-activated networks with shortcuts.
"""

from dataclasses import replace

from torch import nn

from videores.models.design import Design
from videores.models.resnet import Residual, ResNet, make_pointwise


class _ResidualScale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def create_control(num_classes: int, design: Design) -> ResNet:
    """Create the network of a design that has a control."""
    if design.control == "one_layer":
        twice = replace(design, layers=tuple(2 * n for n in design.layers))
        return ResNet(num_classes, twice, make_block=_make_single_layer)
    model = ResNet(num_classes, design)
    for block in [m for m in model.modules() if isinstance(m, Residual)]:
        _apply_control(design, block)
    return model


def _apply_control(design, block):
    shortcut = block.downsample or nn.Identity()
    if design.control == "scaled":
        block.downsample = nn.Sequential(shortcut, _ResidualScale(0.5))
    elif design.control == "dropout":
        block.downsample = nn.Sequential(shortcut, nn.Dropout(0.5))
    elif design.control == "conv1x1":
        block.downsample = make_pointwise(design, *block.channels, block.stride)
        nn.init.kaiming_normal_(block.downsample.weight, mode="fan_out", nonlinearity="relu")
    else:
        block.relu_after = False


def _make_single_layer(d, cin, planes, stride, wide, point):
    return [(wide(cin, planes, stride), planes)]
