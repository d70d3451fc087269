"""Say what is removed from a network, check that it can be, and plan it in steps."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from torch import nn

from videores.compress import structured
from videores.config.schema import Config
from videores.errors import UserError
from videores.models.parts import split_into_parts
from videores.runtime.own_parts import is_import_path

ANY = object()
# (key of a design, value, why its channels cannot be pruned)
UNFOLLOWED = (
    ("shortcut", "A", "its shortcuts pad channels, which have to keep their order"),
    ("shift", ANY, "which channels are shifted depends on how many there are"),
    ("pool", "lstm", "its gates are not followed"),
    ("norm", "frozen", "its statistics could not adapt to the pruning"),
)
Target = Mapping[str, int] | float  # widths of layers, or the share that goes of what is there


class Pruning(NamedTuple):
    """What is removed from a trained network, and how it is chosen."""

    ratio: Mapping[str, float] | float  # share that goes: of every layer, or of those of a part
    # least important channels of each layer, or of the whole network; or single weights of the network
    scope: Literal["layer", "network", "weights"] = "layer"
    importance: Literal["magnitude", "bn"] = "magnitude"  # of a channel
    steps: int = 1


def parse_ratio(text: str) -> dict[str, float] | float:
    """Parse "0.5", or "layer1=0.25,layer2=0.5". Raises UserError."""
    try:
        if "=" not in text:
            return _check_ratio(float(text))
        return {part: _check_ratio(float(value)) for part, value in (pair.split("=") for pair in text.split(","))}
    except ValueError:
        raise UserError(f"--ratio must be a number, or part=number,part=number, got {text}: write 0.5") from None


def _check_ratio(value):
    if not 0 <= value < 1:
        raise UserError(f"--ratio must be from 0 to below 1, the share that goes, got {value:g}: lower it")
    return value


def check_pruning(cfg: Config, pruning: Pruning, model: nn.Module) -> None:
    """Raise UserError for a network that cannot be pruned so; `cfg` is of the training that follows."""
    for reason in _find_obstacles(cfg, pruning, getattr(model, "design", None)):
        raise UserError(reason)


def _find_obstacles(cfg: Config, pruning: Pruning, design: Any) -> Iterator[str]:
    train, weights = cfg.train, pruning.scope == "weights"
    if train.freeze or train.freeze_bn:
        key, off = ("train.freeze", "[]") if train.freeze else ("train.freeze_bn", "false")
        yield f"{key} must be off, or what is frozen could not adapt to the pruning: add {key}={off}"
    if pruning.scope != "layer" and isinstance(pruning.ratio, Mapping):
        yield f"--scope {pruning.scope} needs one --ratio, got ratios of parts: give a number"
    if weights and pruning.importance != "magnitude":
        yield "--importance is of channels, and --scope weights removes none: drop one"
    if is_import_path(cfg.model.name) and not weights:
        yield f"model.name={cfg.model.name}: an own network takes no plan of widths: use --scope weights"
    for key, value, reason in UNFOLLOWED if design and not weights else ():
        if getattr(design, key) == value or (value is ANY and getattr(design, key)):
            yield f"model.{key}={getattr(design, key)}: {reason}: train another network, or use --scope weights"
    if pruning.importance == "bn" and design and design.norm in ("group", "none"):
        yield f"--importance bn needs batch norms, got model.norm={design.norm}: use magnitude"


def plan_targets(model: nn.Module, pruning: Pruning) -> list[Target]:
    """Return what each step leaves, or takes of what is there by then."""
    shares = [step / pruning.steps for step in range(pruning.steps + 1)]
    if isinstance(pruning.ratio, Mapping) or pruning.scope == "layer":
        parts = [part for part in split_into_parts(model) if part not in structured.KEPT_PARTS]
        ratios = pruning.ratio if isinstance(pruning.ratio, Mapping) else dict.fromkeys(parts, pruning.ratio)
        by_step = [{part: ratio * share for part, ratio in ratios.items()} for share in shares[1:]]
        return [structured.plan_widths(model, ratios) for ratios in by_step]
    if pruning.scope == "weights":
        return [pruning.ratio * share for share in shares[1:]]
    left = [1 - pruning.ratio * share for share in shares]
    return [1 - after / before for before, after in pairwise(left)]
