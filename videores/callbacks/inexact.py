"""Continuing a run with another number of processes, or of videos in a batch, than it was begun with."""

import lightning.pytorch as pl
from torch.optim.lr_scheduler import LambdaLR

from videores.callbacks import positions


class Inexact(pl.Callback):
    """Begins the interrupted epoch again, for its batches are others now, with the learning rates that the schedule has
    there for the batches of now. Weights and the optimizer's state are kept."""

    def __init__(self):
        self.epoch = None

    def on_load_checkpoint(self, trainer, module, checkpoint):
        self.epoch = positions.begin_epoch_again(checkpoint["loops"]["fit_loop"])
        checkpoint["lr_schedulers"] = [
            {} if isinstance(config.scheduler, LambdaLR) else state
            for config, state in zip(trainer.lr_scheduler_configs, checkpoint["lr_schedulers"], strict=True)
        ]

    def on_train_start(self, trainer, module):
        step = self.epoch * module.steps_per_epoch()
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LambdaLR):
                move_to(config.scheduler, step)


def move_to(schedule, step):
    schedule.last_epoch = step
    factors = [factor(step) for factor in schedule.lr_lambdas]
    for group, rate, factor in zip(schedule.optimizer.param_groups, schedule.base_lrs, factors, strict=True):
        group.update(initial_lr=rate, lr=rate * factor)
