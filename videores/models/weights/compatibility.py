"""Whether weights were trained in the network that they are loaded into, where the shapes of tensors do not show it: a
stem without max-pool, a temporal shift, other strides.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from videores.errors import UserError
from videores.models import OVERRIDES, create_model
from videores.models.resnet import Residual

# Keys that show in shapes, or say nothing about what a trained network answers.
HARMLESS_OPTIONS = (
    "layers",
    "base_width",
    "drop_path",
    "dropout",
    "spatial_dropout",
    "checkpoint",
    "zero_init",
    "frames",
)


def find_differences(network: Mapping[str, Any] | None, model: nn.Module) -> list[str]:
    """Return a line for each way in which the model differs from the weights' network."""
    if not network:
        return []
    if "name" in network:
        return _find_run_differences(network, model)
    theirs = {key: value for key, value in network.items() if hasattr(model, "design")}
    return _compare_options(theirs, {key: getattr(model.design, key) for key in theirs})


def _find_run_differences(theirs, model):
    if "pytorchvideo/" in theirs["name"] or hasattr(model, "builder"):
        ours = f"pytorchvideo/{model.builder}" if hasattr(model, "builder") else theirs["name"]
        return _compare_options({"name": theirs["name"]}, {"name": ours})
    options = {key: value for key, value in theirs.items() if key in OVERRIDES and value is not None}
    try:
        with torch.device("meta"):
            trained = create_model(theirs["name"], 2, **options)
    except UserError as error:
        return [f"the network that it was trained in is not made any more: {error}"]
    a, b = ({k: v for k, v in asdict(m.design).items() if k not in HARMLESS_OPTIONS} for m in (trained, model))
    if a["fold"] == b["fold"] and trained.dim != model.dim:
        del a["conv"]  # inflated
    same = _compare_options(a, b) or _list_shortcuts(trained) == _list_shortcuts(model)
    control = f"model.control is another than where it was trained, {theirs.get('control') or 'null'}"
    return _compare_options(a, b) + ([] if same else [control])


def _list_shortcuts(model):
    """List how the blocks add their shortcuts, which a control changes."""
    return [(_list_leaves(m.downsample), m.relu_after) for m in model.modules() if isinstance(m, Residual)]


def _list_leaves(shortcut):
    """Without the kind of batch norms: those that are synchronised are the same network."""
    found = [] if shortcut is None else [module for module in shortcut.modules() if not list(module.children())]
    return ["batch norm" if isinstance(module, _BatchNorm) else repr(module) for module in found]


def _compare_options(theirs, ours):
    return [
        f"model.{key} is {_format_option(ours[key])} here, {_format_option(value)} where it was trained"
        for key, value in theirs.items()
        if ours[key] != value
    ]


def _format_option(value):
    return "null" if value is None else list(value) if isinstance(value, tuple) else value
