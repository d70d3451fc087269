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

from videores.errors import UserError
from videores.models.resnet import Residual, ResNet, make_pointwise

CONTROLS = ("scaled", "conv1x1", "dropout", "no_relu", "one_layer")


class _ResidualScale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def create_control(control, num_classes, design):
    """Create the network with a control, one of CONTROLS.

    Raises UserError where it makes no sense.
    """
    if design.preact or design.shortcut == "none":
        raise UserError(f"control={control} changes the shortcut of a post-activated block, and there is none")
    if control == "one_layer":
        return _create_single_layer(num_classes, design)
    if control == "no_relu" and design.pool == "gem":
        raise UserError("pool=gem needs features that are not negative, and control=no_relu lets them be")
    model = ResNet(num_classes, design)
    for block in [m for m in model.modules() if isinstance(m, Residual)]:
        _apply_control(control, design, block)
    return model


def _apply_control(control, design, block):
    shortcut = block.downsample or nn.Identity()
    if control == "scaled":
        block.downsample = nn.Sequential(shortcut, _ResidualScale(0.5))
    elif control == "dropout":
        block.downsample = nn.Sequential(shortcut, nn.Dropout(0.5))
    elif control == "conv1x1":
        block.downsample = make_pointwise(design, *block.channels, block.stride)
        nn.init.kaiming_normal_(block.downsample.weight, mode="fan_out", nonlinearity="relu")
    else:
        block.relu_after = False


def _create_single_layer(num_classes, design):
    if design.deep:
        raise UserError("control=one_layer is for basic blocks: a bottleneck's 1x1 convolutions need the wide one")
    return ResNet(
        num_classes, replace(design, layers=tuple(2 * n for n in design.layers)), make_block=_make_single_layer
    )


def _make_single_layer(d, cin, planes, stride, wide, point):
    return [(wide(cin, planes, stride), planes)]
