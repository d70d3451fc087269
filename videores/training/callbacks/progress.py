"""Show one progress line on standard error, where no results go."""

import shutil
import sys
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from tqdm import tqdm

from videores.training.callbacks.throughput import Throughput

REFRESH_RATE = 20  # steps; each refresh reads the loss, for which a GPU is waited for
MAX_WIDTH = 100  # columns
PART_NAMES = {"val": "validation videos", "gap": "training videos, for the gap", "test": "test videos"}


class ProgressBar(TQDMProgressBar):
    """Show epoch, loss and newest validation.

    With `throughput`, also show the pace and the time to the end of the run.
    """

    BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"

    def __init__(self, throughput: Throughput | None = None) -> None:
        super().__init__(refresh_rate=REFRESH_RATE)
        self.throughput = throughput  # None without training
        self.loss = None  # of the newest batch

    def _make_line(self, desc="", leave=False):
        width = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 0)).columns)
        options = {"disable": self.is_disabled, "ncols": width, "bar_format": self.BAR_FORMAT}
        # position 0: validation in training's line; delay: it appears when its length is known
        return Tqdm(desc=desc, leave=leave, file=sys.stderr, position=0, delay=1e-9, **options)

    def init_train_tqdm(self) -> Tqdm:
        return self._make_line(leave=True)

    def init_validation_tqdm(self) -> Tqdm:
        return self._make_line(PART_NAMES["val"], leave=self.trainer.state.fn == "validate")

    def init_test_tqdm(self) -> Tqdm:
        return self._make_line(PART_NAMES["test"], leave=True)

    def on_train_epoch_start(self, trainer, module):
        name = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        _restart(self.train_progress_bar, name, self.total_train_batches)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.loss = outputs["loss"]
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        if self.has_dataloader_changed(dataloader_idx):
            name = PART_NAMES[list(module.scoring)[dataloader_idx]]
            _restart(self.val_progress_bar, name, self.total_val_batches_current_dataloader)

    def on_test_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        if self.has_dataloader_changed(dataloader_idx):
            _restart(self.test_progress_bar, PART_NAMES["test"], self.total_test_batches_current_dataloader)

    def on_exception(self, trainer, module, exception):
        for line in (self._val_progress_bar, self._test_progress_bar, self._train_progress_bar):
            if line is not None:
                line.close()  # so that the error begins a line

    def _should_update(self, current, total):
        return super()._should_update(current, total) or (self.is_enabled and current == 1)

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, module)
        figures = {"val": metrics.get("val/video_top1"), "gap": metrics.get("gap/video_top1")}
        if self.loss is not None:  # Lightning has divided it
            figures = {"loss": float(self.loss) * trainer.accumulate_grad_batches, **figures}
        if self.throughput is not None:
            figures["clips/s"] = self.throughput.latest.get("clips_per_s")
            seconds = self.throughput.estimate_seconds_left(trainer)
            figures["left"] = None if seconds is None else tqdm.format_interval(seconds)
        return {name: figure for name, figure in figures.items() if figure is not None}


def _restart(bar, name, total):
    bar.set_description_str(name, refresh=False)
    bar.reset(total)
