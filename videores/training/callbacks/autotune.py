"""Train with the setting that compute.autotune measures as fastest."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins import MixedPrecision, Precision

from videores.compute import autotune, precision
from videores.config.schema import TrainerConfig
from videores.config.streams import compute_input_shape
from videores.errors import UserError


class Autotuner(pl.Callback):
    """Set the fastest setting as training is set up, on all ranks.

    They know each other then, and the optimizer is not made yet. Rank 0 measures, or reads from `record` (env.json, a
    run_folder.RunRecord) what an earlier start measured.
    """

    def __init__(self, record: Any) -> None:
        self.record = record

    def setup(self, trainer, module, stage):
        if stage != "fit":
            return
        result = trainer.strategy.broadcast(self.load_or_measure(trainer, module) if trainer.is_global_zero else None)
        if result is None:
            raise UserError(
                f"{self.record.path} must have the setting that run.autotune selected, since measuring again could "
                "change the result: put the file back, or start again with run.overwrite=true"
            )
        module.tuned = precision.PrecisionSetting(**result["chosen"])
        name, device = precision.LIGHTNING_PRECISIONS[module.tuned.precision], trainer.strategy.root_device.type
        trainer.strategy.precision_plugin = Precision() if name == "32-true" else MixedPrecision(name, device)
        self.record.update(**result["chosen"], autotune=result)

    def load_or_measure(self, trainer, module):
        """Return the result of an earlier start, else a new one; None where it is lost."""
        stored = self.record.values.get("autotune")
        if stored and _is_setting_allowed(stored["chosen"], module.cfg.trainer):
            return stored
        if not stored and self.record.values["starts"][-1]["step"] > 0:
            return None
        cfg, device = module.cfg, trainer.strategy.root_device
        shape_BCTHW = (cfg.data.batch_size * cfg.data.clip.repeat, *compute_input_shape(cfg.data))
        size = "x".join(map(str, shape_BCTHW[2:]))
        print(f"tuning  {shape_BCTHW[0]} clips of {size} a step", flush=True)
        result = autotune.select_fastest_setting(module.model, shape_BCTHW, len(module.classes), cfg.trainer, device)
        print(autotune.format_table(result), flush=True)
        return result


def _is_setting_allowed(setting: dict[str, Any], trainer: TrainerConfig) -> bool:
    """Return whether the configuration leaves a setting open or asks for it.

    It asks for another where run.resume=inexact goes on with another precision.
    """
    required = {"precision": trainer.precision, "channels_last": trainer.channels_last, "compiled": trainer.compile}
    return all(value in ("auto", setting[name]) for name, value in required.items())
