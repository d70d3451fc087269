"""The LightningModule: forward pass, loss, logged metrics and optimizer.

B videos, K views of a video, X clips of any, C channels, T frames, H x W pixels, N classes.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from videores.compute import precision
from videores.compute.scoring import score_clips
from videores.config import parse
from videores.config.schema import Config
from videores.data import streams, views
from videores.data.datamodule import VideoData
from videores.data.dataset import VideoDataset
from videores.evaluation import accumulator, metrics, protocol
from videores.models import create_model, norms, parts
from videores.training import losses, optim


class _Scoring(NamedTuple):
    """The videos of one list and the scores that a loop collects of them."""

    dataset: VideoDataset
    scores: accumulator.ScoreAccumulator
    heads: Mapping[str, accumulator.ScoreAccumulator]  # of each classifier that trains, of several streams


class VideoClassifier(pl.LightningModule):
    """A network with its recipe and the names of its classes.

    They travel in the checkpoint as primitives. `teacher` is set from outside. With `trained`, that network is tested.
    """

    logits_VKN: np.ndarray  # of all videos of the last validation or test

    def __init__(self, cfg: Config, classes: Sequence[str], trained: torch.nn.Module | None = None):
        super().__init__()
        self.save_hyperparameters({"config": parse.dump_config(cfg), "classes": list(classes)})
        self.cfg, self.classes = cfg, list(classes)
        self.model = trained or create_model(cfg.model.name, len(classes), **cfg.model.overrides())
        self.frozen_modules = [] if trained else parts.freeze(self.model, cfg.train.freeze, cfg.train.freeze_bn)
        self.register_buffer("class_weight_N", None, persistent=False)  # in the loss
        self.teacher: Any = None  # a distillation.Teacher
        self.scoring: dict[str, _Scoring] = {}  # by part, of the loop that is running or was the last
        self.last_validation: dict[str, Any] | None = None  # its step and gap, for the checkpoints
        self.setting = precision.PrecisionSetting("fp32", False)  # of training steps, from `setup` on
        self.tuned = None  # the PrecisionSetting of run.autotune
        self.compiled_forward = None  # of the network in training steps, with trainer.compile
        # of each classifier's loss; empty for a network of one stream
        self.loss_weights = losses.select_loss_weights(cfg.train.loss_weights, cfg.data.stream, cfg.model.fusion)

    def forward(self, clips_XCTHW):
        return self.model(clips_XCTHW)

    def train(self, mode=True):
        super().train(mode)
        parts.set_eval_mode(self.frozen_modules)
        return self

    # Training

    def on_fit_start(self):
        if self.cfg.train.keep_zeros:
            optim.keep_zeros(self.model)
        if self.teacher is not None:
            self.teacher.model.to(self.device)

    def on_train_batch_start(self, batch, batch_idx):
        """Seed dropout from seed, rank and batch alone, so that a resumed run is exact."""
        seed = derive_seed(self.cfg.run.seed, self.global_rank, self.trainer.fit_loop.total_batch_idx)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 0.16 ms for devices that are not there
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch, batch_idx):
        """Train on all clips of the batch at once, for they share its statistics.

        The accuracy counts the heavier class of a mixed label.
        """
        precision.set_tf32(self.setting.precision == "tf32")
        clips_XCTHW = self.clips_of(batch)
        label = expand_labels(batch["label"], streams.pick_first(batch["clips"]).shape[1])
        compute_loss = partial(
            losses.classification_loss,
            label=label,
            smoothing=self.cfg.train.label_smoothing,
            weight_N=self.class_weight_N,
        )
        answer = (self.compiled_forward or self.training_forward())(clips_XCTHW)
        if self.loss_weights:
            logits_XN, loss = self.model.fuse(answer), losses.sum_head_losses(answer, self.loss_weights, compute_loss)
        else:
            logits_XN, loss = answer, compute_loss(answer)
        if self.teacher is not None:
            loss = self.teacher.add_loss(loss, clips_XCTHW, logits_XN)
        label_X = label if label.ndim == 1 else label.argmax(1)
        return {"loss": loss, "hits": (logits_XN.argmax(1) == label_X).float().mean().detach()}

    def training_forward(self):
        """Return what training steps call: of several streams, what gives the logits of every classifier."""
        return self.model.score_heads if self.loss_weights else self.model

    def on_after_backward(self):
        precision.set_tf32(False)  # what is scored or measured between steps is float32

    def clips_of(self, batch):
        """Return clips_XCTHW, or {stream: clips_XCTHW}, in the memory layout of training."""
        lay_out = lambda clips: (clips if self.setting.channels_last else clips.contiguous()).flatten(0, 1)
        return streams.map_sources(lay_out, batch["clips"])

    def configure_optimizers(self):
        optimizer = optim.make_optimizer(self.model, self.cfg.train, self.lr())
        return [optimizer], optim.make_schedules(optimizer, self.cfg.train, self.steps_per_epoch())

    def ends_step(self, batch_idx):
        """Tell whether the optimizer steps after this batch of the epoch."""
        return (batch_idx + 1) % self.cfg.train.accumulate == 0

    def steps_per_epoch(self):
        batch = optim.compute_global_batch_size(self.cfg, self.trainer.world_size)
        return len(self.trainer.datamodule.dataset("train")) // batch

    def lr(self):
        batch = optim.compute_global_batch_size(self.cfg, self.trainer.world_size)
        return optim.scale_lr(self.cfg.train, batch)

    # Scoring: validation and test are the same code, in float32 if nothing else is asked for

    def on_validation_epoch_start(self):
        self.start_scoring(["val", "gap"] if self.trainer.datamodule.gap else ["val"])

    def on_test_epoch_start(self):
        self.start_scoring(["test"])

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.score_batch(batch, list(self.scoring.values())[dataloader_idx])

    def test_step(self, batch, batch_idx):
        self.score_batch(batch, self.scoring["test"])

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return  # a part of the videos: no result
        by_part = {part: self.score_part(part) for part in self.scoring}
        self.log_head_losses()
        val, gap = by_part["val"], self.compute_gap(by_part)
        # Every rank has the same numbers already: averaging them once more (sync_dist) would only round them.
        self.log_dict({"val/loss": val["loss"], "val/clip_top1": val["clip_top1"]}, sync_dist=False)
        self.log("val/video_top1", val["video_top1"], prog_bar=True, sync_dist=False)
        if gap:
            self.log_dict({f"train_eval/{name}": value for name, value in by_part["gap"].items()}, sync_dist=False)
            self.log("gap/video_top1", gap["video_top1"], prog_bar=True, sync_dist=False)
        # The monitor of best.ckpt: few videos often tie in accuracy, and then the lower loss decides. Its share stays
        # below the accuracy of one video in 20,000.
        self.log("best_by", val["video_top1"] - 1e-3 * min(val["loss"], 4), sync_dist=False)
        self.last_validation = {"step": self.trainer.global_step, "gap": gap}

    def on_save_checkpoint(self, checkpoint):
        checkpoint["measured"] = self.last_validation

    def on_test_epoch_end(self):
        self.logits_VKN = self.scoring["test"].scores.compute(self.device)

    def start_scoring(self, names):
        datasets = {part: self.trainer.datamodule.dataset(part) for part in names}
        make = lambda dataset: accumulator.ScoreAccumulator(dataset.view_counts(), len(self.classes))
        heads = [name for name, weight in self.loss_weights.items() if weight and self.trainer.state.fn == "fit"]
        self.scoring = {
            part: _Scoring(dataset, make(dataset), {name: make(dataset) for name in heads})
            for part, dataset in datasets.items()
        }

    def score_part(self, part):
        """Return the validation metrics of a part over all ranks; keep the logits of "val"."""
        dataset, scores, _ = self.scoring[part]
        logits_VKN = scores.compute(self.device)
        if part == "val":
            self.logits_VKN = logits_VKN
        label_V = np.array([v.label for v in dataset.videos])
        return metrics.compute_validation_metrics(logits_VKN, label_V, dataset.views.fusion, scores.views_V.numpy())

    def log_head_losses(self):
        """Log the loss of each classifier of several streams, which evaluate.py --blend reads."""
        for part, prefix in (("val", "val"), ("gap", "train_eval")):
            dataset, _, heads = self.scoring.get(part, (None, None, {}))
            for name, scores in heads.items():
                logits_VKN, label_V = scores.compute(self.device), np.array([v.label for v in dataset.videos])
                loss = metrics.compute_cross_entropy(logits_VKN, label_V, scores.views_V.numpy())
                self.log(f"{prefix}/loss_{name}", loss, sync_dist=False)

    def compute_gap(self, by_part):
        """Return the gap for metrics.json (docs/guide/monitoring.md), or None without one."""
        if "gap" not in by_part:
            return None
        train, val = (by_part[part]["video_top1"] for part in ("gap", "val"))
        counts = {"train_videos": len(self.scoring["gap"].dataset), "val_videos": len(self.scoring["val"].dataset)}
        top1 = {"train_video_top1": train, "val_video_top1": val, "video_top1": train - val}
        return {"protocol": protocol.format_protocol(self.cfg, "val"), **top1, **counts}

    def score_batch(self, batch, scoring):
        """Score all views of a batch, at most data.batch_size clips at a time.

        It is empty on a rank without a video, where there are fewer videos than ranks.
        """
        data, (dataset, scores, heads) = self.cfg.data, scoring
        for video, reason in batch["unreadable"]:
            path = dataset.videos[video].path
            print(f"warning: {path}: {reason} (no longer decodes: counts as wrong)", file=sys.stderr)
            for one in (scores, *heads.values()):
                one.fail(video)
        split = views.split_batch(batch, data.transform.crop, dataset.views, data.batch_size)
        for video_X, view_X, clips_XTHWC in split:
            answer = score_clips(
                self.model.score_heads if heads else self, clips_XTHWC, data, self.cfg.trainer.score_precision
            )
            scores.update(video_X, view_X, self.model.fuse(answer) if heads else answer)
            for name, one in heads.items():
                one.update(video_X, view_X, answer[name])

    def setup(self, stage):
        if stage != "fit":
            return
        if self.cfg.trainer.sync_batchnorm and self.trainer.world_size > 1:
            norms.synchronize_batch_norms(self.model)
        device = self.trainer.strategy.root_device.type
        self.setting = self.tuned or precision.select_setting(self.cfg.trainer, device)
        if self.setting.channels_last:
            precision.to_channels_last(self.model)
            if self.teacher is not None:
                precision.to_channels_last(self.teacher.model)
        if self.setting.compiled:  # not the module: its keys stay, and scores come from the network as it stands
            self.compiled_forward = torch.compile(self.model.score_heads if self.loss_weights else self.model.forward)
        if self.cfg.train.class_weights == "balanced":
            label_V = [video.label for video in self.trainer.datamodule.dataset("train").videos]
            self.class_weight_N = losses.compute_class_weights(label_V, len(self.classes))


@dataclass(frozen=True)
class Run:
    """A built run, as training, test and report share it."""

    cfg: Config
    folder: Path
    module: VideoClassifier
    data: VideoData
    trainer: pl.Trainer


def expand_labels(label: Tensor, views: int) -> Tensor:
    """Return label_X or label_XN of B * K clips from label_B, label_BK or label_BKN.

    The last are probabilities.
    """
    return label.repeat_interleave(views) if label.ndim == 1 else label.flatten(0, 1)


def derive_seed(*numbers: int) -> int:
    """Return a seed for torch that depends on the numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
