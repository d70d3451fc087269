"""Stop training when the monitored score has not improved for some epochs."""

import math

import lightning.pytorch as pl


class EarlyStopping(pl.Callback):
    """Stop after `patience` epochs whose score is not above the best one before.

    Source: Prechelt 1998, "Early Stopping - But When?", its criterion UP with strips of an epoch. A run that stopped
    stops at once when it is resumed. Every rank has the same score, so that all stop together.
    """

    state_key = "Patience"  # the class's former name, in checkpoints of older runs

    def __init__(self, patience: int) -> None:
        self.patience, self.best_score, self.epochs_without_gain = patience, -math.inf, 0

    def on_train_start(self, trainer, module):
        self.stop_if_exhausted(trainer)

    def on_validation_end(self, trainer, module):
        value = float(trainer.callback_metrics["best_by"])
        if value > self.best_score:  # NaN, of scores that overflowed, never is
            self.best_score, self.epochs_without_gain = value, 0
        else:
            self.epochs_without_gain += 1
        self.stop_if_exhausted(trainer)

    def stop_if_exhausted(self, trainer):
        if self.epochs_without_gain < self.patience:
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            print(f"\nstopped after {self.epochs_without_gain} epochs without a better validation (train.patience)")

    def state_dict(self):
        return {"best": self.best_score, "waited": self.epochs_without_gain}

    def load_state_dict(self, state):
        self.best_score, self.epochs_without_gain = state["best"], state["waited"]
