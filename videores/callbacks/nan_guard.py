"""Stops a run whose loss is not finite, naming the step and the videos of the batch."""

import lightning.pytorch as pl
import torch

from videores.errors import UserError


class NanGuard(pl.Callback):
    """Looks at each loss one step late, so that no GPU is waited for, but before anything is validated or saved."""

    def __init__(self):
        self.pending = None  # (step, loss, videos) of the last batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.check(trainer)
        self.pending = (trainer.global_step, outputs["loss"].detach(), batch["video"])

    def on_validation_start(self, trainer, module):
        self.check(trainer)

    def on_train_epoch_end(self, trainer, module):
        self.check(trainer)

    def check(self, trainer):
        pending, self.pending = self.pending, None
        if pending is None or torch.isfinite(pending[1]):
            return
        step, loss, video_B = pending
        videos = trainer.datamodule.dataset("train").videos
        names = "\n  ".join(videos[number].path for number in video_B.tolist())
        raise UserError(
            f"the training loss is {float(loss)} at step {step}; try a smaller train.lr, a longer train.warmup or "
            f"trainer.precision=fp32. The videos of that batch:\n  {names}"
        )
