"""metrics.jsonl: one JSON object a line with epoch, step, and what was logged; appended to when a run resumes."""

import json
import time

import lightning.pytorch as pl


class History(pl.Callback):
    def __init__(self, path, every):
        self.path, self.every = path, every
        self.started = self.step = None

    def on_train_start(self, trainer, module):
        self.restart_clock(trainer)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step % self.every == 0 and trainer.is_global_zero:
            self.write(trainer, self.training(trainer, module, outputs))
            self.restart_clock(trainer)

    def on_validation_end(self, trainer, module):
        if trainer.is_global_zero and not trainer.sanity_checking:
            metrics = trainer.callback_metrics
            self.write(trainer, {name: float(metrics[name]) for name in sorted(metrics) if name.startswith("val/")})
            self.restart_clock(trainer)

    def training(self, trainer, module, outputs):
        seconds = time.perf_counter() - self.started
        return {
            "train/loss": float(outputs["loss"]),
            "train/top1": 100 * float(outputs["hits"]),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "clips_per_s": round((trainer.global_step - self.step) * module.global_batch() / seconds, 2),
        }

    def restart_clock(self, trainer):
        self.started, self.step = time.perf_counter(), trainer.global_step

    def write(self, trainer, values):
        with self.path.open("a") as file:
            file.write(json.dumps({"epoch": trainer.current_epoch, "step": trainer.global_step, **values}) + "\n")
