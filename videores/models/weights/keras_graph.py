"""Describe the graph of a residual network that Keras 3 saved, layer by layer, in words.

A layer of ours that computes the same has the same words, so two networks are compared as texts, and the first layer
that differs can be shown to the user.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from videores.errors import UserError

GROUPS = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}  # layers with variables
SILENT = ("InputLayer", "Dropout", "SpatialDropout2D")  # do nothing in evaluation
SUM, MEAN, CLASSIFIER = "sum", "mean over height and width", "classifier"


class Layer(NamedTuple):
    """Hold a layer of the file."""

    name: str
    kind: str  # Keras's class
    config: dict[str, Any]
    inputs: tuple[str, ...]
    group: str  # of its variables


class Step(NamedTuple):
    """A layer in words."""

    text: str
    name: str
    layer: Layer | None = None


def describe_file(path: str, config: Any) -> list[Step]:
    """Return the steps of a network: of a block the branch, the shortcut, then their sum.

    Raises UserError where the topology is none of a residual network, or not as Keras 3 writes it.
    """
    try:
        layers = _list_layers(path, config)
        return list(_describe_layers([layers[name] for name in _order_layers(path, layers)]))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"its topology is not as Keras 3 writes it ({type(error).__name__}: {error}); save it again"
        raise UserError(f"{path}: {what}") from None


def _list_layers(path, config):
    """Return {name: layer} of a functional network, each after its inputs."""
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
        inputs = tuple(_find_inputs(entry["inbound_nodes"]))
        if later := [other for other in inputs if other not in layers]:
            raise UserError(f"{path}: layer {name} has the input {later[0]}, which is not before it")
        layers[name] = Layer(name, kind, entry["config"], inputs, group)
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


def _order_layers(path, layers):
    """Return the names of the layers in the order of steps."""
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
    return names


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
            yield Step(_describe_layer(layer, written), layer.name, layer)
            if layer.kind == "Conv2D" and layer.config["activation"] == "relu":
                yield Step("relu", layer.name)
            written = 0


def _describe_layer(layer, written):
    """Return a layer in words, ours where it is one that our networks have."""
    c, kind = layer.config, layer.kind
    if c.get("data_format") not in (None, "channels_last"):
        return f"{kind} of channels before pixels (data_format={c['data_format']})"
    if kind == "Conv2D" and c["groups"] == 1 and c["dilation_rate"] == [1, 1] and c["activation"] in ("linear", "relu"):
        padding = _describe_padding(c, c["kernel_size"], written)
        return describe_conv(c["filters"], c["kernel_size"], c["strides"], padding, c["use_bias"])
    if kind == "MaxPooling2D":
        return describe_pool(c["pool_size"], c["strides"], _describe_padding(c, c["pool_size"], written))
    if written:
        return f"{kind} of a padded input"
    if kind == "BatchNormalization" and c["axis"] in (3, -1):
        return "batch norm"
    if kind == "ReLU" and not c["max_value"] and not c["negative_slope"] and not c["threshold"]:
        return "relu"
    if kind == "Activation":
        return c["activation"]
    if kind == "Add" and len(layer.inputs) == 2:
        return SUM
    if kind == "GlobalAveragePooling2D" and not c["keepdims"]:
        return MEAN
    if kind == "Dense" and c["activation"] in ("softmax", "linear"):
        return CLASSIFIER
    return f"{kind} {c.get('activation', '')}".strip()


def _describe_padding(config, size, written):
    """Say how many pixels are written around a picture; "same" where that depends on its size."""
    if config["padding"] == "valid" or max(size) == 1:
        return written
    if written:
        return f"same after {written}"
    return "same" if max(config["strides"]) > 1 else size[0] // 2


def describe_conv(channels: int, size: Any, strides: Any, padding: int | str, bias: bool) -> str:
    """Return a convolution in words."""
    shape = f"{size[0]}x{size[1]} convolution to {channels} channels, strides {tuple(strides)}"
    return f"{shape}, padding {padding}, {'with' if bias else 'without'} bias"


def describe_pool(size: Any, strides: Any, padding: int | str) -> str:
    """Return a maximum over pixels in words."""
    return f"maximum of {size[0]}x{size[1]}, strides {tuple(strides)}, padding {padding}"
