"""The progress bar: Lightning's, of an epoch, with the throughput and the time that the whole run still takes."""

from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

REFRESH = 20  # steps; each refresh reads the loss, for which a GPU is waited for


class ProgressBar(TQDMProgressBar):
    def __init__(self, throughput=None):
        super().__init__(refresh_rate=REFRESH)
        self.throughput = throughput  # None without training

    def get_metrics(self, trainer, module):
        metrics = super().get_metrics(trainer, module)
        if self.throughput is None:
            return metrics
        left = self.throughput.left(trainer)
        ends = {} if left is None else {"run_left": tqdm.format_interval(left)}
        return {**metrics, **self.throughput.latest, **ends}
