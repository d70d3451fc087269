"""A run from its configuration: data, network, trainer, test, and the record of it in the run folder."""

import os
import time
from collections import Counter
from contextlib import contextmanager, suppress

import lightning.pytorch as pl
import torch

from videores.compute import cost, precision
from videores.data import datamodule, mirroring, splits, workers
from videores.data.datamodule import make_data
from videores.models import norms as sync
from videores.reporting import plots, results
from videores.runtime import cli, failures, launch
from videores.runtime import signals as stopping
from videores.training import checkpoint_io, distillation, optim, resume, run_folder, summary
from videores.training import trainer as trainers
from videores.training.callbacks import loggers
from videores.training.callbacks.checkpointing import Checkpointing, disable_lightning_signals
from videores.training.callbacks.progress import ProgressBar
from videores.training.callbacks.rank_check import RankCheck
from videores.training.module import VideoClassifier
from videores.training.setup import (
    check_model_and_normalization,
    check_monitor,
    check_readable_videos,
    compute_clip_gmacs,
    fingerprint_lists,
    load_initial_weights,
    make_list_signature,
    warn_mirrored_classes,
)


def train(cfg, config_name):
    """Trains, then tests the best checkpoint (without validation: the last). Returns the exit code.

    Raises Stopped where a signal ended it, which run.resume=auto continues.
    """
    folder = run_folder.resolve_run_folder(cfg, config_name)
    run_folder.check_run_folder(cfg, folder)
    with run_folder.RunLock(cfg, folder) as claim, stopping.SignalHandler() as signals:
        loggers.check_loggers_installed(cfg.watch)
        trainers.check_training_device(cfg.trainer)
        trainer_options = trainers.make_hardware_options(cfg.trainer, cfg.train.accumulate)
        signals.raise_at_once = (
            trainer_options["strategy"] == "auto"
        )  # several processes stop together, at a step's end
        videos = datamodule.load_videos(cfg.data)
        made_with = trainers.make_resume_signature(cfg.trainer, trainer_options) | make_list_signature(
            videos, ("train", "val")
        )
        start = resume.find_resume_point(cfg, folder, made_with, list(videos.index.classes))
        datamodule.check_enough_videos(videos, optim.compute_global_batch_size(cfg, made_with["processes"]))
        check_monitor(cfg.train, videos)
        workers.check_shm_size(cfg.data, trainer_options["devices"])
        gap = splits.select_gap_videos(cfg.train.gap_videos, videos.index)
        mirroring.check_mirrored_views(cfg.data, cfg.val, videos.index.classes)
        mirroring.check_mirrored_views(cfg.data, cfg.test, videos.index.classes)
        warn_mirrored_classes(cfg.data, videos.index.classes)
        torch.manual_seed(cfg.run.seed)
        task = VideoClassifier(cfg, videos.index.classes)
        gmacs = compute_clip_gmacs(cfg, task)
        loaded = None if start else load_initial_weights(cfg, task)
        task.teacher, taught_by = distillation.load_teacher(cfg, task.model, task.classes)
        if taught_by and launch.is_rank_zero():
            print(f"teacher {taught_by}")
        claim.make()
        run_folder.prepare_run_folder(cfg, folder)
        record = run_folder.RunRecord(folder, cfg)
        data = make_data(cfg, videos, gap)
        saving = Checkpointing(folder, cfg.run, made_with, signals)
        trainer = pl.Trainer(**trainer_options, **trainers.make_training_options(cfg, folder, saving, start, record))
        step = start.step if start else 0
        trainer.callbacks.insert(0, RankCheck({**make_list_signature(videos), "the step that they start from": step}))
        write_run_summary(record, cfg, trainer, videos, task, folder, gmacs, len(gap))
        if loaded:
            record.update(weights=loaded.as_dict())
        signals.raise_at_once = False
        return fit_and_test(task, data, trainer, cfg, folder, record, start, trainer_options)


def fit_and_test(task, data, trainer, cfg, folder, record, start, options):
    step = start.step if start else 0
    try:
        record.started(step, start.inexact if start else [])
        with run_all_ranks(options):
            began = time.monotonic()
            trainer.fit(task, data, ckpt_path=start.path if start else None, weights_only=True)
            if launch.is_rank_zero():
                print(summary.format_end(trainer.global_step - step, time.monotonic() - began, trainer.current_epoch))
            code = evaluate_checkpoint(
                task, data, trainer, cfg, folder, run_folder.find_best_checkpoint(folder), "test"
            )
        record.finished(code)
        return code
    except BaseException as error:
        with suppress(OSError):  # a full disk takes no record either, and is the error already
            record.finished(cli.select_exit_code(error), error=str(error) or type(error).__name__)
        raise
    finally:
        if launch.is_rank_zero():
            with suppress(OSError):
                plots.plot_curves(folder)


def evaluate(cfg, folder, checkpoint_path=None, part="test"):
    """Tests a run's checkpoint on the test videos, or as `part` the validation videos, each under its protocol of the
    configuration. Returns the exit code."""
    options = trainers.make_hardware_options(cfg.trainer)
    videos = datamodule.load_videos(cfg.data, parts=(part,))
    check_readable_videos(videos, part)
    mirroring.check_mirrored_views(cfg.data, getattr(cfg, part), videos.index.classes)
    task = VideoClassifier(cfg, videos.index.classes)
    callbacks = [RankCheck(make_list_signature(videos)), ProgressBar()]
    trainer = pl.Trainer(**options, **trainers.make_common_options(folder), callbacks=callbacks)
    disable_lightning_signals(trainer)
    path = checkpoint_path or run_folder.find_best_checkpoint(folder)
    if launch.is_rank_zero() and (note := run_folder.format_unfinished_note(folder)):
        print(f"note    {note}")
    with stopping.exit_on_sigterm(), run_all_ranks(options):
        return evaluate_checkpoint(task, make_data(cfg, videos), trainer, cfg, folder, path, part)


@contextmanager
def run_all_ranks(options):
    """All processes of the run, for as long as this block works; what one of them loses is said clearly."""
    with launch.run_local_ranks(options["devices"], options["num_nodes"]), failures.translate_errors():
        yield


def evaluate_checkpoint(task, data, trainer, cfg, folder, path, part):
    tested = {"file": os.path.relpath(path, folder), **load_weights_for_test(task, path)}
    gap = tested.pop("gap", None)
    task.model.to(memory_format=torch.contiguous_format)  # whatever training had
    if precision.use_channels_last_scores(trainer.strategy.root_device.type, cfg.trainer.score_precision):
        precision.to_channels_last(task.model)
    (trainer.test if part == "test" else trainer.validate)(task, data, verbose=False)
    scored = data.dataset(part).videos
    failed = [scored[number].path for number in task.scoring[part].scores.failed_V.nonzero()]
    data.videos.unreadable[part].update(dict.fromkeys(failed, "no longer decodes"))
    if launch.is_rank_zero():
        results.write_test(folder, cfg, data.videos, task.logits_VKN, scored, tested, gap, part)
    return 1 if any(data.videos.unreadable.values()) else 0


def load_weights_for_test(task, path):
    """Lightning sends the first process' weights to the others before a test: a node need not see the run folder."""
    if not (launch.is_rank_zero() or path.exists()):
        return {}
    loaded = checkpoint_io.load_weights(task, path)
    check_model_and_normalization(path, loaded.pop("config"), task)
    return loaded


def write_run_summary(record, cfg, trainer, videos, task, folder, gmacs, gap_videos):
    """The start-up summary, in env.json and on the screen."""
    device = trainer.strategy.root_device.type
    setting = precision.select_setting(cfg.trainer, device)
    readers = dict(Counter(i.reader if cfg.data.reader == "auto" else cfg.data.reader for i in videos.infos.values()))
    chosen = dict(setting._asdict(), readers=readers)
    record.update(
        world_size=trainer.world_size, manifest=fingerprint_lists(videos), videos=videos.index.counts, **chosen
    )
    record.update(skipped={part: videos.unreadable[part] for part in ("train", "val")})
    if launch.is_rank_zero():
        batch = optim.compute_global_batch_size(cfg, trainer.world_size)
        norms = cfg.train.accumulate * (1 if cfg.trainer.sync_batchnorm else trainer.world_size)
        facts = summary.Facts(
            videos={part: len(getattr(videos.index, part)) for part in datamodule.PARTS},
            held_out=len({v.group for v in videos.index.val} - {None}),
            gap_videos=gap_videos,
            classes=len(videos.index.classes),
            parameters=cost.count_parameters(task),
            trainable=sum(p.numel() for p in task.parameters() if p.requires_grad),
            gmacs=gmacs,
            step=optim.format_batch_and_lr(cfg, trainer.world_size),
            steps=len(videos.index.train) // batch,
            norm_parts=norms if sync.list_batch_norms(task.model) else 1,
            processes=trainer.world_size,
            device=device,
            folder=folder,
            **chosen,
        )
        print(summary.format_start(cfg, facts))
