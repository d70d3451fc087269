"""Write checkpoints on time, select the best, and stop a run at a signal.

One file is written at a time; best.ckpt is a second name of last.ckpt for as long as the last is the best.
"""

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from videores.config.schema import RunConfig
from videores.errors import SignalInterrupt, UserError
from videores.runtime.signals import SignalHandler
from videores.training import checkpoint_io, resume
from videores.training.callbacks.exchange import AsyncMaxReducer
from videores.training.callbacks.nan_guard import NanGuard

MIN_SAVE_INTERVAL = 60  # seconds between two checkpoints, where the time decides
SAVE_INTERVAL_RATIO = 200  # times as long as the last one took: those stay below half a per cent of a run


class Checkpointing(Checkpoint):
    """Save checkpoints at epoch ends, within epochs by steps or time, and at signals.

    Lightning calls a Checkpoint after all other callbacks, so that their state is of the same step. `signature` is what
    trainer.make_resume_signature returns, and the hashes of the lists: find_resume_point compares them.
    """

    state_key = "Saving"  # the class's former name, in checkpoints of older runs

    def __init__(self, folder: Path, run: RunConfig, signature: dict[str, Any], signals: SignalHandler) -> None:
        self.folder, self.run, self.signature, self.signals = folder / "checkpoints", run, signature, signals
        self.io = checkpoint_io.AtomicCheckpointIO()
        self.best_score, self.saved_at, self.save_seconds = None, 0.0, 0.0
        self.trainer = self.reducer = self.last_step = self.common_batches = None
        self.is_validating = False

    def setup(self, trainer, module, stage):
        self.trainer = trainer
        timeout = timedelta(minutes=module.cfg.trainer.timeout)
        self.reducer = self.reducer or AsyncMaxReducer(self.get_requests, trainer.world_size, timeout)
        disable_lightning_signals(trainer)

    def get_requests(self):
        """Return [signal number or 0, 1 if a checkpoint is due by rank 0's clock]."""
        is_timed = self.trainer.is_global_zero and self.trainer.training
        is_due = is_timed and time.monotonic() >= self.saved_at + self.compute_save_interval()
        return [self.signals.signal_number, int(is_due)]

    def compute_save_interval(self):
        """Return the seconds from one checkpoint to the next."""
        if self.run.checkpoint_minutes == "auto":
            return max(MIN_SAVE_INTERVAL, SAVE_INTERVAL_RATIO * self.save_seconds)
        return 60 * self.run.checkpoint_minutes if self.run.checkpoint_minutes else math.inf

    # When

    def on_train_start(self, trainer, module):
        self.saved_at, self.last_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """Save after a step, but an epoch's last one, whose validation comes first."""
        if trainer.global_step == self.last_step:
            return  # gradients are being accumulated
        self.last_step = trainer.global_step
        signal, is_due = self.reducer.collect()
        by_steps = self.run.checkpoint_steps and trainer.global_step % self.run.checkpoint_steps == 0
        if (signal or is_due or by_steps) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.save(checkpoint_io.LAST_CHECKPOINT)
            self.stop_if_signaled(signal)
        self.reducer.send()

    def on_train_epoch_end(self, trainer, module):
        score = trainer.callback_metrics.get("best_by")  # None without validation videos
        if score is not None:
            score = -math.inf if math.isnan(score) else float(score)
        is_best = score is not None and (self.best_score is None or score > self.best_score)
        if is_best:
            self.best_score = score
        self.save(checkpoint_io.BEST_CHECKPOINT if is_best else checkpoint_io.LAST_CHECKPOINT)
        self.stop_if_signaled(self.reducer.collect()[0])
        self.reducer.send()

    # Between the batches of validation and test, of which a rank may have fewer than another

    def on_validation_start(self, trainer, module):
        self.common_batches = [self.reducer.min_over_ranks(number) for number in trainer.num_val_batches]

    def on_test_start(self, trainer, module):
        self.common_batches = [self.reducer.min_over_ranks(number) for number in trainer.num_test_batches]

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        if signal := self.exchange_signal(batch_idx, dataloader_idx):
            self.is_validating = True  # the resumed run repeats the whole of this validation
            self.save(checkpoint_io.LAST_CHECKPOINT)
            self.stop_if_signaled(signal)

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        self.stop_if_signaled(self.exchange_signal(batch_idx, dataloader_idx))

    def exchange_signal(self, batch_idx, dataloader_idx):
        """Return the signal that a rank had received a batch ago, or 0."""
        if batch_idx >= self.common_batches[dataloader_idx]:
            return 0
        signal, _ = self.reducer.collect()
        if not signal:
            self.reducer.send()
        return signal

    def stop_if_signaled(self, signal):
        if signal:
            self.reducer.max_over_ranks(0)  # all are here, and nobody waits for one who has ended
            raise SignalInterrupt(signal, f"after step {self.trainer.global_step}")

    # What

    def save(self, name):
        """Write the checkpoint `name`, as the last one too.

        Raises UserError, on all ranks, where rank 0 can't write.
        """
        for callback in self.trainer.callbacks:
            if isinstance(callback, NanGuard):
                callback.check(self.trainer)  # it looks at a step during the next one
        began, path = time.monotonic(), self.folder / name
        self.trainer.save_checkpoint(path, weights_only=False)
        if name != checkpoint_io.LAST_CHECKPOINT and self.trainer.is_global_zero and not self.io.write_error:
            self.io.try_write(checkpoint_io.copy_as_last, path)
        if self.reducer.max_over_ranks(int(self.io.write_error is not None)):
            names = (checkpoint_io.LAST_CHECKPOINT, checkpoint_io.PREVIOUS_CHECKPOINT)
            is_first = not any((self.folder / name).exists() for name in names)
            way_out = "start again" if is_first else "continue from the one before it"
            raise UserError(
                f"{path}: the checkpoint of step {self.trainer.global_step} could not be written "
                f"({self.io.write_error}): make room, then {way_out} with run.resume=auto"
            )
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - began

    def on_save_checkpoint(self, trainer, module, checkpoint):
        checkpoint["made_with"] = self.signature  # the key of older versions too
        if self.is_validating:
            resume.rewind_to_validation_start(checkpoint["loops"]["fit_loop"])

    def state_dict(self):
        return {"best": self.best_score}

    def load_state_dict(self, state_dict):
        self.best_score = state_dict["best"]


def disable_lightning_signals(trainer: pl.Trainer) -> None:
    """Replace Lightning's signal handling by nothing, where this version has it.

    Its handlers call collectives, which hang, and it waits for the device in each step to ask for signals (2.6: issues
    20806 and 21487).
    """
    for owner, name in (
        (trainer._signal_connector, "register_signal_handlers"),
        (trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor"),
    ):
        if hasattr(owner, name):
            setattr(owner, name, lambda: None)
