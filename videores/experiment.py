"""A run from its configuration: data, network, Lightning's trainer, the test, and the files of the run folder."""

import hashlib
import json
import os
import re
from collections import Counter
from datetime import timedelta

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy

from videores import checkpoint, evaluation, precision, reports, runfolder
from videores.callbacks.history import History
from videores.callbacks.nan_guard import NanGuard
from videores.data import datamodule
from videores.errors import UserError
from videores.task import VideoClassifier

DDP_TIMEOUT = timedelta(minutes=10)


def train(cfg, config_name):
    """Trains, then tests the best checkpoint (without validation: the last). Returns the exit code."""
    folder = runfolder.path_of(cfg, config_name)
    trainer_options = hardware(cfg.trainer)
    videos = datamodule.prepare(cfg.data)
    task = VideoClassifier(cfg, videos.index.classes)
    start = runfolder.create(cfg, folder)
    record = runfolder.Record(folder, cfg)
    data = make_data(cfg, videos)
    trainer = pl.Trainer(**trainer_options, **training_options(cfg, folder, videos))
    describe(record, cfg, trainer, videos, folder)
    try:
        record.started(checkpoint.read(start)["global_step"] if start else 0)
        trainer.fit(task, data, ckpt_path=start, weights_only=True)
        code = test(task, data, trainer, cfg, folder, best_checkpoint(folder, videos))
        record.finished(code)
        return code
    except BaseException as error:
        record.finished(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        raise
    finally:
        if runfolder.is_main():
            reports.draw_curves(folder)


def evaluate(cfg, folder, checkpoint_path=None):
    """Tests a run's checkpoint under the configuration's test protocol. Returns the exit code."""
    options = hardware(cfg.trainer)
    videos = datamodule.prepare(cfg.data, parts=("test",))
    task = VideoClassifier(cfg, videos.index.classes)
    path = checkpoint_path or best_checkpoint(folder, videos)
    trainer = pl.Trainer(**options, **common_options(cfg, folder), callbacks=[progress_bar()])
    return test(task, make_data(cfg, videos), trainer, cfg, folder, path)


def make_data(cfg, videos):
    return datamodule.VideoData(cfg.data, videos, val=cfg.val, test=cfg.test, seed=cfg.run.seed)


def best_checkpoint(folder, videos):
    """The checkpoint to test: the one chosen on validation videos, or the last where there were none."""
    best, last = (folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    return best if best.exists() else last


# Lightning's trainer


def hardware(trainer):
    """Devices, nodes and strategy; under torchrun what torchrun says."""
    devices, nodes = trainer.devices, trainer.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if devices not in (1, "auto", local):
            raise UserError(
                f"trainer.devices={devices}, but torchrun started {local} processes: leave trainer.devices out"
            )
        devices, nodes = local, world // local
    accelerator = trainer.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu, but torch finds no CUDA device: use trainer.accelerator=cpu")
    if accelerator == "gpu" and devices == "auto":
        devices = torch.cuda.device_count()
    if accelerator == "gpu" and devices > torch.cuda.device_count():
        raise UserError(f"trainer.devices={devices}, but torch finds {torch.cuda.device_count()} CUDA devices")
    devices = 1 if devices == "auto" else devices
    several = devices * nodes > 1
    if accelerator == "cpu" and several:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))
    return dict(
        accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=ddp(accelerator) if several else "auto"
    )


def ddp(accelerator):
    backend = "nccl" if accelerator == "gpu" else "gloo"
    return DDPStrategy(
        process_group_backend=backend, timeout=DDP_TIMEOUT, gradient_as_bucket_view=True, static_graph=True
    )


def common_options(cfg, folder):
    return dict(
        default_root_dir=folder,
        logger=False,
        use_distributed_sampler=False,  # Lightning's pads; ours does not
        num_sanity_val_steps=0,  # every file was probed; a partial validation would look like a result
        enable_model_summary=False,
    )


def training_options(cfg, folder, videos):
    accelerator = "cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu"
    number_format, _ = precision.choose(accelerator, cfg.trainer.precision, cfg.trainer.channels_last)
    # Two callbacks: with save_last=True Lightning writes last.ckpt only when the best one changes.
    saving = dict(
        dirpath=folder / "checkpoints", enable_version_counter=False, save_top_k=1, auto_insert_metric_name=False
    )
    callbacks = [NanGuard(), History(folder / "metrics.jsonl", cfg.trainer.log_every), progress_bar()]
    callbacks.append(ModelCheckpoint(filename="last", monitor=None, save_on_train_epoch_end=True, **saving))
    if videos.index.val:
        callbacks.append(ModelCheckpoint(filename="best", monitor="val/video_top1", mode="max", **saving))
    return dict(
        **common_options(cfg, folder),
        max_epochs=cfg.train.epochs,
        precision=precision.LIGHTNING[number_format],
        log_every_n_steps=cfg.trainer.log_every,
        callbacks=callbacks,
    )


def progress_bar():
    return TQDMProgressBar(refresh_rate=10)


# What a run says of itself


def describe(record, cfg, trainer, videos, folder):
    """The start-up summary, in env.json and on the screen."""
    device = trainer.strategy.root_device.type
    number_format, channels_last = precision.choose(device, cfg.trainer.precision, cfg.trainer.channels_last)
    readers = dict(Counter(i.reader if cfg.data.reader == "auto" else cfg.data.reader for i in videos.infos.values()))
    chosen = dict(precision=number_format, channels_last=channels_last, readers=readers)
    record.update(world_size=trainer.world_size, manifest=fingerprint(videos), **chosen)
    if runfolder.is_main():
        counts = ", ".join(f"{len(getattr(videos.index, part))} {part}" for part in datamodule.PARTS)
        print(f"data    {cfg.data.name}: {counts} videos, {len(videos.index.classes)} classes; readers {readers}")
        layout = f"{number_format}, channels {'last' if channels_last else 'first'}"
        print(f"run     {trainer.world_size} process(es) on {device}, {layout}; writes {folder}")


def fingerprint(videos):
    """A hash for each list: which videos, labels and frame counts the numbers are about."""
    return {part: hash_of_list(getattr(videos.index, part), videos.infos) for part in datamodule.PARTS}


def hash_of_list(listed, infos):
    rows = sorted((v.path, v.label, infos[v.path].num_frames if v.path in infos else None) for v in listed)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


# The test


def test(task, data, trainer, cfg, folder, path):
    checkpoint.load_weights(task, path)
    task.model.to(memory_format=torch.contiguous_format)  # scores are fp32, for which channels last is slower on CPUs
    trainer.test(task, data, verbose=False)
    unreadable = {path: reason for part in data.videos.unreadable.values() for path, reason in part.items()}
    if runfolder.is_main():
        write_test(folder, cfg, data.videos, task.test_logits_VKN, data.datasets["test"].videos)
    return 1 if unreadable else 0


def write_test(folder, cfg, videos, logits_VKN, scored):
    """metrics.json, predictions.npz and confusion.png of one protocol, replacing what was there."""
    protocol = protocol_of(cfg)
    target = folder / "test" / slug(protocol)
    target.mkdir(parents=True, exist_ok=True)
    listed = videos.index.test
    logits_VKN = with_missing(logits_VKN, scored, listed)
    label_V = np.array([v.label for v in listed])
    counts = {"expected": len(listed), "scored": len(scored), "unreadable": sorted(videos.unreadable["test"])}
    found = {"protocol": protocol, **evaluation.metrics(logits_VKN, label_V, cfg.test.fusion), "videos": counts}
    (target / "metrics.json").write_text(json.dumps(found, indent=1) + "\n")
    clip, crop = np.divmod(np.arange(logits_VKN.shape[1]), cfg.test.crops)
    names = dict(video=[v.path for v in listed], group=[v.group or "" for v in listed], classes=videos.index.classes)
    np.savez_compressed(target / "predictions.npz", label=label_V, clip=clip, crop=crop, logits=logits_VKN, **names)
    confusion = evaluation.confusion(evaluation.fuse(logits_VKN, cfg.test.fusion), label_V)
    reports.draw_confusion(target / "confusion.png", confusion, videos.index.classes, protocol)
    print_result(found, target)


def with_missing(logits_VKN, scored, listed):
    """Rows of NaN for the listed videos that could not be scored."""
    rows = {video.path: row for video, row in zip(scored, logits_VKN, strict=True)}
    nothing = np.full(logits_VKN.shape[1:], np.nan, dtype=np.float32)
    return np.stack([rows.get(video.path, nothing) for video in listed])


def protocol_of(cfg):
    """`<frames>x<stride>@<crop>/<short side> <clips>x<crops> <fusion> <data set>-<split>`"""
    clip, t, test = cfg.data.clip, cfg.data.transform, cfg.test
    rate = clip.stride if clip.fps is None else f"{clip.fps:g}fps"
    split = cfg.data.split if cfg.data.format == "ucf101" else "test"
    return (
        f"{clip.frames}x{rate}@{t.crop}/{t.short_side} {test.clips}x{test.crops} {test.fusion} {cfg.data.name}-{split}"
    )


def slug(protocol):
    return re.sub(r"[^A-Za-z0-9.@-]+", "_", protocol)


def print_result(found, target):
    low, high = found["ci95_video_top1"]
    videos = found["videos"]
    bad = f", {len(videos['unreadable'])} unreadable count as wrong" if videos["unreadable"] else ""
    print(f"wrote   {target}")
    print(f"tested  {found['protocol']}: {videos['scored']} of {videos['expected']} videos{bad}")
    print(f"clip    top-1 {found['clip_top1']:.2f}{top5(found['clip_top5'])}")
    interval = f"95 % interval {low:.2f} to {high:.2f}"
    mean_class = f"mean class {found['mean_class_top1']:.2f}"
    print(f"video   top-1 {found['video_top1']:.2f} ({interval}){top5(found['video_top5'])}  {mean_class}")


def top5(accuracy):
    return "" if accuracy is None else f"  top-5 {accuracy:.2f}"
