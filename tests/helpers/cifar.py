"""A residual network for CIFAR-10 in plain torch, apart from ours, and its archives."""

import pickle
import struct

import numpy as np
from torch import nn
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


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


# Archives, as they are distributed


def make_batches(count=6, seed=0):
    """{name: (labels, pixels_NCHW)} of the five training batches and the test batch."""
    generator = np.random.default_rng(seed)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    draw = lambda place: (
        np.arange(place, place + count) % 10,
        generator.integers(0, 256, (count, 3, 32, 32), np.uint8),
    )
    return {name: draw(place) for place, name in enumerate(names)}


def write_binary(root, batches):
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, (labels, pixels) in batches.items():
        rows = np.concatenate([labels[:, None].astype(np.uint8), pixels.reshape(len(labels), -1)], 1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return folder


def write_python(root, batches, order="C"):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, (labels, pixels) in batches.items():
        content = pickle_batch(labels, pixels, order)
        read = pickle.loads(content, encoding="bytes")  # the crafted pickle is what Python 2 wrote
        assert read[b"labels"] == labels.tolist()
        np.testing.assert_array_equal(read[b"data"], pixels.reshape(len(labels), -1))
        (folder / name).write_bytes(content)
    names = b"".join(pickle_string(name.encode()) for name in CLASSES)
    (folder / "batches.meta").write_bytes(b"\x80\x02}(U\x0blabel_names](" + names + b"eU\x07num_visM\x00\x0cu.")
    return folder


def pickle_batch(labels, pixels, order):
    """The bytes that Python 2's cPickle writes in protocol 2, its strings as bytes."""
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"K\x01" + b"M" + struct.pack("<H", len(labels)) + b"M\x00\x0c\x86"
    raw = b"T" + struct.pack("<i", pixels.size) + pixels.reshape(len(labels), -1).tobytes(order)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
        + shape
        + kind
        + (b"\x88" if order == "F" else b"\x89")
        + raw
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    files = b"](" + b"".join(pickle_string(f"cat_s_{n:06}.png".encode()) for n in range(len(labels))) + b"e"
    entries = b"U\x0bbatch_labelU\x01xU\x06labels" + listed + b"U\x04data" + array + b"tbU\x09filenames" + files
    return b"\x80\x02}(" + entries + b"u."


def pickle_string(text):
    return b"U" + bytes([len(text)]) + text
