"""Parts of a network that stay as they are: no gradient, so no decay either, and their batch statistics are kept."""

from torch import nn

from videores.errors import UserError, nearest
from videores.models.parts import parts

ALL_BUT_FC = "all-but-fc"  # only the classifier learns: a linear probe


def freeze(model, chosen, norms=False):
    """Takes the parts called `chosen` (names of `parts`, or ALL_BUT_FC) and with `norms` every batch norm out of
    training. Returns the modules, which `hold` must put back into eval mode whenever the network is told to train.

    A frozen part is a constant map: its batch norms use their running statistics, and it drops nothing. Raises
    UserError for unknown names, and if nothing would learn.
    """
    held = [module for name in names(model, chosen) for module in parts(model)[name]]
    held += [module for module in model.modules() if norms and isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for module in held:
        module.requires_grad_(False).eval()
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("train.freeze leaves nothing to learn: leave out a part of it, such as fc")
    return held


def names(model, chosen):
    known = list(parts(model))
    if chosen == ALL_BUT_FC:
        return [name for name in known if name != "fc"]
    chosen = [chosen] if isinstance(chosen, str) else chosen
    for name in chosen:
        if name not in known:
            hint = nearest(name, [*known, ALL_BUT_FC])
            raise UserError(f"train.freeze: no part {name!r}{hint}; the network has {', '.join(known)}")
    return chosen


def hold(modules):
    for module in modules:
        module.eval()
