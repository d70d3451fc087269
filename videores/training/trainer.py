"""Options of Lightning's trainer: devices, precision, callbacks."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from videores.compute import precision
from videores.config.schema import Config, TrainConfig, TrainerConfig
from videores.errors import UserError
from videores.runtime import launch
from videores.training.callbacks.autotune import Autotuner
from videores.training.callbacks.checkpointing import Checkpointing
from videores.training.callbacks.early_stopping import EarlyStopping
from videores.training.callbacks.inexact_resume import InexactResume
from videores.training.callbacks.metrics_log import MetricsLog
from videores.training.callbacks.nan_guard import NanGuard
from videores.training.callbacks.precise_bn import PreciseBN
from videores.training.callbacks.progress import ProgressBar
from videores.training.callbacks.throughput import Throughput
from videores.training.callbacks.watch import Watch
from videores.training.callbacks.weight_averaging import make_ema, make_swa
from videores.training.resume import ResumePoint
from videores.training.run_folder import RunRecord

COMPRESSION_HOOKS = {"none": None, "fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}


def make_hardware_options(trainer: TrainerConfig, accumulate: int = 1) -> dict[str, Any]:
    """Return Lightning's accelerator, devices, num_nodes and strategy.

    Raises UserError for devices that are absent.
    """
    accelerator = _select_accelerator(trainer.accelerator)
    if trainer.score_precision == "fp16" and accelerator == "cpu":
        raise UserError("trainer.score_precision=fp16 needs a GPU: use bf16 or fp32")
    devices, nodes = launch.resolve_devices(trainer, torch.cuda.device_count() if accelerator == "gpu" else None)
    several = devices * nodes > 1
    if accelerator == "cpu" and several:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))
    precision.set_tf32(False)  # scores are float32; a training step may ask for it (module.py)
    strategy = DDPStrategy(**make_ddp_options(accelerator, trainer, accumulate)) if several else "auto"
    return dict(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)


def check_training_device(trainer: TrainerConfig) -> None:
    """Raise UserError for options that training on this device does not have.

    They are no error of a test: the run of a GPU can be tested on a CPU.
    """
    accelerator = _select_accelerator(trainer.accelerator)
    precision.check_precision(trainer, _to_torch_device(accelerator))
    if accelerator == "cpu" and trainer.sync_batchnorm:
        raise UserError(
            "trainer.sync_batchnorm needs GPUs, torch has none for CPUs: leave it out, or use model.norm=group, which "
            "does not depend on the batch"
        )
    if accelerator == "cpu" and trainer.compression != "none":
        raise UserError(
            f"trainer.compression={trainer.compression} needs GPUs: leave it out, on a CPU gradients cost more to "
            "convert than to exchange"
        )


def _select_accelerator(accelerator):
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu needs a CUDA device and torch finds none: use trainer.accelerator=cpu")
    if accelerator == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    return accelerator


def _to_torch_device(accelerator):
    return {"gpu": "cuda"}.get(accelerator, accelerator)


def make_ddp_options(accelerator: str, trainer: TrainerConfig, accumulate: int) -> dict[str, Any]:
    """Return DDP's options, with the reasons in docs/distributed.md.

    By DDP's default, rank 0 sends its batch norms' buffers to the others: with sync_batchnorm all have the same.
    """
    buffers = {"broadcast_buffers": False} if trainer.sync_batchnorm else {}
    return dict(
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        timeout=timedelta(minutes=trainer.timeout),
        gradient_as_bucket_view=True,  # gradients lie in the buffers that are exchanged: no copy
        static_graph=accumulate == 1,  # torch 2.14 fails where the first batch exchanges no gradients
        ddp_comm_hook=COMPRESSION_HOOKS[trainer.compression],
        **buffers,
    )


def make_common_options(folder: Path | None) -> dict[str, Any]:
    """Return the options of every trainer; `folder` is its default_root_dir."""
    # Lightning's own requeueing saves within the signal's handler, wherever the step happens to be.
    plugins = [SLURMEnvironment(auto_requeue=False)] if launch.detect_launcher() == "srun" else []
    return dict(
        default_root_dir=folder,
        logger=False,
        use_distributed_sampler=False,  # Lightning's pads; ours does not
        num_sanity_val_steps=0,  # every file was probed; a partial validation would look like a result
        enable_model_summary=False,
        plugins=plugins,
    )


def make_resume_signature(trainer: TrainerConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the hardware that must stay for a run to resume exactly."""
    device = _to_torch_device(options["accelerator"])
    setting = precision.select_setting(trainer, device)
    return {"processes": options["devices"] * options["num_nodes"], "device": device, "precision": setting.precision}


def make_training_options(
    cfg: Config, folder: Path, checkpointing: Checkpointing, resume_point: ResumePoint | None, record: RunRecord
) -> dict[str, Any]:
    """Return the options of a training into a run folder, without the hardware's."""
    throughput, watch = Throughput(), Watch(cfg.watch, cfg.trainer.log_every)
    history = MetricsLog(folder / "metrics.jsonl", cfg.trainer.log_every, throughput, watch)
    callbacks = [NanGuard(), throughput, watch, history, ProgressBar(throughput)]
    callbacks += [Autotuner(record)] if cfg.run.autotune else []
    callbacks += [*make_recipe_callbacks(cfg.train), checkpointing]
    callbacks += [InexactResume()] if resume_point and resume_point.inexact else []
    common = make_common_options(folder)
    return dict(
        **common | {"plugins": [*common["plugins"], checkpointing.io]},
        max_epochs=cfg.train.epochs,
        accumulate_grad_batches=cfg.train.accumulate,
        precision=precision.LIGHTNING_PRECISIONS[checkpointing.signature["precision"]],
        callbacks=callbacks,
        profiler=throughput.wait,
    )


def make_trial_options(cfg: Config) -> dict[str, Any]:
    """Return all options of a trial: training steps that keep and write nothing."""
    options = make_hardware_options(cfg.trainer)
    setting = precision.select_setting(cfg.trainer, _to_torch_device(options["accelerator"]))
    loops = dict(max_epochs=-1, limit_val_batches=0, accumulate_grad_batches=cfg.train.accumulate)
    number_format = precision.LIGHTNING_PRECISIONS[setting.precision]
    return dict(**options, **make_common_options(None), **loops, enable_checkpointing=False, precision=number_format)


def make_recipe_callbacks(train: TrainConfig) -> list[pl.Callback]:
    """Return a recipe's callbacks: an average is updated before its statistics."""
    averager = make_ema(train.ema) if train.ema is not None else make_swa(train.swa) if train.swa is not None else None
    callbacks: list[pl.Callback] = [averager] if averager else []
    if train.precise_bn:
        callbacks.append(PreciseBN(train.precise_bn, averager))
    elif train.swa is not None:  # its weights are none that training had, and have no statistics
        callbacks.append(PreciseBN(None, averager, train.swa))
    return callbacks + ([EarlyStopping(train.patience)] if train.patience else [])
