"""The progress bar."""

from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from videores.training.callbacks.throughput import Throughput

REFRESH_RATE = 20  # steps; each refresh reads the loss, for which a GPU is waited for


class ProgressBar(TQDMProgressBar):
    """Show the loss and, with `throughput`, its figures and the time to the run's end."""

    def __init__(self, throughput: Throughput | None = None) -> None:
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
        seconds = self.throughput.estimate_seconds_left(trainer)
        run_left = {} if seconds is None else {"run_left": tqdm.format_interval(seconds)}
        return {**metrics, **self.throughput.latest, **run_left}
