"""The progress bar, and the first steps' estimate of the time that a run takes."""

import time

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from videores.training.summary import format_duration, format_lines

REFRESH_RATE = 20  # steps; each refresh reads the loss, for which a GPU is waited for


class ProgressBar(TQDMProgressBar):
    def __init__(self, throughput=None):
        super().__init__(refresh_rate=REFRESH_RATE)
        self.throughput = throughput  # None without training
        self.loss = None  # of the newest batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.loss = outputs["loss"]
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def get_metrics(self, trainer, module):
        metrics = super().get_metrics(trainer, module)
        if self.loss is not None:  # Lightning has divided it
            metrics = {"train/loss": float(self.loss) * trainer.accumulate_grad_batches, **metrics}
        if self.throughput is None:
            return metrics
        left = self.throughput.left(trainer)
        ends = {} if left is None else {"run_left": tqdm.format_interval(left)}
        return {**metrics, **self.throughput.latest, **ends}


TIMED_BATCHES = 20


class TimeEstimator(pl.Callback):
    """Measures from the end of a batch to the end of the next, so neither the first one nor a validation counts."""

    def __init__(self):
        self.batches, self.seconds, self.before = 0, 0.0, None

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.batches == TIMED_BATCHES:
            return
        before, self.before = self.before, time.perf_counter()
        if before is None:
            return
        self.batches, self.seconds = self.batches + 1, self.seconds + self.before - before
        if self.batches == TIMED_BATCHES:
            left = trainer.max_epochs * trainer.num_training_batches - trainer.fit_loop.total_batch_idx - 1
            trainer.progress_bar_callback.print(format_remaining_time(self.batches, self.seconds, left))

    def on_train_epoch_end(self, trainer, module):
        self.before = None


def format_remaining_time(batches, seconds, left):
    """`batches` were measured, `left` are to go."""
    each = seconds / batches
    to_go = f"{format_duration(left * each)} of training to go, without validation"
    return format_lines([("time", f"{each:.3g} s a batch ({batches} measured): {to_go}")])
