"""Set single weights to zero: fewer parameters that count, and as many multiply-adds."""

from torch import nn
from torch.nn.utils import prune

from videores.models.widths import Conv


def zero_weights(model: nn.Module, ratio: float) -> int:
    """Set the smallest weights of all convolutions to zero, in place; return how many are.

    `ratio` is their share, over the whole network (Han et al. 2015, arXiv:1506.02626).
    """
    weights = [(layer, "weight") for layer in model.modules() if isinstance(layer, Conv)]
    for layer, _ in weights:  # torch's pruning cannot read channels_last
        layer.weight = nn.Parameter(layer.weight.detach().contiguous())
    prune.global_unstructured(weights, prune.L1Unstructured, amount=float(ratio))
    for layer, name in weights:
        prune.remove(layer, name)
    return sum(int((layer.weight == 0).sum()) for layer, _ in weights)
