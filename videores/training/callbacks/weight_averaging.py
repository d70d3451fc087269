"""Average the weights over training, to validate, save and test the average."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch

State = dict[str, torch.Tensor]  # a module's state_dict


def make_ema(decay: float) -> "WeightAverager":
    """Make a moving average over all steps.

    Source: Tarvainen and Valpola 2017, arXiv:1703.01780, equation of section 2.
    """
    return WeightAverager(lambda trainer, batch_idx: True, lambda num_updates: compute_ema_share(num_updates, decay))


def make_swa(epoch: int) -> "WeightAverager":
    """Make the mean of the weights at the ends of the epochs from `epoch` (from 0) on.

    Source: Izmailov et al. 2018, arXiv:1803.05407, algorithm 1.
    """
    return WeightAverager(
        lambda trainer, batch_idx: is_epoch_end(trainer, batch_idx) and trainer.current_epoch >= epoch,
        compute_swa_share,
    )


def compute_ema_share(num_updates: int, decay: float) -> float:
    """Return the newest weights' share of the average, after `num_updates` updates.

    The first ones weigh more, so that the random start is soon forgotten: 1 - min(decay, (1 + n) / (10 + n)), the
    warm-up of TensorFlow's ExponentialMovingAverage.
    """
    return 1 - min(decay, (1 + num_updates) / (10 + num_updates))


def compute_swa_share(num_updates: int) -> float:
    """Return the share with which all weights have the same (equation 2 of the paper)."""
    return 1 / (1 + num_updates)


def is_epoch_end(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Return whether a batch is its epoch's last."""
    return batch_idx + 1 == trainer.num_training_batches


class WeightAverager(pl.Callback):
    """Average all floating-point weights and statistics; integers are the newest ones.

    The average is updated after the batches for which is_due(trainer, batch_idx); the newest weights become
    compute_share(num_updates) of it. A checkpoint's "state_dict" is the average, so that what is kept is what was
    validated; the weights that learn are its "learning", with which a resumed run goes on exactly. Until the first
    update there is no average.
    """

    state_key = "Averaging"  # the class's former name, in checkpoints of older runs

    def __init__(self, is_due: Callable[[pl.Trainer, int], bool], compute_share: Callable[[int], float]) -> None:
        self.is_due, self.compute_share = is_due, compute_share
        self.average: State | None = None  # as module.state_dict(); while swapped, the weights that learn
        self.num_updates = self.last_step = 0
        self.is_swapped = False

    def on_train_start(self, trainer, module):
        state = module.state_dict()
        initial = self.average or state
        self.average = {key: torch.empty_like(value).copy_(initial[key]) for key, value in state.items()}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step > self.last_step and self.is_due(trainer, batch_idx):
            self.update(module)
        self.last_step = trainer.global_step  # it stays where gradients are only accumulated

    def update(self, module):
        blend(self.average, module.state_dict(), self.compute_share(self.num_updates))
        self.num_updates += 1

    # The average in the network

    @contextmanager
    def use_average(self, module: pl.LightningModule) -> Iterator[None]:
        """Have the average in the network within the block."""
        self.set_swapped(module, True)
        try:
            yield
        finally:
            self.set_swapped(module, False)

    def set_swapped(self, module, value):
        if self.num_updates and self.is_swapped != value:
            _swap_tensors(self.average, module.state_dict())
            self.is_swapped = value

    def on_validation_start(self, trainer, module):
        self.set_swapped(module, True)

    def on_validation_end(self, trainer, module):
        self.set_swapped(module, False)

    # Checkpoints

    def state_dict(self):
        return {"count": self.num_updates, "step": self.last_step}

    def load_state_dict(self, state):
        self.num_updates, self.last_step = state["count"], state["step"]

    def on_save_checkpoint(self, trainer, module, checkpoint):
        if self.num_updates:
            pair = (self.average, checkpoint["state_dict"])
            checkpoint["learning"], checkpoint["state_dict"] = pair if self.is_swapped else pair[::-1]

    def on_load_checkpoint(self, trainer, module, checkpoint):
        if "learning" in checkpoint:
            self.average = checkpoint["state_dict"]
            module.load_state_dict(checkpoint["learning"])


@torch.no_grad()
def blend(average: State, newest: State, share: float) -> None:
    """Set `share` of the average to the newest weights, in place.

    It is one fused operation for all tensors, and does not wait for the device.
    """
    floats = [key for key, value in average.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[key] for key in floats], [newest[key] for key in floats], share)
    for key in average.keys() - set(floats):
        average[key].copy_(newest[key])


@torch.no_grad()
def _swap_tensors(one, other):
    for key, value in one.items():
        copy = value.clone()
        value.copy_(other[key])
        other[key].copy_(copy)
