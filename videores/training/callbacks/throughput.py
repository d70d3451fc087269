"""Measure throughput, step time, share of waiting for the DataLoader, and memory.

Times are those of the process's own clock between rows, so nothing waits for a GPU on their account: over some steps
that clock and the GPU's agree, as the loss of each step is looked at one step later (nan_guard.py).
"""

import math
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.profilers import PassThroughProfiler

from videores.config.schema import DataConfig
from videores.runtime import machine

HINT_WAIT_SHARE = 0.3  # of the time, above which a hint is printed
HINT_MIN_BATCHES = 10  # that the share must be of


class _DataWaitProfiler(PassThroughProfiler):
    """Add up the seconds that training waits for the DataLoader.

    It is a profiler, as Lightning tells only that when it asks for a batch and when it has it.
    """

    def __init__(self):
        super().__init__()
        self.seconds = self.began = 0.0

    def start(self, action_name):
        if action_name.endswith("train_dataloader_next"):
            self.began = time.perf_counter()

    def stop(self, action_name):
        if action_name.endswith("train_dataloader_next"):
            self.seconds += time.perf_counter() - self.began


class Throughput(pl.Callback):
    """Measure the figures of a row of metrics.jsonl, which `latest` keeps.

    The trainer needs `wait` as its profiler.
    """

    def __init__(self) -> None:
        self.wait = _DataWaitProfiler()
        self.latest: dict[str, Any] = {}
        # (batches, seconds, seconds of waiting) in the rows since reading settled
        self.hint_totals: tuple[float, ...] | None = None

    def on_train_start(self, trainer, module):
        self.start = (time.perf_counter(), trainer.fit_loop.total_batch_idx + 1)
        self.restart_interval(trainer)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.batches += 1

    def on_validation_end(self, trainer, module):
        self.restart_interval(trainer)  # its time is no training step's

    def restart_interval(self, trainer):
        self.began, self.wait_at_start = time.perf_counter(), self.wait.seconds
        self.first_step, self.batches = trainer.global_step, 0

    def measure_since_last(self, trainer):
        """Return the figures of the steps since the last call, validation, or start.

        clips_per_s is of all ranks, data_wait a share of the time.
        """
        data = trainer.lightning_module.cfg.data
        interval = (self.batches, time.perf_counter() - self.began, self.wait.seconds - self.wait_at_start)
        batches, seconds, wait = interval
        clips = batches * data.batch_size * data.clip.repeat * trainer.world_size
        self.latest = {
            "clips_per_s": round(clips / seconds, 2),
            "step_ms": round(1000 * seconds / max(1, trainer.global_step - self.first_step), 2),
            "data_wait": round(min(1.0, wait / seconds), 4),
            **_measure_memory_mb(trainer.strategy.root_device),
        }
        self.warn_slow_loading(data, interval, trainer.current_epoch)
        self.restart_interval(trainer)
        return self.latest

    def estimate_seconds_left(self, trainer):
        """Return the seconds until the last epoch ends, or None before a step.

        They include validation, at the pace since the start.
        """
        began, first = self.start
        done = trainer.fit_loop.total_batch_idx + 1 - first
        total = trainer.max_epochs * trainer.num_training_batches - first
        return (time.perf_counter() - began) / done * (total - done) if done > 0 else None

    def warn_slow_loading(self, data: DataConfig, interval: tuple[int, float, float], epoch: int) -> None:
        """Hint once that the DataLoader is the bottleneck.

        The first interval does not count, in which DataLoader workers start, nor the first epoch where data.cache keeps
        what it reads.
        """
        if self.hint_totals is None and not (data.cache == "ram" and epoch == 0):
            self.hint_totals = (0, 0.0, 0.0)
        elif self.hint_totals is not None and self.hint_totals[0] < math.inf:
            self.hint_totals = tuple(a + b for a, b in zip(self.hint_totals, interval, strict=True))
            batches, seconds, wait = self.hint_totals
            if batches >= HINT_MIN_BATCHES and wait / seconds > HINT_WAIT_SHARE:
                self.hint_totals = (math.inf, seconds, wait)
                print(f"\n{format_wait_hint(wait / seconds, data, machine.count_cpus())}", file=sys.stderr)


def format_wait_hint(share: float, data: DataConfig, cpus: int) -> str:
    """Return the line of advice for a share of waiting of the training's time."""
    remedies = [
        f"data.workers={cpus - 1} (now {data.workers})" if data.workers < cpus - 1 else "",
        "small copies by tools/prepare.py --out",
        "data.cache=ram if all frames fit into memory" if data.cache == "none" else "",
    ]
    return f"hint: training waits for videos {share:.0%} of the time: try {', '.join(filter(None, remedies))}"


def _measure_memory_mb(device):
    """Return {"memory_mb": MiB}: a GPU's peak of allocations, or a process's size."""
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else machine.read_resident_memory()
    return {} if used is None else {"memory_mb": round(used / 2**20)}
