"""A residual network for CIFAR-10 in plain torch, apart from ours, and its pictures."""

from torch import nn
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Its shortcut pads `before` of the new channels before the old ones: a share of them."""

    def __init__(self, cin, cout, before):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, cout // cin, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.stride, self.sides = cout // cin, (int(before * (cout - cin)), int((1 - before) * (cout - cin)))

    def forward(self, x_BCHW):
        y_BCHW = self.bn2(self.conv2(self.bn1(self.conv1(x_BCHW)).relu()))
        return (y_BCHW + F.pad(x_BCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.sides))).relu()


class CifarNet(nn.Module):
    """He et al. 2015, section 4.2; with before=0.5 as in akamaster/pytorch_resnet_cifar10, and with its names."""

    def __init__(self, blocks=3, before=0.5, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = {"layer1": (16, 16), "layer2": (16, 32), "layer3": (32, 64)}
        for name, (cin, cout) in widths.items():
            inputs = [cin] + [cout] * (blocks - 1)
            self.add_module(name, nn.Sequential(*(Block(width, cout, before) for width in inputs)))
        self.linear = nn.Linear(64, classes)

    def forward(self, x_BCHW):
        x_BCHW = self.bn1(self.conv1(x_BCHW)).relu()
        return self.linear(self.layer3(self.layer2(self.layer1(x_BCHW))).mean((2, 3)))


def rename_fc(state):
    """The names of akamaster's files from torchvision's, or the reverse."""
    names = {"fc": "linear", "linear": "fc"}
    rename = lambda key: ".".join(names.get(part, part) for part in key.split("."))
    return {rename(key): value for key, value in state.items()}
