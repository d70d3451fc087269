"""Create networks by name."""

import re
from typing import Any

from torch import nn

from videores.config.parse import build_section
from videores.config.schema import NetworkConfig
from videores.errors import UserError, format_suggestion
from videores.models import controls, design
from videores.models.resnet import MODELS, ResNet, make_cifar

CIFAR_NAME = re.compile(r"cifar(2d|3d)_(\d+)")


def create_model(name: str, num_classes: int, **overrides: Any) -> nn.Module:
    """Create the network called `name`, with random weights.

    `overrides` are of config.network.NetworkOptions; None changes nothing.

    Names are those of MODELS, CIFAR networks of other depths (cifar2d_38) and pytorchvideo/<builder>. It maps
    float32 clips_BCTHW to float32 logits_BN; ours have two halves, `features` and `head`. Raises UserError.
    """
    if type(num_classes) is not int or num_classes < 1:
        raise UserError(f"num_classes must be a whole number of at least 1, got {num_classes!r}")
    network = build_section(NetworkConfig, {"name": name, **overrides}, f"model {name}")
    changes = network.model_dump(exclude={"name"}, exclude_none=True)
    if network.name.startswith("pytorchvideo/"):
        from videores.models import pytorchvideo  # pytorchvideo takes a second to import

        if set(changes) - {"dropout"}:
            raise UserError(f"{name} takes dropout and no other override, got {list(changes)}")
        return pytorchvideo.create_zoo_model(name, num_classes, **changes)
    chosen = design.apply_overrides(name, _find_row(name, changes.get("block", "basic")), changes)
    return (controls.create_control if chosen.control else ResNet)(num_classes, chosen)


def _find_row(name, block):
    """Return a row of MODELS, or a CIFAR network of any depth.

    Its name counts the layers whatever the blocks are.
    """
    if match := CIFAR_NAME.fullmatch(name):
        return make_cifar(match[1], int(match[2]), block)
    if name not in MODELS:
        from videores.models import pytorchvideo

        hint = format_suggestion(name, [*MODELS, *pytorchvideo.NAMES])
        more = ", cifar2d_<layers>, cifar3d_<layers>, pytorchvideo/<builder>"
        raise UserError(f"unknown model {name!r}{hint}; there are: {', '.join(MODELS)}{more}")
    return MODELS[name]
