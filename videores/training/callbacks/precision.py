"""TF32 in training steps alone: what is scored in between, and after, is float32."""

import lightning.pytorch as pl

from videores.compute import precision


class Tf32(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.setting.precision == "tf32":
            precision.set_tf32(True)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if module.setting.precision == "tf32":
            precision.set_tf32(False)
