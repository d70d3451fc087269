"""Read residual networks that Keras 3 saved (.keras files), without Keras and without running code.

The file holds the network as a graph of layers and their variables. The graph must be that of our network, layer by
layer; each layer is described in words, and the first that differs is named. Kernels HWIO become OIHW. Keras pads
strided convolutions (`padding="same"`) otherwise than torch, which model.padding=same does too.
"""

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from videores.errors import UserError
from videores.models.resnet import ResNet
from videores.models.weights.safe_load import check_local_path

CONFIG, VARIABLES = "config.json", "model.weights.h5"
GROUPS = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}  # names in VARIABLES
SILENT = ("InputLayer", "Dropout", "SpatialDropout2D")  # do nothing in evaluation
USUAL = "Keras's files do not say; the ImageNet weights of keras.applications take BGR: docs/guide/weights.md"


class _Layer(NamedTuple):
    name: str
    kind: str  # Keras's class
    config: dict[str, Any]
    inputs: tuple[str, ...]
    group: str  # of its variables


class _Step(NamedTuple):
    """A layer in words, which are the same for a layer of ours that computes the same."""

    text: str
    name: str
    layer: _Layer | None = None


def read_network(path: str, model: nn.Module) -> tuple[dict[str, torch.Tensor], float]:
    """Return the weights of a file under the names of the model, and the epsilon of its norms.

    Raises UserError that names the first layer that differs from the model's.
    """
    if not isinstance(model, ResNet) or model.dim != 2 or model.design.fold or model.design.preact:
        raise UserError(f"keras:{path} is for 2D networks of post-activated blocks, such as f_r2d_18: give model.name")
    config, variables = _open(path)
    theirs, ours = _describe_file(path, config), list(_describe_model(model))
    _check_same_steps(path, theirs, ours)
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


# Their graph


def _describe_file(path, config):
    """Return the steps of a network. Raises UserError where the topology is not as Keras 3 writes it."""
    try:
        return _describe_graph(path, _list_layers(path, config))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"{CONFIG} is not as Keras 3 writes it ({type(error).__name__}: {error}); save it again"
        raise UserError(f"{path}: {what}") from None


def _list_layers(path, config):
    """Return {name: layer} of a functional network."""
    if config["class_name"] != "Functional":
        raise UserError(f"{path} holds a {config['class_name']}, and only functional networks of Keras are read")
    counts = defaultdict(int)
    layers = {}
    for entry in config["config"]["layers"]:
        kind, name = entry["class_name"], entry["config"]["name"]
        group = f"{GROUPS.get(kind, kind)}_{counts[kind]}" if counts[kind] else GROUPS.get(kind, kind)
        counts[kind] += 1
        if len(entry["inbound_nodes"]) > 1:
            raise UserError(f"{path}: layer {name} is used in {len(entry['inbound_nodes'])} places, which is not read")
        layers[name] = _Layer(name, kind, entry["config"], tuple(_find_inputs(entry["inbound_nodes"])), group)
        if later := [other for other in layers[name].inputs if other not in layers]:
            raise UserError(f"{path}: layer {name} has the input {later[0]}, which is not before it")
    return layers


def _find_inputs(value: Any) -> Iterator[str]:
    """Yield the names of layers in a nested entry of inbound nodes."""
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]["keras_history"][0]
    elif isinstance(value, Mapping):
        yield from _find_inputs(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _find_inputs(one)


def _describe_graph(path, layers):
    """Return the steps of the graph in order: of a block the branch, then the shortcut, then their sum."""
    followers = defaultdict(list)
    for layer in layers.values():
        for name in layer.inputs:
            followers[name].append(layer.name)
    starts = [layer.name for layer in layers.values() if layer.kind == "InputLayer"]
    if len(starts) != 1:
        raise UserError(f"{path} must have one input, got {', '.join(starts) or 'none'}")
    names, at = [], starts[0]
    while after := followers[at]:
        paths = [_follow_to_sum(path, layers, followers, name) for name in after] if len(after) > 1 else [after]
        if len({one[-1] for one in paths}) > 1 or len(paths) > 2:
            raise UserError(f"{path}: what follows layer {at} is no residual block, a branch and a shortcut: {after}")
        longest, *others = sorted(paths, key=len, reverse=True)
        names += [*longest[:-1], *(name for one in others for name in one[:-1]), longest[-1]]
        at = longest[-1]
    return list(_describe_layers([layers[name] for name in names]))


def _follow_to_sum(path, layers, followers, name):
    names = [name]
    while layers[name].kind != "Add":
        if len(followers[name]) != 1:
            raise UserError(f"{path}: layer {name} is within a block, and {len(followers[name])} layers follow it")
        name = followers[name][0]
        names.append(name)
    return names


def _describe_layers(layers):
    written = 0  # zeros written by a ZeroPadding2D before
    for layer in layers:
        if layer.kind == "ZeroPadding2D":
            sides = {side for pair in layer.config["padding"] for side in pair}
            written = sides.pop() if len(sides) == 1 else tuple(map(tuple, layer.config["padding"]))
            continue
        if layer.kind not in SILENT:
            yield _Step(_describe_layer(layer, written), layer.name, layer)
            if layer.kind == "Conv2D" and layer.config["activation"] == "relu":
                yield _Step("relu", layer.name)
            written = 0


def _describe_layer(layer, written):
    """Return a layer in words, those of `_describe_module` where it is one that our networks have."""
    c, kind = layer.config, layer.kind
    if c.get("data_format") not in (None, "channels_last"):
        return f"{kind} of channels before pixels (data_format={c['data_format']})"
    if kind == "Conv2D" and c["groups"] == 1 and c["dilation_rate"] == [1, 1] and c["activation"] in ("linear", "relu"):
        padding = _describe_padding(c, c["kernel_size"], written)
        return _describe_conv(c["filters"], c["kernel_size"], c["strides"], padding, c["use_bias"])
    if kind == "MaxPooling2D":
        return _describe_pool(c["pool_size"], c["strides"], _describe_padding(c, c["pool_size"], written))
    if written:
        return f"{kind} of a padded input"
    if kind == "BatchNormalization" and c["axis"] in (3, -1):
        return "batch norm"
    if kind == "ReLU" and not c["max_value"] and not c["negative_slope"] and not c["threshold"]:
        return "relu"
    if kind == "Activation":
        return c["activation"]
    if kind == "Add" and len(layer.inputs) == 2:
        return "sum"
    if kind == "GlobalAveragePooling2D" and not c["keepdims"]:
        return "mean over height and width"
    if kind == "Dense" and c["activation"] in ("softmax", "linear"):
        return "classifier"
    return f"{kind} {c.get('activation', '')}".strip()


def _describe_padding(config, size, written):
    """Say how many pixels are written around a picture; "same" where that depends on its size."""
    if config["padding"] == "valid" or max(size) == 1:
        return written
    if written:
        return f"same after {written}"
    return "same" if max(config["strides"]) > 1 else size[0] // 2


def _describe_conv(channels, size, strides, padding, bias):
    shape = f"{size[0]}x{size[1]} convolution to {channels} channels, strides {tuple(strides)}"
    return f"{shape}, padding {padding}, {'with' if bias else 'without'} bias"


def _describe_pool(size, strides, padding):
    return f"maximum of {size[0]}x{size[1]}, strides {tuple(strides)}, padding {padding}"


# Our network


def _describe_model(model):
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
            yield _Step("sum", prefix)
            yield _Step("relu", prefix)
    yield _Step("mean over height and width", "the end of the stages")
    yield _Step("classifier", "fc")


def _describe_module(name, module):
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        padding = getattr(module, "style", module.padding[0])
        bias = module.bias is not None
        return _Step(_describe_conv(module.out_channels, module.kernel_size, module.stride, padding, bias), name)
    if isinstance(module, nn.MaxPool2d):
        size, stride, padding = module.kernel_size, module.stride, getattr(module, "style", module.padding)
        return _Step(_describe_pool((size, size), (stride, stride), padding), name)
    if isinstance(module, nn.BatchNorm2d):
        return _Step("batch norm", name)
    return _Step("relu" if isinstance(module, nn.ReLU) else type(module).__name__, name)


def _check_same_steps(path: str, theirs: list[_Step], ours: Sequence[_Step]) -> None:
    if theirs and theirs[-1].text == "softmax":  # a layer of its own
        theirs.pop()
    end = _Step("nothing", "its end")
    for their, own in zip_longest(theirs, ours, fillvalue=end):
        if their.text != own.text:
            raise UserError(
                f"{path} is another network: layer {their.name} is {their.text}, and {own.name} is {own.text}; "
                "see model.layers, width, bias, padding and stride_in"
            )


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
