"""Resume a run with another number of ranks, or another batch size."""

from typing import Any

import lightning.pytorch as pl
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau

from videores.training import resume
from videores.training.optim import compute_warmup_factor


class InexactResume(pl.Callback):
    """Begin the interrupted epoch again, since its batches are others now.

    The learning rates are those that the schedule has there for the batches of now; what a plateau has lowered stays
    lowered. Weights and the optimizer's state are kept.
    """

    def on_load_checkpoint(self, trainer, module, checkpoint):
        self.epoch = resume.rewind_to_epoch_start(checkpoint["loops"]["fit_loop"])
        # Lightning makes its schedules after this, and gives them the states, of the batches of then, that it finds.
        self.schedule_states, checkpoint["lr_schedulers"] = checkpoint["lr_schedulers"], []

    def on_train_start(self, trainer, module):
        step = self.epoch * module.steps_per_epoch()
        for config, state in zip(trainer.lr_scheduler_configs, self.schedule_states, strict=True):
            _restore_schedule(config.scheduler, state, step)


def _restore_schedule(schedule: LRScheduler | ReduceLROnPlateau, state: dict[str, Any], step: int) -> None:
    """Set a schedule to a step; state: its state_dict when the run stopped."""
    if isinstance(schedule, LambdaLR):
        factors = [factor(step) for factor in schedule.lr_lambdas]
    elif isinstance(schedule, LinearLR):
        interrupted = compute_warmup_factor(state["last_epoch"], state["total_iters"])
        groups = zip(schedule.optimizer.param_groups, state["base_lrs"], strict=True)
        plateau_factors = [group["lr"] / (base_lr * interrupted) for group, base_lr in groups]
        factors = [factor * compute_warmup_factor(step, schedule.total_iters) for factor in plateau_factors]
    else:
        schedule.load_state_dict(state)
        return
    schedule.last_epoch = step
    for group, base_lr, factor in zip(schedule.optimizer.param_groups, schedule.base_lrs, factors, strict=True):
        group.update(initial_lr=base_lr, lr=base_lr * factor)
