"""Detect architecture mismatches that tensor shapes do not reveal.

Such are a stem without max-pool, a temporal shift, other strides.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from videores.config.parse import build_section
from videores.config.schema import ModelConfig, NetworkConfig
from videores.errors import UserError
from videores.models import create_model
from videores.models.fusion import FusionNetwork
from videores.runtime.own_parts import is_import_path

# Keys that show in shapes, or say nothing about what a trained network answers.
HARMLESS_OPTIONS = (
    "layers",
    "base_width",
    "widths",
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
    ours = getattr(model, "import_path", f"pytorchvideo/{model.builder}" if hasattr(model, "builder") else None)
    # a network of an import path is not made for that: a file names it, and may be of anybody
    if ours or "pytorchvideo/" in theirs["name"] or is_import_path(theirs["name"]):
        return _compare_options({"name": theirs["name"]}, {"name": ours or theirs["name"]})
    options = {key: value for key, value in theirs.items() if key in NetworkConfig.model_fields}
    try:
        network = build_section(ModelConfig, options, "the weights")
        with torch.device("meta"):
            trained = create_model(network.name, 2, **network.overrides())
    except UserError as error:
        return [f"the network that it was trained in is not made any more: {error}"]
    if isinstance(trained, FusionNetwork) or isinstance(model, FusionNetwork):
        return _compare_fusions(trained, model)
    return _compare_options(*_list_options(trained, model))


def _list_options(trained, model):
    a, b = ({k: v for k, v in asdict(m.design).items() if k not in HARMLESS_OPTIONS} for m in (trained, model))
    if a["fold"] == b["fold"] and trained.dim != model.dim:
        del a["conv"]  # inflated
    return a, b


def _compare_fusions(trained, model):
    """Return a line for each difference of networks of several streams, or of one and one of several."""
    theirs, ours = (
        {"streams": list(getattr(m, "streams", ())), "fusion": getattr(m, "fusion", None)} for m in (trained, model)
    )
    if theirs != ours:
        return _compare_options(theirs, ours)
    pairs = {name: _list_options(trained.streams[name], model.streams[name]) for name in trained.streams}
    return [line for name, (a, b) in pairs.items() for line in _compare_options(a, b, f"model.streams.{name}")]


def _compare_options(theirs, ours, where="model"):
    return [
        f"{where}.{key} is {_format_option(ours[key])} here, {_format_option(value)} where it was trained"
        for key, value in theirs.items()
        if ours[key] != value
    ]


def _format_option(value):
    return "null" if value is None else list(value) if isinstance(value, tuple) else value
