"""Real trainings that write down what they compute, for test_equality.py: recording.py {name: overrides} as JSON.

Runs `run.train` for each case, on this rank, with a callback
that keeps every step's gradients, the videos of every batch, dropout masks, and how often DDP exchanged gradients.
"""

import json
import sys

import lightning.pytorch as pl
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from videores import run
from videores.config import parse
from videores.training import trainer


class Recorder(pl.Callback):
    def __init__(self, path):
        self.path, self.exchanges = path, 0
        self.kept = {"gradients": [], "videos": [], "masks": [], "exchanges": []}

    def on_train_start(self, trainer, module):
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.register_forward_hook(self.see_mask)
        if trainer.world_size > 1:
            trainer.strategy.model.register_comm_hook(None, self.exchange)

    def see_mask(self, part, args, y):
        if part.training:
            self.kept["masks"].append(y == 0)

    def exchange(self, _, bucket):
        self.exchanges += 1
        return allreduce_hook(torch.distributed.group.WORLD, bucket)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.kept["videos"].append([trainer.current_epoch, *batch["video"].tolist()])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.kept["exchanges"].append(self.exchanges)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.kept["gradients"].append({name: p.grad.clone() for name, p in module.named_parameters()})

    def on_train_end(self, trainer, module):
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        torch.save({**self.kept, "weights": weights}, self.path.parent / f"{self.path.name}-{trainer.global_rank}.pt")


def main():
    options = trainer.make_training_options

    def recorded(cfg, folder, *more):
        found = options(cfg, folder, *more)
        return {**found, "callbacks": [*found["callbacks"], Recorder(folder)]}

    trainer.make_training_options = recorded
    for name, overrides in json.loads(sys.argv[1]).items():
        cfg = parse.load_config("tiny.yaml", [*overrides, f"run.dir={name}"])
        assert run.train(cfg, "tiny.yaml") == 0


if __name__ == "__main__":
    main()
