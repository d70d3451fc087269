"""Networks by name: create_model("r2plus1d_18", num_classes=101), clips_BCTHW -> logits_BN."""

from difflib import get_close_matches

from videores.errors import UserError
from videores.models.resnet import MODELS, ResNet, conv2plus1d
from videores.models.temporal import POOLS

__all__ = ["MODELS", "OVERRIDES", "create_model"]


def create_model(name: str, num_classes: int, **overrides) -> ResNet:
    """The network called `name`, one of MODELS, with random weights; `overrides` are those of OVERRIDES.

    It maps floating-point clips_BCTHW to float32 logits_BN; `features` and `head` are its two halves.
    """
    check_known("model", name, MODELS)
    row = MODELS[name]
    require(is_count(num_classes), f"num_classes must be a whole number of at least 1, got {num_classes!r}")
    for key, value in overrides.items():
        check_known("model option", key, OVERRIDES)
        allowed, is_valid = OVERRIDES[key]
        require(is_valid(value), f"{key} must be {allowed}, got {value!r}")
    if "mid" in overrides and conv2plus1d not in row["convs"]:
        raise UserError(f"mid is the inner width of (2+1)D convolutions; {name} has none, only r2plus1d_* do")
    if overrides.get("stem") == "default":
        del overrides["stem"]
    return ResNet(num_classes, **{**row, **overrides})


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_layers(value):
    return isinstance(value, (list, tuple)) and 1 <= len(value) <= 4 and all(map(is_count, value))


def is_probability(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


def one_of(*allowed):
    return "one of " + ", ".join(allowed), lambda value: value in allowed


# key -> what is allowed, in words, and as a test
OVERRIDES = {
    "layers": ("the blocks of 1 to 4 stages, each at least 1, such as [2, 2, 2, 2]", is_layers),
    "width": ("a whole number of at least 1 (channels of the first stage)", is_count),
    "stem": one_of("default", "nopool", "small"),
    "mid": one_of("torchvision", "paper"),
    "pool": one_of(*POOLS),
    "dropout": ("a number from 0 to below 1", is_probability),
}


def check_known(what, name, known):
    if name not in known:
        nearest = get_close_matches(str(name), known, n=1, cutoff=0)[0]
        raise UserError(f"unknown {what} {name!r}; did you mean {nearest!r}? There are: {', '.join(known)}")


def require(holds, message):
    if not holds:
        raise UserError(message)
