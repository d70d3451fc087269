"""Small checkpoints."""

import torch

from videores.config import parse
from videores.training.module import VideoClassifier

CLASSES = ["a", "b", "c"]


def make_task(classes=CLASSES, **model):
    model = {"name": "r3d_18", "layers": [1], "width": 4, "stem": "small", **model}
    data = {"name": "tiny", "format": "csv", "root": "."}
    return VideoClassifier(parse.build_config({"data": data, "model": model, "train": {"epochs": 1}}, "test"), classes)


def save(path, task):
    torch.save(
        {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "global_step": 3, "epoch": 0}, path
    )
    return path
