"""metrics.jsonl: one JSON object a line with epoch, step, and what was logged; appended to when a run resumes."""

import json
import math

import lightning.pytorch as pl

from videores.runtime.files import write_atomically
from videores.training.callbacks import loggers

VALIDATION_PREFIXES = ("val/", "train_eval/", "gap/")


def read_metrics_log(path):
    """The rows of metrics.jsonl; a killed run may have left half of a last line, which is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


class MetricsLog(pl.Callback):
    """Writes a row every so many steps, with what `watch` saw of that step, and one for each validation; both go to
    `sinks` too (callbacks/sinks.py)."""

    def __init__(self, path, every, throughput, watch):
        self.path, self.every, self.throughput, self.watch = path, every, throughput, watch
        self.batches = []  # what the batches of this step gave
        self.lr = None  # what the step is made with
        self.sinks = []
        self.rows = 0  # written up to the checkpoint that is continued, and since

    def on_train_start(self, trainer, module):
        if trainer.is_global_zero and self.path.exists():
            self.forget_after(self.rows)
        steps = trainer.max_epochs * module.steps_per_epoch()
        self.every = self.watch.every = min(self.every, steps)  # the shortest run has a row too
        if trainer.is_global_zero:
            self.sinks = loggers.open_loggers(module.cfg, self.path.parent, trainer.global_step)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]  # at the batch's end it is the next step's already

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.batches.append(outputs)
        if not module.ends_step(batch_idx):
            return
        batches, self.batches = self.batches, []
        if trainer.global_step % self.every == 0 and trainer.is_global_zero:
            self.write(trainer, self.training(trainer, batches))

    def on_validation_end(self, trainer, module):
        if trainer.is_global_zero and not trainer.sanity_checking:
            metrics = trainer.callback_metrics
            self.write(
                trainer,
                {name: float(metrics[name]) for name in sorted(metrics) if name.startswith(VALIDATION_PREFIXES)},
            )

    def on_train_end(self, trainer, module):
        self.close()

    def on_exception(self, trainer, module, exception):
        self.close()

    def close(self):
        opened, self.sinks = self.sinks, []
        for sink in opened:
            sink.close()

    def training(self, trainer, batches):
        return {
            "train/loss": sum(float(one["loss"]) for one in batches),  # Lightning has divided each by their number
            "train/top1": 100 * sum(float(one["hits"]) for one in batches) / len(batches),
            "lr": self.lr,
            **self.throughput.since_last(trainer),
            **self.watch.values,
        }

    def state_dict(self):
        return {"rows": self.rows}

    def load_state_dict(self, state_dict):
        self.rows = state_dict["rows"]

    def forget_after(self, rows):
        """A resumed run repeats what came after its checkpoint."""
        kept = read_metrics_log(self.path)[:rows]
        with write_atomically(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, trainer, values):
        values = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **values}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows += 1
        for sink in self.sinks:
            sink.write(row)
