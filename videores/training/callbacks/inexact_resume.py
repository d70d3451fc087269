"""Continuing a run with another number of processes, or of videos in a batch, than it was begun with."""

import lightning.pytorch as pl
from torch.optim.lr_scheduler import LambdaLR, LinearLR

from videores.training import resume
from videores.training.optim import compute_warmup_factor


class InexactResume(pl.Callback):
    """Begins the interrupted epoch again, for its batches are others now, with the learning rates that the schedule has
    there for the batches of now; what a plateau has lowered stays lowered. Weights and the optimizer's state are kept.
    """

    def on_load_checkpoint(self, trainer, module, checkpoint):
        self.epoch = resume.rewind_to_epoch_start(checkpoint["loops"]["fit_loop"])
        # Lightning makes its schedules after this, and gives them the states, of the batches of then, that it finds.
        self.schedules, checkpoint["lr_schedulers"] = checkpoint["lr_schedulers"], []

    def on_train_start(self, trainer, module):
        step = self.epoch * module.steps_per_epoch()
        for config, then in zip(trainer.lr_scheduler_configs, self.schedules, strict=True):
            restore_schedule(config.scheduler, then, step)


def restore_schedule(schedule, then, step):
    """then: the state of the schedule as the run was interrupted. See optim.make_schedules."""
    if isinstance(schedule, LambdaLR):
        schedule.last_epoch = step
        set_learning_rates(schedule, [factor(step) for factor in schedule.lr_lambdas])
    elif isinstance(schedule, LinearLR):
        schedule.last_epoch = step
        before = compute_warmup_factor(then["last_epoch"], then["total_iters"])
        lowered = [
            g["lr"] / (rate * before) for g, rate in zip(get_parameter_groups(schedule), then["base_lrs"], strict=True)
        ]
        set_learning_rates(schedule, [factor * compute_warmup_factor(step, schedule.total_iters) for factor in lowered])
    else:
        schedule.load_state_dict(then)


def get_parameter_groups(schedule):
    return schedule.optimizer.param_groups


def set_learning_rates(schedule, factors):
    for group, rate, factor in zip(get_parameter_groups(schedule), schedule.base_lrs, factors, strict=True):
        group.update(initial_lr=rate, lr=rate * factor)
