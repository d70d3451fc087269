"""When a run's checkpoints are written, which is the best, and where a signal stops the run.

One file is written at a time; the best one is a second name for the last, as long as it is that.
"""

import math
import time
from datetime import timedelta

from lightning.pytorch.callbacks import Checkpoint

from videores.errors import SignalInterrupt, UserError
from videores.training import checkpoint_io, resume
from videores.training.callbacks.exchange import AsyncMaxReducer
from videores.training.callbacks.nan_guard import NanGuard

MIN_SAVE_INTERVAL = 60  # seconds between two checkpoints, where the time decides
SAVE_INTERVAL_RATIO = 200  # times as long as the last one took: those stay below half a per cent of a run


class Checkpointing(Checkpoint):
    """Checkpoints at the end of each epoch and, by steps or by time, within it, and where a signal stops the run.

    Lightning calls a Checkpoint after all other callbacks, so that their state is of the same step.
    """

    def __init__(self, folder, run, made_with, signals):
        self.folder, self.run, self.made_with, self.signals = folder / "checkpoints", run, made_with, signals
        self.io = checkpoint_io.AtomicCheckpointIO()
        self.best, self.saved_at, self.cost = None, 0.0, 0.0
        self.trainer = self.agreement = self.step = self.rounds = None
        self.validating = False

    def setup(self, trainer, module, stage):
        self.trainer = trainer
        timeout = timedelta(minutes=module.cfg.trainer.timeout)
        self.agreement = self.agreement or AsyncMaxReducer(self.wishes, trainer.world_size, timeout)
        disable_lightning_signals(trainer)

    def wishes(self):
        """[signal, whether it is time for a checkpoint], the time being the first process's."""
        due = self.trainer.is_global_zero and self.trainer.training and time.monotonic() >= self.saved_at + self.wait()
        return [self.signals.signal_number, int(due)]

    def wait(self):
        """Seconds from one checkpoint to the next."""
        if self.run.checkpoint_minutes == "auto":
            return max(MIN_SAVE_INTERVAL, SAVE_INTERVAL_RATIO * self.cost)
        return 60 * self.run.checkpoint_minutes if self.run.checkpoint_minutes else math.inf

    # When

    def on_train_start(self, trainer, module):
        self.saved_at, self.step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """At the end of a step; that of an epoch's last step is the epoch's end, after validation."""
        if trainer.global_step == self.step:
            return  # gradients are being accumulated
        self.step = trainer.global_step
        signal, due = self.agreement.collect()
        by_steps = self.run.checkpoint_steps and trainer.global_step % self.run.checkpoint_steps == 0
        if (signal or due or by_steps) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.save(checkpoint_io.LAST_CHECKPOINT)
            self.stop_at(signal)
        self.agreement.send()

    def on_train_epoch_end(self, trainer, module):
        self.save(checkpoint_io.BEST_CHECKPOINT if self.is_best() else checkpoint_io.LAST_CHECKPOINT)
        self.stop_at(self.agreement.collect()[0])
        self.agreement.send()

    def is_best(self):
        score = self.trainer.callback_metrics.get("best_by")
        if score is None:
            return False  # nothing is held out
        score = -math.inf if math.isnan(score) else float(score)
        better = self.best is None or score > self.best
        self.best = score if better else self.best
        return better

    # Between the batches of validation and test, of which a process may have fewer than another

    def on_validation_start(self, trainer, module):
        self.rounds = [self.agreement.smallest(number) for number in trainer.num_val_batches]

    def on_test_start(self, trainer, module):
        self.rounds = [self.agreement.smallest(number) for number in trainer.num_test_batches]

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        self.between_batches(batch_idx, dataloader_idx, stop=self.stop_validation)

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        self.between_batches(batch_idx, dataloader_idx, stop=self.stop_at)

    def between_batches(self, batch_idx, loader, stop):
        if batch_idx < self.rounds[loader]:
            signal, _ = self.agreement.collect()
            if signal:
                stop(signal)
            self.agreement.send()

    def stop_validation(self, signal):
        """The run goes on with the whole of this validation."""
        self.validating = True
        self.save(checkpoint_io.LAST_CHECKPOINT)
        self.stop_at(signal)

    def stop_at(self, signal):
        if signal:
            self.agreement.largest(0)  # all are here, and nobody waits for one who has ended
            raise SignalInterrupt(signal, f"after step {self.trainer.global_step}")

    # What

    def save(self, name):
        """Writes the checkpoint `name`, as the last one too. Raises UserError, in all processes, where it cannot."""
        for callback in self.trainer.callbacks:
            if isinstance(callback, NanGuard):
                callback.check(self.trainer)  # it looks at a step during the next one
        began, path = time.monotonic(), self.folder / name
        self.trainer.save_checkpoint(path, weights_only=False)
        if name != checkpoint_io.LAST_CHECKPOINT and self.trainer.is_global_zero and not self.io.failure:
            self.io.attempt(checkpoint_io.copy_as_last, path)
        if self.agreement.largest(int(self.io.failure is not None)):
            raise UserError(
                f"the checkpoint of step {self.trainer.global_step} cannot be written: {self.io.failure}; the one "
                f"before it is intact. Make room for {path.parent}, then run.resume=auto continues"
            )
        self.saved_at = time.monotonic()
        self.cost = self.saved_at - began

    def on_save_checkpoint(self, trainer, module, checkpoint):
        checkpoint["made_with"] = self.made_with
        if self.validating:
            resume.rewind_to_validation_start(checkpoint["loops"]["fit_loop"])

    def state_dict(self):
        return {"best": self.best}

    def load_state_dict(self, state_dict):
        self.best = state_dict["best"]


def disable_lightning_signals(trainer):
    """Lightning's handlers call collectives, which hang, and it waits for the device in each step to ask for signals
    (2.6: issues 20806 and 21487). What a version does not have needs no replacement."""
    for owner, name in (
        (trainer._signal_connector, "register_signal_handlers"),
        (trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor"),
    ):
        if hasattr(owner, name):
            setattr(owner, name, lambda: None)
