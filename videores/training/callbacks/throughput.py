"""How fast training goes, and what it waits for: clips/s, time of a step, share of waiting for the loader, memory.

Times are those of the process's own clock between rows, so nothing waits for a GPU on their account: over some steps
that clock and the GPU's agree, as the loss of each step is looked at one step later (nan_guard.py).
"""

import math
import sys
import time

import lightning.pytorch as pl
import torch
from lightning.pytorch.profilers import PassThroughProfiler

from videores.runtime import machine

HINT_WAIT_SHARE = 0.3  # share of waiting
HINT_MIN_BATCHES = 10  # batches that the share must be of


class DataWaitProfiler(PassThroughProfiler):
    """Seconds that training waited for the loader. A profiler, as only to that Lightning says when it asks for a batch
    and when it has it."""

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
    """`latest` are the figures of the last row of metrics.jsonl, which asks for them by `since_last`."""

    def __init__(self):
        self.wait, self.latest = DataWaitProfiler(), {}
        self.rows = None  # (batches, seconds, seconds of waiting) in the rows since reading settled

    def on_train_start(self, trainer, module):
        self.start = (time.perf_counter(), trainer.fit_loop.total_batch_idx + 1)
        self.restart(trainer)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.batches += 1

    def on_validation_end(self, trainer, module):
        self.restart(trainer)  # its time is no training step's

    def restart(self, trainer):
        self.began, self.waited = time.perf_counter(), self.wait.seconds
        self.step, self.batches = trainer.global_step, 0

    def since_last(self, trainer):
        """The figures of the steps since the last call, validation, or start."""
        data = trainer.lightning_module.cfg.data
        row = (self.batches, time.perf_counter() - self.began, self.wait.seconds - self.waited)
        batches, seconds, waited = row
        clips = batches * data.batch_size * data.clip.repeat * trainer.world_size
        self.latest = {
            "clips_per_s": round(clips / seconds, 2),
            "step_ms": round(1000 * seconds / max(1, trainer.global_step - self.step), 2),
            "data_wait": round(min(1.0, waited / seconds), 4),
            **measure_memory_mb(trainer.strategy.root_device),
        }
        self.hint(data, row, trainer.current_epoch)
        self.restart(trainer)
        return self.latest

    def left(self, trainer):
        """Seconds until the last epoch ends, validation included, at the pace since the start; None before a step."""
        began, first = self.start
        done = trainer.fit_loop.total_batch_idx + 1 - first
        total = trainer.max_epochs * trainer.num_training_batches - first
        return (time.perf_counter() - began) / done * (total - done) if done > 0 else None

    def hint(self, data, row, epoch):
        """Says once that the loader is the bottleneck. The first row is not asked, in which loading processes start,
        nor the first epoch where what it reads is kept."""
        if self.rows is None and not (data.cache == "ram" and epoch == 0):
            self.rows = (0, 0.0, 0.0)
        elif self.rows is not None and self.rows[0] < math.inf:
            batches, seconds, waited = self.rows = tuple(a + b for a, b in zip(self.rows, row, strict=True))
            if batches >= HINT_MIN_BATCHES and waited / seconds > HINT_WAIT_SHARE:
                self.rows = (math.inf, seconds, waited)
                print(f"\n{format_wait_hint(waited / seconds, data, machine.count_cpus())}", file=sys.stderr)


def format_wait_hint(share, data, processors):
    """The line that says what to do where training waits for the loader for this share of its time."""
    ways = []
    if data.workers < processors - 1:
        ways.append(f"data.workers={processors - 1} (now {data.workers})")
    ways.append("small copies by tools/prepare.py --out")
    if data.cache == "none":
        ways.append("data.cache=ram if all frames fit into memory")
    return f"hint: {share:.0%} of the time training waits for videos to be read: try {', '.join(ways)}"


def measure_memory_mb(device):
    """{"memory_mb": MiB}: on a GPU the most that was allocated so far, on a CPU what this process holds now."""
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else machine.read_resident_memory()
    return {} if used is None else {"memory_mb": round(used / 2**20)}
