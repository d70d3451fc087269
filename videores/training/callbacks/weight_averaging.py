"""Averages of the weights over training, which are validated, kept and tested in place of the weights that learn."""

from contextlib import contextmanager

import lightning.pytorch as pl
import torch


def make_ema(decay):
    """A moving average over all steps. Source: Tarvainen and Valpola 2017, arXiv:1703.01780, equation of section 2."""
    return WeightAverager(lambda trainer, batch_idx: True, lambda count: compute_ema_share(count, decay))


def make_swa(epoch):
    """The mean of the weights at the ends of the epochs from this one (0 is the first) on.

    Source: Izmailov et al. 2018, arXiv:1803.05407, algorithm 1.
    """
    return WeightAverager(
        lambda trainer, batch_idx: is_epoch_end(trainer, batch_idx) and trainer.current_epoch >= epoch,
        compute_swa_share,
    )


def compute_ema_share(count, decay):
    """How much of the average the newest weights become, after `count` updates.

    The first ones weigh more, so that the random start is soon forgotten: 1 - min(decay, (1 + n) / (10 + n)), the
    warm-up of TensorFlow's ExponentialMovingAverage.
    """
    return 1 - min(decay, (1 + count) / (10 + count))


def compute_swa_share(count):
    """So much that all have had the same share (equation 2 of the paper, as a running mean)."""
    return 1 / (1 + count)


def is_epoch_end(trainer, batch_idx):
    return batch_idx + 1 == trainer.num_training_batches


class WeightAverager(pl.Callback):
    """Keeps an average of all floating-point weights and statistics; whole numbers are the newest ones.

    due(trainer, batch_idx) says after which batches it is updated, share(count) how much of it the newest weights
    become. A checkpoint's "state_dict" is the average, so that what is kept is what was validated; the weights that
    learn are its "learning", with which a resumed run goes on exactly. Until the first update there is no average.
    """

    def __init__(self, due, share):
        self.due, self.share = due, share
        self.average = None  # as module.state_dict(); while `shown`, the weights that learn
        self.count = self.step = 0  # updates, and the step of the last batch
        self.is_shown = False

    def on_train_start(self, trainer, module):
        state = module.state_dict()
        saved = self.average or state
        self.average = {key: torch.empty_like(value).copy_(saved[key]) for key, value in state.items()}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step > self.step and self.due(trainer, batch_idx):
            self.update(module)
        self.step = trainer.global_step  # it stays where gradients are only accumulated

    def update(self, module):
        blend(self.average, module.state_dict(), self.share(self.count))
        self.count += 1

    # The average in the network

    @contextmanager
    def shown(self, module):
        self.show(module, True)
        try:
            yield
        finally:
            self.show(module, False)

    def show(self, module, wanted):
        if self.count and self.is_shown != wanted:
            swap_tensors(self.average, module.state_dict())
            self.is_shown = wanted

    def on_validation_start(self, trainer, module):
        self.show(module, True)

    def on_validation_end(self, trainer, module):
        self.show(module, False)

    # Checkpoints

    def state_dict(self):
        return {"count": self.count, "step": self.step}

    def load_state_dict(self, state):
        self.count, self.step = state["count"], state["step"]

    def on_save_checkpoint(self, trainer, module, checkpoint):
        if self.count:
            pair = (self.average, checkpoint["state_dict"])
            checkpoint["learning"], checkpoint["state_dict"] = pair if self.is_shown else pair[::-1]

    def on_load_checkpoint(self, trainer, module, checkpoint):
        if "learning" in checkpoint:
            self.average = checkpoint["state_dict"]
            module.load_state_dict(checkpoint["learning"])


@torch.no_grad()
def blend(average, newest, share):
    """In place, `share` of the newest: one fused operation for all tensors, and no waiting for the device."""
    floats = [key for key, value in average.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[key] for key in floats], [newest[key] for key in floats], share)
    for key in average.keys() - set(floats):
        average[key].copy_(newest[key])


@torch.no_grad()
def swap_tensors(one, other):
    for key, value in one.items():
        kept = value.clone()
        value.copy_(other[key])
        other[key].copy_(kept)
