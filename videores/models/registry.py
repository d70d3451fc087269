"""Create networks by name."""

import copy
import re
from typing import Any

import torch
from torch import nn

from videores.config.parse import build_section
from videores.config.schema import NetworkConfig
from videores.errors import UserError, format_suggestion
from videores.models import controls, design, pytorchvideo
from videores.models.fusion import create_fusion
from videores.models.resnet import MODELS, ResNet, make_cifar
from videores.models.widths import apply_widths
from videores.runtime.own_parts import call_part, is_import_path

CIFAR_NAME = re.compile(r"cifar(2d|3d)_(\d+)")


def create_model(name: str, num_classes: int, **overrides: Any) -> nn.Module:
    """Create the network called `name`, with random weights.

    `overrides` are of config.network.NetworkOptions; None changes nothing.

    Names are those of MODELS, CIFAR networks of other depths (cifar2d_38), pytorchvideo/<builder>, and import paths of
    a function that takes `num_classes` and the overrides, which runs code that is not of this package. It maps
    float32 clips_BCTHW to float32 logits_BN; ours have two halves, `features` and `head`. With `streams`,
    {stream: overrides}, it maps {stream: clips_BCTHW}. Raises UserError.
    """
    if type(num_classes) is not int or num_classes < 1:
        raise UserError(f"num_classes must be a whole number of at least 1, got {num_classes!r}")
    network = build_section(NetworkConfig, {"name": name, **overrides}, f"model {name}")
    changes = network.model_dump(exclude={"name"}, exclude_none=True)
    streams, fusion = changes.pop("streams"), changes.pop("fusion", None)
    if streams:
        return create_fusion(create_model, name, num_classes, streams, fusion or "joint", changes)
    if is_import_path(name):
        return _create_own_model(name, num_classes, changes)
    if network.name.startswith("pytorchvideo/"):
        if set(changes) - {"dropout", "widths"}:
            raise UserError(f"{name} takes dropout, widths and no other override, got {list(changes)}")
        model = pytorchvideo.create_zoo_model(name, num_classes, changes.get("dropout"))
    else:
        chosen = design.apply_overrides(name, _find_row(name, changes.get("block", "basic")), changes)
        model = (controls.create_control if chosen.control else ResNet)(num_classes, chosen)
    if "widths" in changes:
        apply_widths(model, changes["widths"], find_clip_shape(model))
    return model


def find_clip_shape(model: Any) -> tuple[int, ...]:
    """Return the shape of a clip that a network, ours or pytorchvideo's, takes."""
    if isinstance(model, ResNet):
        return (1, model.design.channels, model.design.frames or 8, 64, 64)
    frames, size = pytorchvideo.BUILDERS[model.builder]
    return (1, 3, frames, size, size)


def _create_own_model(path, num_classes, changes):
    model = call_part("model.name", path, num_classes=num_classes, **changes)
    if not isinstance(model, nn.Module):
        raise UserError(f"model.name={path} must return a torch.nn.Module, got {type(model).__name__}")
    for module in model.modules():
        pytorchvideo.replace_layers(module)
    model.import_path = path
    return model


def check_own_output(model: nn.Module, shape_BCTHW: tuple[int, ...], num_classes: int) -> None:
    """Check that a network of an import path maps clips_BCTHW to float logits_BN.

    It runs on torch's meta device, on which costs are counted, too. Raises UserError.
    """
    path = f"model.name={model.import_path}"
    try:
        with torch.no_grad():
            logits = copy.deepcopy(model).to("meta").eval()(torch.empty(shape_BCTHW, device="meta"))
    except Exception as error:  # of code that is not ours
        raise UserError(
            f"{path} must take clips {shape_BCTHW} on torch's meta device, without values: {error}"
        ) from error
    wanted = (shape_BCTHW[0], num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != wanted or not logits.is_floating_point():
        got = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(f"{path} must return float logits {wanted} of clips {shape_BCTHW}, got {got}")


def _find_row(name, block):
    """Return a row of MODELS, or a CIFAR network of any depth.

    Its name counts the layers whatever the blocks are.
    """
    if match := CIFAR_NAME.fullmatch(name):
        return make_cifar(match[1], int(match[2]), block)
    if name not in MODELS:
        hint = format_suggestion(name, [*MODELS, *pytorchvideo.NAMES])
        more = ", cifar2d_<layers>, cifar3d_<layers>, pytorchvideo/<builder>"
        raise UserError(f"unknown model {name!r}{hint}; there are: {', '.join(MODELS)}{more}")
    return MODELS[name]
