"""Train with the setting that compute.autotune measures as fastest, on all ranks and when a run resumes."""

import lightning.pytorch as pl
from lightning.pytorch.plugins import MixedPrecision, Precision

from videores.compute import autotune, precision
from videores.errors import UserError


class Autotuner(pl.Callback):
    """Decides as training is set up: the processes know each other then, and the optimizer is not made yet.

    The first process measures, or reads what env.json (`record`, a run_folder.Record) holds of an earlier start.
    """

    def __init__(self, record):
        self.record = record

    def setup(self, trainer, module, stage):
        if stage != "fit":
            return
        found = trainer.strategy.broadcast(self.find(trainer, module) if trainer.is_global_zero else None)
        if found is None:
            raise UserError(
                f"{self.record.path} no longer says what run.autotune chose, and measuring again could change the "
                "result: put it back, or start again with run.overwrite=true"
            )
        module.tuned = precision.PrecisionSetting(**found["chosen"])
        trainer.strategy.precision_plugin = make_precision_plugin(module.tuned, trainer.strategy.root_device.type)
        self.record.update(**found["chosen"], autotune=found)

    def find(self, trainer, module):
        known = self.record.values.get("autotune")
        if known and is_setting_allowed(known["chosen"], module.cfg.trainer):  # what a run began with, it goes on with
            return known
        if not known and self.record.values["starts"][-1]["step"] > 0:
            return None
        cfg, device = module.cfg, trainer.strategy.root_device
        clips, side = cfg.data.batch_size * cfg.data.clip.repeat, cfg.data.transform.crop
        shape_BCTHW = (clips, 3, cfg.data.clip.frames, side, side)
        print(f"tuning  {clips} clips of {cfg.data.clip.frames}x{side}x{side} a step", flush=True)
        found = autotune.select_fastest_setting(module.model, shape_BCTHW, len(module.classes), cfg.trainer, device)
        print(autotune.format_table(found), flush=True)
        return found


def is_setting_allowed(chosen, trainer):
    """Not so where run.resume=inexact goes on with another precision than the one that was chosen."""
    wanted = {"precision": trainer.precision, "channels_last": trainer.channels_last, "compiled": trainer.compile}
    return all(value in ("auto", chosen[name]) for name, value in wanted.items())


def make_precision_plugin(setting, device):
    """Lightning's for a number format."""
    name = precision.LIGHTNING_PRECISIONS[setting.precision]
    return Precision() if name == "32-true" else MixedPrecision(name, device)
