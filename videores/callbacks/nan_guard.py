"""Stops a run whose loss is not finite, naming the step and the videos of the batch."""

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from videores.errors import UserError


class NanGuard(pl.Callback):
    """Looks at each loss one step late, so that no GPU is waited for, but before anything is validated or saved.

    All processes learn of a bad loss at the same step, so that all stop there and none waits for another.
    """

    def __init__(self):
        self.pending = None  # (step, whether any process has a bad loss, loss, videos) of the last batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.check(trainer)
        loss = outputs["loss"].detach()
        bad = (~torch.isfinite(loss)).float()
        if trainer.world_size > 1:
            dist.all_reduce(bad)
        self.pending = (trainer.global_step, bad, loss, batch["video"])

    def on_validation_start(self, trainer, module):
        self.check(trainer)

    def on_train_epoch_end(self, trainer, module):
        self.check(trainer)

    def check(self, trainer):
        pending, self.pending = self.pending, None
        if pending is None or not pending[1]:
            return
        step, _, loss, video_B = pending
        numbers = video_B.tolist() if not torch.isfinite(loss) else []
        if trainer.world_size > 1:
            gathered = [None] * trainer.world_size
            dist.all_gather_object(gathered, numbers)
            numbers = [number for part in gathered for number in part]
        videos = trainer.datamodule.dataset("train").videos
        names = "\n  ".join(videos[number].path for number in numbers)
        raise UserError(
            f"the training loss is not finite at step {step}; try a smaller train.lr, a longer train.warmup or "
            f"trainer.precision=fp32. The videos of that batch:\n  {names}"
        )
