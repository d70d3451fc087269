"""Batch norms whose statistics are those of all processes' clips, not of each process' own."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model):
    """name -> each batch norm that takes statistics from batches: frozen ones stay in eval mode."""
    return {n: module for n, module in model.named_modules() if isinstance(module, _BatchNorm) and module.training}


def synchronise(model):
    """Puts torch's SyncBatchNorm in their place, with the same parameters and buffers, so that names, values and the
    optimizer's tensors stay. It trains on GPUs only, and scores anywhere.

    A process may then have a single value per channel, which layers.Counted refuses: the others' count too.
    """
    for name, norm in batch_norms(model).items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, nn.SyncBatchNorm.convert_sync_batchnorm(norm))
