"""Create networks by name."""

import re

from torch import nn

from videores.errors import UserError, format_suggestion
from videores.models import controls, design
from videores.models.resnet import MODELS, ResNet, make_cifar

__all__ = ["MODELS", "OVERRIDES", "create_model"]

CIFAR_NAME = re.compile(r"cifar(2d|3d)_(\d+)")
OVERRIDES = {**design.OPTIONS, "control": design.make_choice_rule(*controls.CONTROLS)}


def create_model(name: str, num_classes: int, **overrides) -> nn.Module:
    """Create the network called `name`, with random weights.

    `overrides` are those of OVERRIDES.

    Names are those of MODELS, CIFAR networks of other depths (cifar2d_38) and pytorchvideo/<builder>. It maps
    float32 clips_BCTHW to float32 logits_BN; ours have two halves, `features` and `head`. Raises UserError.
    """
    check(design.is_count(num_classes), f"num_classes must be a whole number of at least 1, got {num_classes!r}")
    if str(name).startswith("pytorchvideo/"):
        from videores.models import pytorchvideo  # pytorchvideo takes a second to import

        check(not set(overrides) - {"dropout"}, f"{name} takes dropout and no other override, got {list(overrides)}")
        return pytorchvideo.create_zoo_model(name, num_classes, **overrides)
    for key, value in overrides.items():
        _check_known_name("model option", key, OVERRIDES)
        allowed, is_valid = OVERRIDES[key]
        check(is_valid(value), f"{key} must be {allowed}, got {value!r}")
    control = overrides.pop("control", None)
    ignored = control == "conv1x1" and "shortcut" in overrides
    check(not ignored, "control=conv1x1 replaces every shortcut: leave shortcut out")
    chosen = design.apply_overrides(name, _find_row(name, overrides.get("block")), overrides)
    return controls.create_control(control, num_classes, chosen) if control else ResNet(num_classes, chosen)


def _find_row(name, block=None):
    """Return a row of MODELS, or a CIFAR network of any depth.

    Its name counts the layers whatever the blocks are.
    """
    match = CIFAR_NAME.fullmatch(str(name))
    if not match:
        _check_known_name("model", name, MODELS, ", cifar2d_<layers>, cifar3d_<layers>, pytorchvideo/<builder>")
        return MODELS[name]
    return make_cifar(match[1], int(match[2]), block or "basic")


def _check_known_name(what, name, known, more=""):
    if name not in known:
        hint = format_suggestion(str(name), known)
        raise UserError(f"unknown {what} {name!r}{hint}; there are: {', '.join(known)}{more}")


def check(holds, message):
    if not holds:
        raise UserError(message)
