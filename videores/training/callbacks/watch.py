"""What happens inside the network, on request: gradient norms and activations of each part, at the steps that are
logged. At others, and when nothing is asked for, nothing is done."""

import lightning.pytorch as pl
import torch
from torch import nn

from videores.models.parts import split_into_parts


class Watch(pl.Callback):
    """Keeps in `values` what a step that will be logged showed.

    Gradients are those that the optimizer gets: after accumulation, summed up over all processes and without the scale
    of fp16, so every process has the same. Activations are those of this process's clips (of the last batch of a step).
    """

    def __init__(self, watch, every):
        self.watch, self.every = watch, every
        self.values, self.hooks = {}, []

    def is_due(self, trainer):
        return (trainer.global_step + 1) % self.every == 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.watch.activations and self.is_due(trainer):
            self.hooks = [self.hook(name, modules[-1]) for name, modules in split_into_parts(module.model).items()]

    def hook(self, name, last):
        return last.register_forward_hook(
            lambda module, inputs, output: self.keep(compute_activation_statistics(output), name)
        )

    def keep(self, found, name):
        self.values |= {f"{what}/{name}": value for what, value in found.items()}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if self.watch.gradients and self.is_due(trainer):
            for name, norm in compute_gradient_norms(module.model).items():
                self.keep({"grad_norm": norm}, name)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.remove()

    def on_exception(self, trainer, module, exception):
        self.remove()

    def remove(self):
        for hook in self.hooks:
            hook.remove()
        self.hooks = []


def compute_gradient_norms(model):
    """{part: Euclidean norm of its gradient} of the parts that learn."""
    gradients = {
        name: [p.grad for m in modules for p in m.parameters() if p.grad is not None]
        for name, modules in split_into_parts(model).items()
    }
    return {name: float(nn.utils.get_total_norm(some)) for name, some in gradients.items() if some}


def compute_activation_statistics(output):
    """Mean, standard deviation and share of zeros of what a part puts out: a tensor, or several (SlowFast)."""
    tensors = [output] if isinstance(output, torch.Tensor) else output
    x = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
    return {
        "activation_mean": float(x.mean()),
        "activation_std": float(x.std(correction=0)),
        "activation_zeros": float((x == 0).float().mean()),
    }
