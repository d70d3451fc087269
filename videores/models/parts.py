"""Name the parts of a network (stem, stages, head), and freeze them."""

from collections.abc import Iterable, Sequence

from torch import nn

from videores.config.streams import JOINT
from videores.errors import UserError, format_suggestion
from videores.models.fusion import FusionNetwork
from videores.models.resnet import Residual, ResNet


def split_into_parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return {"stem": [modules], "layer1": [...], ..., "fc": [...]}.

    They are the parts that have parameters, in the order of the data.

    A pre-activated network has its last norm as "last", a pooling that learns is "pool". Other libraries' networks have
    their blocks as "block0", "block1", ..., and the last of them, their head, as "fc". One of an import path has its
    children by their names, where a classifier is "fc", after "own", the parameters that lie in no child. One of
    several streams has the parts of each as "rgb.stem", ..., and all classifiers as "fc".
    """
    found: dict[str, list[nn.Module]]
    if hasattr(model, "import_path"):
        found = {"own": [nn.ParameterList(model.parameters(recurse=False))]}
        found |= {name: [child] for name, child in model.named_children()}
    elif isinstance(model, FusionNetwork):
        found = _split_fusion(model)
    else:
        found = _split_resnet(model) if isinstance(model, ResNet) else _split_blocks(model)
    return {name: modules for name, modules in found.items() if any(True for m in modules for _ in m.parameters())}


def _split_resnet(model):
    stem = [getattr(model, name) for name in model.first]
    stages = {name: [getattr(model, name)] for name in model.stages}
    last = [model.last] if model.last is not None else []
    pool = [model.pool] if hasattr(model.pool, "parameters") else []  # the others are functions
    return {"stem": stem, **stages, "last": last, "pool": pool, "fc": [model.fc]}


def _split_fusion(model):
    networks = {stream: _split_resnet(network) for stream, network in model.streams.items()}
    heads = [head for parts in networks.values() for head in parts.pop("fc")]
    found = {f"{stream}.{name}": modules for stream, parts in networks.items() for name, modules in parts.items()}
    return {**found, "fc": heads + ([model.fc] if model.fusion == JOINT else [])}


def _split_blocks(model):
    *blocks, head = model.net.blocks
    return {**{f"block{i}": [block] for i, block in enumerate(blocks)}, "fc": [head]}


def find_residual_blocks(model: nn.Module) -> dict[str, Residual]:
    """Return {name: block} of the blocks that have a shortcut, by depth."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Residual) and not m.plain}


def count_depths(model: nn.Module) -> dict[str, int]:
    """Count the stages before each part: 0 for the stem.

    What follows the stages is of one depth.
    """
    if isinstance(model, FusionNetwork):
        depths = {stream: count_depths(network) for stream, network in model.streams.items()}
        found = {
            f"{stream}.{name}": depth for stream, one in depths.items() for name, depth in one.items() if name != "fc"
        }
        return {**found, "fc": max(one["fc"] for one in depths.values())}
    names = list(split_into_parts(model))
    after = ("last", "pool", "fc")
    before = [name for name in names if name not in after]
    return {name: len(before) if name in after else before.index(name) for name in names}


ALL_BUT_FC = "all-but-fc"  # only the classifier learns: a linear probe


def freeze(model: nn.Module, chosen: str | Sequence[str], norms: bool = False) -> list[nn.Module]:
    """Take parts of the network, and with `norms` every batch norm, out of training.

    Parts are given by name, or as ALL_BUT_FC.

    A frozen part is a constant map: its batch norms use their running statistics, and it drops nothing. Raises
    UserError for unknown names, and if nothing would learn.
    """
    held = [module for name in _select_part_names(model, chosen) for module in split_into_parts(model)[name]]
    held += [module for module in model.modules() if norms and isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for module in held:
        module.requires_grad_(False).eval()
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("train.freeze leaves nothing to learn: leave out a part of it, such as fc")
    return held


def _select_part_names(model, chosen):
    known = list(split_into_parts(model))
    if chosen == ALL_BUT_FC:
        return [name for name in known if name != "fc"]
    chosen = [chosen] if isinstance(chosen, str) else chosen
    for name in chosen:
        if name not in known:
            hint = format_suggestion(name, [*known, ALL_BUT_FC])
            raise UserError(f"train.freeze: no part {name!r}{hint}; the network has {', '.join(known)}")
    return chosen


def set_eval_mode(modules: Iterable[nn.Module]) -> None:
    """Set modules to eval mode."""
    for module in modules:
        module.eval()
