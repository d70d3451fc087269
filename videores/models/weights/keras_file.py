"""Read residual networks that Keras 3 saved (.keras files), without Keras and without running code.

The file holds the network as a graph of layers, and their variables. The graph must be that of our network: the first
layer that differs is named. Kernels HWIO become OIHW. Keras pads strided convolutions (`padding="same"`) otherwise than
torch; model.padding=same does so too.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, product, zip_longest
from typing import Any

import numpy as np
import torch
from torch import nn

from videores.errors import UserError
from videores.models.resnet import ResNet
from videores.models.weights.keras_graph import (
    CLASSIFIER,
    GROUPS,
    MEAN,
    SUM,
    Step,
    describe_conv,
    describe_file,
    describe_pool,
)
from videores.models.weights.safe_load import check_local_path

CONFIG, VARIABLES = "config.json", "model.weights.h5"
USUAL = "Keras's files do not say; the ImageNet weights of keras.applications take BGR: docs/guide/weights.md"
OPTIONS: dict[str, Sequence[Any]] = {  # those that are tried for a network that does not fit
    "bias": (False, True),
    "padding": ("symmetric", "same"),
    "stride_in": ("conv2", "conv1"),
    "stem": ("pool", "nopool", "small", "cifar"),
    "block": ("basic", "bottleneck"),
}


def read_network(path: str, model: nn.Module) -> tuple[dict[str, torch.Tensor], float]:
    """Return the weights of a file under the names of the model, and the epsilon of its norms.

    Raises UserError that names the first layer that differs from the model's.
    """
    if not isinstance(model, ResNet) or model.dim != 2 or model.design.fold or model.design.preact:
        raise UserError(f"keras:{path} is for 2D networks of post-activated blocks, such as f_r2d_18: give model.name")
    config, variables = _open(path)
    theirs, ours = describe_file(path, config), list(_describe_model(model))
    if theirs and theirs[-1].text == "softmax":  # a layer of its own
        theirs.pop()
    _check_same_steps(path, theirs, ours, model)
    state: dict[str, torch.Tensor] = {}
    for their, own in zip(theirs, ours, strict=True):
        if their.layer and their.layer.kind in GROUPS:
            arrays = _read_variables(path, variables, their.layer)
            state |= {f"{own.name}.{key}": value for key, value in _convert(their.layer, arrays).items()}
    return state, _find_eps(path, theirs)


def _open(path):
    """Return the parsed topology and the open file of variables."""
    try:
        import h5py
    except ImportError:
        raise UserError("files of Keras need h5py: pip install 'videores[keras]'") from None
    check_local_path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            config, variables = json.loads(archive.read(CONFIG)), h5py.File(io.BytesIO(archive.read(VARIABLES)))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        what = "is no whole .keras file (.h5 files do not hold the network); in Keras, model.save('x.keras') writes one"
        raise UserError(f"{path} {what} ({error})") from None
    return config, variables


# Our network


def _describe_model(model: Any) -> Iterator[Step]:
    for name in model.first:
        yield _describe_module(name, model.get_submodule(name))
    for stage in model.stages:
        for number, block in enumerate(model.get_submodule(stage)):
            prefix = f"{stage}.{number}"
            for name in block.branch:
                yield _describe_module(f"{prefix}.{name}", getattr(block, name))
            shortcut = block.downsample
            parts = shortcut.named_children() if isinstance(shortcut, nn.Sequential) else [("", shortcut)]
            for name, module in parts if shortcut is not None else ():
                yield _describe_module(f"{prefix}.downsample.{name}", module)
            yield Step(SUM, prefix)
            yield Step("relu", prefix)
    yield Step(MEAN, "the end of the stages")
    yield Step(CLASSIFIER, "fc")


def _describe_module(name, module):
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        padding = getattr(module, "style", module.padding[0])
        bias = module.bias is not None
        return Step(describe_conv(module.out_channels, module.kernel_size, module.stride, padding, bias), name)
    if isinstance(module, nn.MaxPool2d):
        size, stride, padding = module.kernel_size, module.stride, getattr(module, "style", module.padding)
        return Step(describe_pool((size, size), (stride, stride), padding), name)
    if isinstance(module, nn.BatchNorm2d):
        return Step("batch norm", name)
    return Step("relu" if isinstance(module, nn.ReLU) else type(module).__name__, name)


def _check_same_steps(path, theirs, ours, model):
    end = Step("nothing", "its end")
    for their, own in zip_longest(theirs, ours, fillvalue=end):
        if their.text != own.text:
            what = f"layer {their.name} is {their.text}, and {own.name} is {own.text}"
            fitting = _find_fitting_options(theirs, model)
            advice = f"it fits with {' '.join(fitting)}" if fitting else "no option of the network makes it fit"
            raise UserError(f"{path} is another network: {what}; {advice}")


def _find_fitting_options(theirs, model):
    """Return the options with which the model has the steps of a file; none where no choice of OPTIONS does."""
    filters = [step.layer.config["filters"] for step in theirs if step.layer and step.layer.kind == "Conv2D"]
    layers = tuple(len(list(run)) for _, run in groupby(_list_block_channels(theirs)))
    own = replace(model.design, bias=bool(model.design.bias))
    if not filters or not 1 <= len(layers) <= 4 or own.groups > 1 or own.base_width:
        return []
    for choice in product(*OPTIONS.values()):
        options = {**dict(zip(OPTIONS, choice, strict=True)), "layers": layers, "width": filters[0], "shortcut": "B"}
        with torch.device("meta"):
            other = ResNet(model.fc.out_features, replace(own, **options))
        if [step.text for step in _describe_model(other)] == [step.text for step in theirs]:
            changed = {key: value for key, value in options.items() if value != getattr(own, key)}
            values = {key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()}
            return [f"model.{key}={str(value).lower()}" for key, value in values.items()]
    return []


def _list_block_channels(steps):
    """Yield the channels that each block puts out."""
    filters = 0
    for step in steps:
        if step.layer and step.layer.kind == "Conv2D":
            filters = step.layer.config["filters"]
        elif step.text == SUM:
            yield filters


# Variables


def _read_variables(path, variables, layer):
    try:
        group = variables[f"layers/{layer.group}/vars"]
        arrays = [np.asarray(group[str(number)]) for number in range(len(group))]
    except (KeyError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} has no variables of layer {layer.name} that can be read ({error})") from None
    found, due = [(array.ndim, array.dtype.kind) for array in arrays], [(n, "f") for n in _list_dimensions(layer)]
    if found != due:
        what = "has variables of other shapes or types (it may be quantised)"
        raise UserError(f"{path}: layer {layer.name} {what}: {[f'{a.dtype} {a.shape}' for a in arrays]}")
    return [array.astype(np.float32) for array in arrays]


def _list_dimensions(layer):
    """Return how many dimensions each variable of a layer has."""
    if layer.kind == "BatchNormalization":
        return [1] * (layer.config["scale"] + layer.config["center"] + 2)
    return [{"Conv2D": 4, "Dense": 2}[layer.kind], *[1] * layer.config["use_bias"]]


def _convert(layer, arrays):
    """Return the tensors of a layer under torch's names."""
    tensors, config = list(map(torch.from_numpy, arrays)), layer.config
    if layer.kind == "Conv2D":
        tensors[0] = tensors[0].permute(3, 2, 0, 1).contiguous()
        return dict(zip(("weight", "bias"), tensors, strict=False))
    if layer.kind == "Dense":
        weight = tensors[0].T.contiguous()
        return {"weight": weight, "bias": tensors[1] if len(tensors) > 1 else torch.zeros(len(weight))}
    mean, var = tensors[-2:]
    found = iter(tensors[:-2])
    weight = next(found) if config["scale"] else torch.ones_like(mean)
    bias = next(found) if config["center"] else torch.zeros_like(mean)
    return {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}


def _find_eps(path, steps):
    eps = {step.layer.config["epsilon"]: step.name for step in steps if step.text == "batch norm"}
    if len(eps) > 1:
        raise UserError(f"{path}: its norms must have one epsilon, got {eps}")
    return next(iter(eps), 1e-5)
