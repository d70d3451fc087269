"""Early stopping: training ends when what best.ckpt is chosen by has not become better for some epochs."""

import math

import lightning.pytorch as pl


class EarlyStopping(pl.Callback):
    """Source: Prechelt 1998, "Early Stopping - But When?", its criterion UP with strips of an epoch.

    A run that stopped stops at once when it is resumed. Every process has the same value, so that all stop together.
    """

    def __init__(self, epochs):
        self.epochs, self.best, self.waited = epochs, -math.inf, 0

    def on_train_start(self, trainer, module):
        self.stop(trainer)

    def on_validation_end(self, trainer, module):
        value = float(trainer.callback_metrics["best_by"])
        better = value > self.best  # NaN, of scores that overflowed, never is
        self.waited = 0 if better else self.waited + 1
        self.best = value if better else self.best
        self.stop(trainer)

    def stop(self, trainer):
        if self.waited < self.epochs:
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            print(f"\nstopped {self.waited} epochs without a better validation (train.patience)")

    def state_dict(self):
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state):
        self.best, self.waited = state["best"], state["waited"]
