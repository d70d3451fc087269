"""Recompute batch norms' statistics as exact moments, for the weights to score.

The usual ones are moving averages over weights that have changed since, or of an average of weights none at all.
Source: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import nn

from videores.training.callbacks.weight_averaging import WeightAverager, is_epoch_end


class PreciseBN(pl.Callback):
    """Recompute the statistics at each epoch's end, before validating or saving.

    They are over the first `num_batches` training batches of the epoch (None: all) of all ranks together, from epoch
    `first_epoch` on; those of the average of the weights, where there is an `averager`.
    """

    def __init__(self, num_batches: int | None, averager: WeightAverager | None = None, first_epoch: int = 0) -> None:
        self.num_batches, self.averager, self.first_epoch = num_batches, averager, first_epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if not is_epoch_end(trainer, batch_idx) or trainer.current_epoch < self.first_epoch:
            return
        batches = trainer.datamodule.training_batches(trainer.current_epoch, self.num_batches, module.device)
        weights = self.averager.use_average(module) if self.averager else nullcontext()
        with weights, trainer.precision_plugin.forward_context():
            recompute_statistics(module.model, map(module.clips_of, batches))


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the statistics of each batch norm in training mode to its inputs' moments.

    batches: clips_XCTHW of this rank; the moments are over all ranks. Batch norms use each batch's own statistics, as
    in training; nothing else of the network is in training mode, as nothing is dropped where the statistics are used.
    """
    norms: list[Any] = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    sums = {m: torch.zeros(3, m.num_features, dtype=torch.float64, device=m.running_mean.device) for m in norms}

    def add(norm, inputs):
        sums[norm] += _compute_moment_sums(*inputs)

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    with _set_norms_to_train_mode(model, norms):
        for clips_XCTHW in batches:
            model.forward(clips_XCTHW)  # not a compiled one, which would know of no hooks
    for hook in hooks:
        hook.remove()
    for norm, moments in sums.items():
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
        count, total, squares = moments
        mean = total / count
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((squares / count - mean**2) * count / (count - 1))  # unbiased, as torch's


def _compute_moment_sums(x):
    """Return [count, sum, sum of squares] of each channel, in float64."""
    dims = [d for d in range(x.ndim) if d != 1]
    var, mean = (moment.double() for moment in torch.var_mean(x.float(), dims, correction=0))
    count = x.numel() // x.shape[1]
    return count * torch.stack([torch.ones_like(mean), mean, var + mean**2])


@contextmanager
def _set_norms_to_train_mode(model: nn.Module, norms: Sequence[Any]) -> Iterator[None]:
    """Put the norms alone in training mode; restore modes and counters of batches."""
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
