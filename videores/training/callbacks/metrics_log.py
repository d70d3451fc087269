"""Write metrics.jsonl: one JSON object a line with epoch, step and metrics."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import lightning.pytorch as pl
from pydantic import AfterValidator

from videores.runtime.files import check_type, write_text
from videores.training.callbacks.loggers import open_loggers
from videores.training.callbacks.throughput import Throughput
from videores.training.callbacks.watch import Watch

VALIDATION_PREFIXES = ("val/", "train_eval/", "gap/")


def _check_row(row: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(row.get(key), int) for key in ("epoch", "step")):
        raise ValueError("must have the numbers epoch and step")
    return row


LogRow = Annotated[dict[str, int | float | None], AfterValidator(_check_row)]


def read_metrics_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl, without a last line that a kill cut off.

    Raises UserError for a damaged one.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    remedy = "mend or remove the line: the run only loses a point of its curves"
    return [check_type(line, LogRow, f"{path}, line {number}", remedy) for number, line in enumerate(lines, 1)]


class MetricsLog(pl.Callback):
    """Write a row every `log_every` steps, and one for each validation.

    Rows go to the loggers too. Those of steps have the mean loss and accuracy of the `train/steps` steps since the last
    such row, and the figures of `throughput` and `watch`. A resumed run appends.
    """

    state_key = "History"  # the class's former name, in checkpoints of older runs

    def __init__(self, path: Path, log_every: int, throughput: Throughput, watch: Watch) -> None:
        self.path, self.log_every, self.throughput, self.watch = path, log_every, throughput, watch
        self.sums: dict[str, Any] = {}  # of the batches since the last row
        self.lr = math.nan  # that this step is made with
        self.loggers: list[Any] = []
        self.num_rows = 0  # written up to the checkpoint that is continued, and since

    def on_train_start(self, trainer, module):
        steps = trainer.max_epochs * module.steps_per_epoch()
        self.log_every = self.watch.log_every = min(self.log_every, steps)  # the shortest run has a row too
        if trainer.is_global_zero:
            if self.path.exists():  # a resumed run repeats what came after its checkpoint
                rows = read_metrics_log(self.path)[: self.num_rows]
                write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
            self.loggers = open_loggers(module.cfg, self.path.parent, trainer.global_step)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]  # at the batch's end it is the next step's already

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        ends_step = module.ends_step(batch_idx)
        batch = {"loss": outputs["loss"].detach(), "hits": outputs["hits"], "batches": 1, "steps": int(ends_step)}
        self.sums = {name: self.sums.get(name, 0) + value for name, value in batch.items()}
        if ends_step and trainer.global_step % self.log_every == 0:
            sums, self.sums = self.sums, {}
            if trainer.is_global_zero:
                row = {
                    "train/loss": float(sums["loss"]) / sums["steps"],  # Lightning has divided each by those of a step
                    "train/top1": 100 * float(sums["hits"]) / sums["batches"],
                    "train/steps": int(sums["steps"]),
                    "lr": self.lr,
                    **self.throughput.measure_since_last(trainer),
                    **self.watch.values,
                }
                self.write(trainer, row)

    def on_validation_end(self, trainer, module):
        if trainer.is_global_zero and not trainer.sanity_checking:
            metrics = trainer.callback_metrics
            names = [name for name in sorted(metrics) if name.startswith(VALIDATION_PREFIXES)]
            self.write(trainer, {name: float(metrics[name]) for name in names})

    def on_train_end(self, trainer, module):
        self.close()

    def on_exception(self, trainer, module, exception):
        self.close()

    def close(self):
        while self.loggers:
            self.loggers.pop(0).close()

    def state_dict(self):
        return {"rows": self.num_rows, "sums": {name: float(value) for name, value in self.sums.items()}}

    def load_state_dict(self, state_dict):
        self.num_rows, self.sums = state_dict["rows"], state_dict.get("sums", {})  # older checkpoints have no sums

    def write(self, trainer, values):
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        values = dict.fromkeys(values) | finite  # JSON has no NaN: null
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **values}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.num_rows += 1
        for logger in self.loggers:
            logger.write({"epoch": trainer.current_epoch, **finite}, trainer.global_step)
