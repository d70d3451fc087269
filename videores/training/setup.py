"""Helpers of the phases of run.py: check, prepare data, build, test."""

import filecmp
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch

from videores.compute import cost, precision
from videores.config import parse
from videores.config.schema import Config, DataConfig, TrainConfig
from videores.config.streams import compute_input_shape, format_streams, has_sound
from videores.data import datamodule, mirroring, splits, streams, workers
from videores.data.augment import apply_own_step
from videores.data.datamodule import Videos
from videores.data.lists import Index
from videores.errors import UserError
from videores.models.registry import check_own_output
from videores.models.weights import compatibility, loading, preprocessing
from videores.runtime import own_parts
from videores.runtime.launch import is_rank_zero
from videores.training import optim, trainer
from videores.training.callbacks.checkpointing import Checkpointing, disable_lightning_signals
from videores.training.callbacks.loggers import check_loggers_installed
from videores.training.callbacks.progress import ProgressBar
from videores.training.callbacks.rank_check import RankCheck
from videores.training.checkpoint_io import restore_weights
from videores.training.distillation import load_teacher
from videores.training.module import Run, VideoClassifier
from videores.training.resume import ResumePoint, find_resume_point
from videores.training.run_folder import RunRecord, find_best_checkpoint, read_record

LEARNING_PARTS = ("train", "val")  # lists that a training depends on


@dataclass(frozen=True)
class _Inputs:
    """The videos of a training and the point that it starts from."""

    videos: Videos
    gap_indices: Sequence[int]  # of the training videos that are scored for the gap
    signature: dict[str, Any]  # must be equal when the run resumes: ranks, device, precision, lists
    resume_point: ResumePoint | None
    own_parts: dict[str, own_parts.OwnPart]  # by key

    @property
    def first_step(self) -> int:
        return self.resume_point.step if self.resume_point else 0


class Network(NamedTuple):
    """A network that is ready to train."""

    module: VideoClassifier
    gmacs: float  # of one clip
    weights_reports: list[loading.LoadReport]  # of model.weights, or of each stream's


# Check


def check_machine(cfg: Config) -> dict[str, Any]:
    """Return Lightning's hardware options of a training.

    Raises UserError for a device or package that is absent, and for options that the device does not have.
    """
    check_loggers_installed(cfg.watch)
    trainer.check_training_device(cfg.trainer)
    return trainer.make_hardware_options(cfg.trainer, cfg.train.accumulate)


# Prepare data


def prepare_inputs(cfg: Config, folder: Path, hardware: dict[str, Any]) -> _Inputs:
    """Read the lists, probe the videos, and find the checkpoint to resume from.

    Raises UserError for videos that do not suit the recipe, and for a checkpoint that cannot be resumed.
    """
    parts = import_own_parts(cfg, folder)
    if cfg.data.augment.own:
        _try_own_augmentation(cfg.data)
    videos = datamodule.load_videos(cfg.data)
    classes = videos.index.classes
    signature = trainer.make_resume_signature(cfg.trainer, hardware) | _make_list_signature(videos, LEARNING_PARTS)
    signature |= _make_code_signature(parts)
    resume_point = find_resume_point(cfg, folder, signature, list(classes))
    datamodule.check_enough_videos(videos, optim.compute_global_batch_size(cfg, signature["processes"]))
    _check_monitor(cfg.train, videos)
    workers.check_shm_size(cfg.data, hardware["devices"])
    gap_indices = splits.select_gap_videos(cfg.train.gap_videos, videos.index)
    mirroring.check_mirrored_views(cfg.data, cfg.val, classes)
    mirroring.check_mirrored_views(cfg.data, cfg.test, classes)
    warn_mirrored_classes(cfg.data, classes)
    _warn_untrained_classes(videos.index)
    return _Inputs(videos, gap_indices, signature, resume_point, parts)


def prepare_test_videos(cfg: Config, part: str) -> Videos:
    """Read the list `part` and probe its videos.

    Raises UserError where none can be scored, or where the protocol mirrors videos whose classes say left or right.
    """
    videos = datamodule.load_videos(cfg.data, parts=(part,))
    if not videos.readable(part):
        raise UserError(f"there are no {part} videos (nothing is held out without groups, or with data.val=none)")
    mirroring.check_mirrored_views(cfg.data, getattr(cfg, part), videos.index.classes)
    return videos


def _check_monitor(train: TrainConfig, videos: Videos) -> None:
    keys = {"train.patience": train.patience, "train.schedule=plateau": train.schedule == "plateau"}
    monitoring = [key for key, value in keys.items() if value]
    if monitoring and not videos.index.val:
        raise UserError(
            f"{monitoring[0]} needs validation videos and there are none (no groups, or data.val=none): hold some out, "
            "or leave it out"
        )


def warn_mirrored_classes(data: DataConfig, classes: Sequence[str]) -> None:
    """Warn where flips would show videos of one class as those of another."""
    mirrored = mirroring.find_changed_classes(classes)
    flips = data.transform.flip and data.stream != "audio"
    if mirrored and flips and data.augment.flip_labels == "none" and is_rank_zero():
        print(
            f"warning: data.transform.flip={data.transform.flip:g} mirrors videos whose classes say left or right "
            f"({', '.join(mirrored[:4])}): data.transform.flip=0 leaves that out, and "
            "data.augment.flip_labels=left-right mirrors the labels too",
            file=sys.stderr,
        )


def _warn_untrained_classes(index: Index) -> None:
    """Warn of classes that no training video has, which the network cannot learn."""
    trained = {video.label for video in index.train}
    names = [name for number, name in enumerate(index.classes) if number not in trained]
    if names and is_rank_zero():
        print(f"warning: classes without training videos ({len(names)}): {', '.join(names[:5])}", file=sys.stderr)


def _fingerprint_lists(videos):
    """Return a hash of the videos, labels and frame counts of each list."""
    hashes = {}
    for part in datamodule.PARTS:
        infos = {v: videos.infos.get(v.path) for v in getattr(videos.index, part)}
        rows = sorted((v.path, v.label, info and info.num_frames) for v, info in infos.items())
        hashes[part] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    return hashes


def hash_lists(videos: Videos) -> dict[str, str]:
    """Return a hash of each list's videos and labels, whatever is in their files."""
    rows = {part: sorted((v.path, v.label) for v in getattr(videos.index, part)) for part in datamodule.PARTS}
    return {part: hashlib.sha256(json.dumps(rows[part]).encode()).hexdigest()[:16] for part in rows}


def _make_list_signature(videos: Videos, parts: Collection[str] = datamodule.PARTS) -> dict[str, str]:
    """Return the hashes of some lists, by the names that messages give them."""
    return {f"the list of {part} videos": value for part, value in _fingerprint_lists(videos).items() if part in parts}


def import_own_parts(cfg: Config, folder: Path) -> dict[str, own_parts.OwnPart]:
    """Import the own parts that a configuration names; print where their code is from.

    It also says where the run in `folder` had other code. Raises UserError for a part that is not there.
    """
    parts, record = own_parts.identify_parts(cfg), read_record(folder) or {}
    for key, part in parts.items():
        before = record.get("own_parts", {}).get(key, part)["sha256"]
        if is_rank_zero():
            print(f"own     {own_parts.format_part(key, part)}" + f" (it was {before})" * (before != part["sha256"]))
    return parts


def _try_own_augmentation(data: DataConfig) -> None:
    """Raise UserError where an own augmentation does not return the clip that it should, here a black one."""
    clip_THWC = torch.zeros((data.clip.frames, data.transform.crop, data.transform.crop, 3), dtype=torch.uint8)
    apply_own_step(str(data.augment.own), clip_THWC, np.random.default_rng(0))


def _make_code_signature(parts: Mapping[str, own_parts.OwnPart]) -> dict[str, str]:
    """Return the hashes of the code of own parts that training runs, by the names that messages give them."""
    return {f"the code of {key}": part["sha256"] for key, part in parts.items() if key.startswith(("data", "model"))}


# Build


def build_network(cfg: Config, classes: Sequence[str], resume_point: ResumePoint | None = None) -> Network:
    """Build the module with its initial weights and its teacher, and print reports.

    A run that resumes loads no initial weights. Raises UserError for weights or a teacher that do not fit, and for
    clips that the network does not take.
    """
    torch.manual_seed(cfg.run.seed)
    module = VideoClassifier(cfg, classes)
    shape_CTHW = compute_input_shape(cfg.data)
    if own_parts.is_import_path(cfg.model.name):
        check_own_output(module.model, (2, *shape_CTHW), len(classes))
    gmacs = cost.count_gmacs(module.model, streams.add_batch(shape_CTHW, 1))
    weights_reports = [] if resume_point else _load_initial_weights(cfg, module)
    module.teacher, teacher_report = load_teacher(cfg, module.model, module.classes)
    if teacher_report and is_rank_zero():
        print(f"teacher {teacher_report}")
    return Network(module, gmacs, weights_reports)


def _load_initial_weights(cfg: Config, module: VideoClassifier) -> list[loading.LoadReport]:
    """Load model.weights, and those of streams, into the network; print and return the reports.

    Raises UserError for weights that do not fit, or that were trained with another normalization.
    """
    network: Any = module.model
    targets: list[Any] = [(network, cfg.model, cfg.data.stream)]
    targets += [(network.streams[stream], keys, stream) for stream, keys in cfg.model.streams.items()]
    return [_load_weights(cfg, module, *target) for target in targets if target[1].weights is not None]


def _load_weights(cfg, module, model, keys, stream):
    known = preprocessing.extract_preprocessing(parse.dump_config(cfg)["data"])
    report = loading.load_weights(
        model,
        keys.weights,
        module.classes,
        head=keys.head,
        inflate=keys.inflate,
        adapt=keys.adapt,
        preprocessing={**known, "stream": stream},
    )
    if is_rank_zero():
        print(f"weights {report}")
    return report


def build_trainer(
    hardware: dict[str, Any], cfg: Config, inputs: _Inputs, checkpointing: Checkpointing, record: RunRecord
) -> pl.Trainer:
    """Build the trainer of a training; its ranks first check that they agree."""
    folder = record.path.parent
    options = trainer.make_training_options(cfg, folder, checkpointing, inputs.resume_point, record)
    facts: dict[str, Any] = _make_list_signature(inputs.videos) | _make_code_signature(inputs.own_parts)
    facts |= {"the step that they start from": inputs.first_step}
    return pl.Trainer(**hardware, **options | {"callbacks": [RankCheck(facts), *options["callbacks"]]})


def build_test_trainer(cfg: Config, folder: Path, hardware: dict[str, Any], videos: Videos) -> pl.Trainer:
    """Build the trainer of a test without a training."""
    callbacks = [RankCheck(_make_list_signature(videos)), ProgressBar()]
    tester = pl.Trainer(**hardware, **trainer.make_common_options(folder), callbacks=callbacks)
    disable_lightning_signals(tester)
    return tester


def collect_start_record(run: Run, network: Network) -> dict[str, Any]:
    """Return the values of env.json that are known before the first step."""
    videos, reports, reader = run.data.videos, network.weights_reports, run.cfg.data.reader
    return {
        "world_size": run.trainer.world_size,
        "manifest": _fingerprint_lists(videos),
        "videos": videos.index.counts,
        **precision.select_setting(run.cfg.trainer, run.trainer.strategy.root_device.type)._asdict(),
        "readers": dict(Counter(i.reader if reader == "auto" else reader for i in videos.infos.values())),
        "skipped": {part: videos.unreadable[part] for part in LEARNING_PARTS},
        **_record_reports(reports),
    }


def _record_reports(reports):
    """Return the entry `weights` of env.json: a report, or one of each stream that has weights."""
    found = [report.as_dict() for report in reports]
    return {"weights": found[0] if len(found) == 1 else found} if found else {}


# Test


def identify_test(run: Run, checkpoint: Path, part: str) -> tuple[dict[str, str], str | None]:
    """Return the tested list, and a digest where it and the checkpoint are not own.

    The digest is of both. The run's own are the checkpoint that training chose and the list that it knew; a folder
    without checkpoints takes any.
    """
    data, videos = run.cfg.data, run.data.videos
    record: Mapping[str, Any] = read_record(run.folder) or {}
    tested, chosen = hash_lists(videos)[part], find_best_checkpoint(run.folder)
    known, now = ("lists", tested) if "lists" in record else ("manifest", _fingerprint_lists(videos)[part])
    is_own_list = record.get(known, {}).get(part, now) == now
    is_own = is_own_list and (not chosen.exists() or filecmp.cmp(chosen, checkpoint, shallow=False))
    digest = hashlib.sha256(checkpoint.read_bytes() + tested.encode()).hexdigest()[:8]
    return {"source": data.splits or data.root, "hash": tested}, None if is_own else digest


def load_weights_for_test(module: VideoClassifier, path: Path) -> dict[str, Any]:
    """Load a checkpoint's weights and return its epoch, step and gap.

    Raises UserError for weights of another network or normalization, or with other classes. Without the file, a rank
    other than 0 returns {}: Lightning sends rank 0's weights to the others before a test, so a node need not see the
    run folder.
    """
    if not (is_rank_zero() or path.exists()):
        return {}
    about = restore_weights(module, path)
    _check_model_and_normalization(path, about.pop("config"), module)
    return about


def _check_model_and_normalization(path, stored_config, module):
    """Raise UserError where weights were trained in another network, stream or normalization.

    The shapes of the weights do not show it.
    """
    lines = compatibility.find_differences(stored_config["model"], module.model)
    stream, theirs, ours = (
        format_streams(stored_config["data"].get("stream", "rgb")),
        stored_config["data"]["transform"],
        module.cfg.data.transform,
    )
    if stream != (here := format_streams(module.cfg.data.stream)):
        lines.append(f"data.stream is {here} here, {stream} where it was trained")
    elif has_sound(module.cfg.data.stream):
        own, ours_audio = stored_config["data"]["audio"], module.cfg.data.audio.model_dump()
        if key := preprocessing.find_other_sound(ours_audio, own):
            lines.append(f"data.audio.{key} is {ours_audio[key]} here, {own[key]} where it was trained")
    for key in ("mean", "std"):
        if not preprocessing.is_close(theirs[key], getattr(ours, key)):
            lines.append(f"data.transform.{key} is {list(getattr(ours, key))} here, {theirs[key]} where it was trained")
    if lines:
        raise UserError(
            f"{path} does not match the configured network, stream or normalization: leave these keys as they were\n  "
            + "\n  ".join(lines)
        )
