"""Stop a run whose loss is not finite, naming the step and its videos."""

from typing import NamedTuple

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from videores.errors import UserError


class _PendingLosses(NamedTuple):
    """The losses of a step's batches, and a number on its way to the host."""

    step: int
    bad_ranks: torch.Tensor  # ranks with a loss that is not finite
    copy_event: torch.cuda.Event | None
    losses: list[torch.Tensor]
    video_indices: list[torch.Tensor]


class NanGuard(pl.Callback):
    """Check each step's loss one step late, but before anything is validated or saved.

    So no GPU is waited for. All ranks learn of a bad loss at the same step, so that all stop there and none waits for
    another. Batches whose gradients are accumulated are checked together.
    """

    def __init__(self):
        self.losses, self.video_indices = [], []  # of the batches of this step
        self.pending = None  # of the last step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].detach())
        self.video_indices.append(batch["video"])
        if not module.ends_step(batch_idx):
            return
        self.check(trainer)
        bad_ranks = (~torch.isfinite(sum(self.losses))).float()
        if trainer.world_size > 1:
            dist.all_reduce(bad_ranks)
        self.pending = _PendingLosses(trainer.global_step, *_copy_to_host(bad_ranks), self.losses, self.video_indices)
        self.losses, self.video_indices = [], []

    def on_validation_start(self, trainer, module):
        self.check(trainer)

    def on_train_epoch_end(self, trainer, module):
        self.check(trainer)

    def check(self, trainer: pl.Trainer) -> None:
        """Raise UserError, on all ranks, where the last step's loss is not finite."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        if pending.copy_event:
            pending.copy_event.synchronize()
        if pending.bad_ranks:
            _raise_not_finite(trainer, pending)


def _raise_not_finite(trainer, pending):
    pairs = zip(pending.losses, pending.video_indices, strict=True)
    numbers = [number for loss, video_B in pairs if not torch.isfinite(loss) for number in video_B.tolist()]
    if trainer.world_size > 1:
        gathered = [None] * trainer.world_size
        dist.all_gather_object(gathered, numbers)
        numbers = [number for part in gathered for number in part]
    videos = trainer.datamodule.dataset("train").videos
    names = "\n  ".join(videos[number].path for number in numbers)
    raise UserError(
        f"the training loss is not finite at step {pending.step}: try a smaller train.lr, a longer train.warmup or "
        f"trainer.precision=fp32. The videos of that batch:\n  {names}"
    )


def _copy_to_host(value):
    """Return the value in host memory, and the event after which it is there.

    Asking a GPU for it later would wait for all work queued until then, not only for what makes the value.
    """
    if value.device.type != "cuda":
        return value, None
    copy = torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copy, event
