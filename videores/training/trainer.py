"""Lightning's trainer for a configuration: devices, precision, callbacks."""

import os
from datetime import timedelta

import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from videores.compute import precision
from videores.errors import UserError
from videores.runtime import launch
from videores.training.callbacks.autotune import Autotuner
from videores.training.callbacks.early_stopping import EarlyStopping
from videores.training.callbacks.inexact_resume import InexactResume
from videores.training.callbacks.metrics_log import MetricsLog
from videores.training.callbacks.nan_guard import NanGuard
from videores.training.callbacks.precise_bn import PreciseBN
from videores.training.callbacks.precision import Tf32
from videores.training.callbacks.progress import ProgressBar
from videores.training.callbacks.throughput import Throughput
from videores.training.callbacks.watch import Watch
from videores.training.callbacks.weight_averaging import make_ema, make_swa

COMPRESSION_HOOKS = {"none": None, "fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}


def make_hardware_options(trainer, accumulate=1):
    """Lightning's accelerator, devices, num_nodes and strategy. Raises UserError for what is not there."""
    accelerator = select_accelerator(trainer.accelerator)
    if trainer.score_precision == "fp16" and accelerator == "cpu":
        raise UserError("trainer.score_precision=fp16 is for GPUs: on a CPU use bf16 or fp32")
    devices, nodes = launch.resolve_devices(trainer, torch.cuda.device_count() if accelerator == "gpu" else None)
    several = devices * nodes > 1
    if accelerator == "cpu" and several:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))
    precision.set_tf32(False)  # scores are float32; training may ask for it (callbacks/tf32.py)
    strategy = DDPStrategy(**make_ddp_options(accelerator, trainer, accumulate)) if several else "auto"
    return dict(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)


def check_training_device(trainer):
    """What training on a CPU can't do, or on an old GPU. (The run of a GPU can still be tested on a CPU.)"""
    precision.check_precision(trainer, to_torch_device(select_accelerator(trainer.accelerator)))
    if select_accelerator(trainer.accelerator) != "cpu":
        return
    if trainer.sync_batchnorm:
        raise UserError(
            "trainer.sync_batchnorm is for GPUs, torch has none for CPUs: leave it out, or use model.norm=group, which "
            "does not depend on the batch"
        )
    if trainer.compression != "none":
        raise UserError(
            f"trainer.compression={trainer.compression} is for GPUs: on a CPU, gradients cost more to convert than to "
            "exchange; leave it out"
        )


def select_accelerator(accelerator):
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu, but torch finds no CUDA device: use trainer.accelerator=cpu")
    if accelerator == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    return accelerator


def to_torch_device(accelerator):
    """torch's word for Lightning's."""
    return {"gpu": "cuda"}.get(accelerator, accelerator)


def make_ddp_options(accelerator, trainer, accumulate):
    """DDP's options; docs/distributed.md says why. Batch norms' buffers are the first process' by DDP's default; where
    all have the same, they need not be sent."""
    buffers = {"broadcast_buffers": False} if trainer.sync_batchnorm else {}
    return dict(
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        timeout=timedelta(minutes=trainer.timeout),
        gradient_as_bucket_view=True,  # gradients lie in the buffers that are exchanged: no copy
        static_graph=accumulate == 1,  # torch 2.14 fails where the first batch exchanges no gradients
        ddp_comm_hook=COMPRESSION_HOOKS[trainer.compression],
        **buffers,
    )


def make_common_options(folder):
    return dict(
        default_root_dir=folder,
        logger=False,
        use_distributed_sampler=False,  # Lightning's pads; ours does not
        num_sanity_val_steps=0,  # every file was probed; a partial validation would look like a result
        enable_model_summary=False,
        plugins=make_cluster_plugins(),
    )


def make_cluster_plugins():
    """Lightning's own requeueing saves within the signal's handler, wherever the step happens to be."""
    return [SLURMEnvironment(auto_requeue=False)] if launch.detect_launcher() == "srun" else []


def make_resume_signature(trainer, options):
    """What a run must be continued with, beside its configuration, to end as if it had not been stopped."""
    device = to_torch_device(options["accelerator"])
    number_format, _ = precision.choose_precision(device, trainer.precision, trainer.channels_last)
    return {"processes": options["devices"] * options["num_nodes"], "device": device, "precision": number_format}


def make_training_options(cfg, folder, saving, start, record):
    """`saving` is the callback that writes checkpoints, `start` the resuming.Start that it continues from, if any,
    `record` the run's env.json."""
    throughput, watch = Throughput(), Watch(cfg.watch, cfg.trainer.log_every)
    history = MetricsLog(folder / "metrics.jsonl", cfg.trainer.log_every, throughput, watch)
    callbacks = [NanGuard(), throughput, watch, history, Tf32(), ProgressBar(throughput)]
    callbacks += [Autotuner(record)] if cfg.run.autotune else []
    callbacks += [*make_recipe_callbacks(cfg.train), saving]
    common = make_common_options(folder)
    return dict(
        **common | {"plugins": [*common["plugins"], saving.io]},
        max_epochs=cfg.train.epochs,
        accumulate_grad_batches=cfg.train.accumulate,
        precision=precision.LIGHTNING_PRECISIONS[saving.made_with["precision"]],
        callbacks=[*callbacks, InexactResume()] if start and start.inexact else callbacks,
        profiler=throughput.wait,
    )


def make_trial_options(cfg):
    """Training steps alone, of a trial: nothing is validated, kept or written."""
    options = make_hardware_options(cfg.trainer)
    setting = precision.select_setting(cfg.trainer, to_torch_device(options["accelerator"]))
    loops = dict(max_epochs=-1, limit_val_batches=0, accumulate_grad_batches=cfg.train.accumulate)
    number_format = precision.LIGHTNING_PRECISIONS[setting.precision]
    return dict(**options, **make_common_options(None), **loops, enable_checkpointing=False, precision=number_format)


def make_recipe_callbacks(train):
    """What a recipe asks for beside the optimizer. An average is updated before its statistics are computed."""
    averaging = make_ema(train.ema) if train.ema is not None else make_swa(train.swa) if train.swa is not None else None
    callbacks = [averaging] if averaging else []
    if train.precise_bn:
        callbacks.append(PreciseBN(train.precise_bn, averaging))
    elif train.swa is not None:  # its weights are none that training had, and have no statistics
        callbacks.append(PreciseBN(None, averaging, train.swa))
    return callbacks + ([EarlyStopping(train.patience)] if train.patience else [])
