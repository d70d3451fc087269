"""Says once, when the first steps are measured, how long training will take."""

import time

import lightning.pytorch as pl

from videores import summary

MEASURED = 20


class FirstSteps(pl.Callback):
    """Measures from the end of a batch to the end of the next, so neither the first one nor a validation counts."""

    def __init__(self):
        self.batches, self.seconds, self.before = 0, 0.0, None

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.batches == MEASURED:
            return
        before, self.before = self.before, time.perf_counter()
        if before is None:
            return
        self.batches, self.seconds = self.batches + 1, self.seconds + self.before - before
        if self.batches == MEASURED:
            left = trainer.max_epochs * trainer.num_training_batches - trainer.fit_loop.total_batch_idx - 1
            trainer.progress_bar_callback.print(summary.remaining(self.batches, self.seconds, left))

    def on_train_epoch_end(self, trainer, module):
        self.before = None
