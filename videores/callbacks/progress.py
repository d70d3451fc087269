"""The progress bar: Lightning's, of an epoch, with loss, throughput and the time that the whole run still takes.

The loss is taken from the step itself: Lightning's `self.log` works at each step for what is shown every twenty.
"""

from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

REFRESH = 20  # steps; each refresh reads the loss, for which a GPU is waited for


class ProgressBar(TQDMProgressBar):
    def __init__(self, throughput=None):
        super().__init__(refresh_rate=REFRESH)
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
