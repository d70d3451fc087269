"""Measure gradient norms and activations of a network's parts, on request.

Nothing is done at steps that are not logged, and when nothing is asked for.
"""

from collections.abc import Sequence

import lightning.pytorch as pl
import torch
from torch import nn

from videores.config.schema import WatchConfig
from videores.models.parts import split_into_parts


class Watch(pl.Callback):
    """Keep in `values` the measurements of the steps that are logged.

    Gradients are those that the optimizer gets: after accumulation, summed up over all ranks and without the scale of
    fp16, so every rank has the same. Activations are those of this rank's clips (of the last batch of a step).
    """

    def __init__(self, watch: WatchConfig, log_every: int) -> None:
        self.watch, self.log_every = watch, log_every
        self.values: dict[str, float] = {}
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def is_due(self, trainer):
        return (trainer.global_step + 1) % self.log_every == 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.watch.activations and self.is_due(trainer):
            parts = split_into_parts(module.model)
            self.hooks = [self.register_hook(name, modules[-1]) for name, modules in parts.items()]

    def register_hook(self, part, last_module):
        def record(module, inputs, output):
            statistics = compute_activation_statistics(output)
            self.values |= {f"{name}/{part}": value for name, value in statistics.items()}

        return last_module.register_forward_hook(record)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if self.watch.gradients and self.is_due(trainer):
            norms = compute_gradient_norms(module.model)
            self.values |= {f"grad_norm/{part}": norm for part, norm in norms.items()}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.remove_hooks()

    def on_exception(self, trainer, module, exception):
        self.remove_hooks()

    def remove_hooks(self):
        for hook in self.hooks:
            hook.remove()
        self.hooks = []


def compute_gradient_norms(model: nn.Module) -> dict[str, float]:
    """Return the Euclidean norm of the gradient of each part that learns."""
    gradients = {
        name: [p.grad for m in modules for p in m.parameters() if p.grad is not None]
        for name, modules in split_into_parts(model).items()
    }
    return {name: float(nn.utils.get_total_norm(some)) for name, some in gradients.items() if some}


def compute_activation_statistics(output: torch.Tensor | Sequence[torch.Tensor]) -> dict[str, float]:
    """Return mean, standard deviation and share of zeros of a part's output.

    It is a tensor, or several (SlowFast).
    """
    tensors = [output] if isinstance(output, torch.Tensor) else output
    x = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
    return {
        "activation_mean": float(x.mean()),
        "activation_std": float(x.std(correction=0)),
        "activation_zeros": float((x == 0).float().mean()),
    }
