"""A LightningModule, its data and a plain training of them, without a run folder."""

import lightning.pytorch as pl
import torch

from videores.compute import precision
from videores.config import parse
from videores.data import datamodule
from videores.training import distillation
from videores.training.module import VideoClassifier
from videores.training.trainer import make_recipe_callbacks


def make_config(root, **sections):
    values = {
        "data": {
            "name": "tiny",
            "format": "csv",
            "root": str(root),
            "val": "none",
            "clip": {"frames": 8},
            "transform": {"short_side": 32, "crop": 32, "flip": 0},
            "batch_size": 8,
            "workers": 0,
            "cache": "ram",
        },
        "model": {"name": "r3d_18", "layers": [1], "width": 8, "stem": "small"},
        "train": {"epochs": 2, "optimizer": "adamw", "lr": 0.01, "schedule": "constant"},
        "trainer": {"accelerator": "cpu", "precision": "fp32"},
    }
    return parse.build_config(
        {key: {**values.get(key, {}), **sections.get(key, {})} for key in {*values, *sections}}, "test"
    )


def make_task(cfg, classes=("a", "b")):
    torch.manual_seed(cfg.run.seed)
    return VideoClassifier(cfg, classes)


def make_data(cfg):
    return datamodule.VideoData.from_config(cfg, datamodule.load_videos(cfg.data))


class Watch(pl.Callback):
    """Keeps losses, and whatever `look(module)` says during steps."""

    def __init__(self, look=lambda module: None):
        self.look, self.losses, self.seen = look, [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.append(self.look(module))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))


def fit(cfg, watch=None, precision_name="fp32", *, task=None, more=(), start=None):
    """Trains as experiment.train does, without a run folder; with the callbacks `more`, from the checkpoint `start`."""
    task, watch = task or make_task(cfg), watch or Watch()
    task.teacher, _ = distillation.load_teacher(cfg, task.model, task.classes)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=cfg.train.epochs,
        precision=precision.LIGHTNING_PRECISIONS[precision_name],
        callbacks=[watch, *make_recipe_callbacks(cfg.train), *more],
        use_distributed_sampler=False,
        accumulate_grad_batches=cfg.train.accumulate,
        num_sanity_val_steps=0,
        **quiet,
    )
    trainer.fit(task, make_data(cfg), ckpt_path=start, weights_only=True)
    return task, watch, trainer


def state(task):
    return {key: value.clone() for key, value in task.state_dict().items()}


def differing(ours, theirs):
    return [key for key in ours if not torch.equal(ours[key], theirs[key])]
