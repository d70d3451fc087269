"""Batch norms' running statistics as exact moments over training clips, for the weights that are scored.

The usual ones are moving averages over weights that have changed since, or of an average of weights none at all.
Source: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3.
"""

from contextlib import contextmanager, nullcontext

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import nn

from videores.training.callbacks.weight_averaging import is_epoch_end


class PreciseBN(pl.Callback):
    """At the end of each epoch from `epoch` on, before anything is validated or kept: statistics over the first
    `batches` of its training batches (None: all), on all processes together; those of the average, if there is one."""

    def __init__(self, batches, averaging=None, epoch=0):
        self.batches, self.averaging, self.epoch = batches, averaging, epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if is_epoch_end(trainer, batch_idx) and trainer.current_epoch >= self.epoch:
            with self.averaging.shown(module) if self.averaging else nullcontext():
                self.recompute(trainer, module)

    def recompute(self, trainer, module):
        batches = trainer.datamodule.training_batches(trainer.current_epoch, self.batches, module.device)
        with trainer.precision_plugin.forward_context():
            recompute_statistics(module.model, map(module.clips_of, batches))


@torch.no_grad()
def recompute_statistics(model, batches):
    """Sets the running mean and variance of each batch norm in training mode to the moments of what it is given.

    batches: clips_XCTHW. Batch norms use each batch's own statistics, as in training; nothing else of the network is in
    training mode, since nothing is dropped where the statistics are used.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    sums = {m: torch.zeros(3, m.num_features, dtype=torch.float64, device=m.running_mean.device) for m in norms}

    def add(norm, inputs):
        sums[norm] += compute_moment_sums(*inputs)

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    with set_norms_to_train_mode(model, norms):
        for clips_XCTHW in batches:
            model.forward(clips_XCTHW)  # not a compiled one, which would know of no hooks
    for hook in hooks:
        hook.remove()
    for norm, summed in sums.items():
        set_statistics(norm, *sum_over_ranks(summed))


def compute_moment_sums(x):
    """[count, sum, sum of squares] of each channel, in float64."""
    dims = [d for d in range(x.ndim) if d != 1]
    var, mean = (moment.double() for moment in torch.var_mean(x.float(), dims, correction=0))
    count = x.numel() // x.shape[1]
    return count * torch.stack([torch.ones_like(mean), mean, var + mean**2])


def sum_over_ranks(summed):
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(summed)
    return summed


def set_statistics(norm, count, total, squares):
    mean = total / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((squares / count - mean**2) * count / (count - 1))  # unbiased, as torch's


@contextmanager
def set_norms_to_train_mode(model, norms):
    """The modes and the norms' counters of batches are put back afterwards."""
    modes = [(m, m.training) for m in model.modules()]
    counters = [norm.num_batches_tracked.clone() for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
        for norm, counter in zip(norms, counters, strict=True):
            norm.num_batches_tracked.copy_(counter)
