"""The LightningModule: forward, loss, what is logged, optimizer.

B videos, K views of a video, X clips of any, C channels, T frames, H x W pixels, N classes.
"""

import sys
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch

from videores.compute import precision
from videores.config import parse
from videores.data import transforms, views
from videores.data.dataset import VideoDataset
from videores.evaluation import accumulator, metrics, protocol
from videores.models import create_model, norms
from videores.models import parts as freezing
from videores.training import losses, optim


class Scoring(NamedTuple):
    """What a loop collects of the videos of one list."""

    dataset: VideoDataset
    scores: accumulator.ScoreAccumulator


class VideoClassifier(pl.LightningModule):
    """A network, its recipe, and the names of its classes, which travel in the checkpoint as primitives."""

    def __init__(self, cfg, classes):
        super().__init__()
        self.save_hyperparameters({"config": parse.dump_config(cfg), "classes": list(classes)})
        self.cfg, self.classes = cfg, list(classes)
        self.model = create_model(cfg.model.name, len(classes), **cfg.model.overrides())
        self.frozen = freezing.freeze(self.model, cfg.train.freeze, cfg.train.freeze_bn)
        self.register_buffer("weight_N", None, persistent=False)  # of classes in the loss
        self.teacher = None  # a distillation.Teacher
        self.scoring = {}  # part -> Scoring, of the loop that is running or was the last
        self.logits_VKN = None  # of the last validation or test, all its videos
        self.measured = None  # the last validation's numbers and gap, which go into checkpoints
        self.setting = precision.PrecisionSetting("fp32", False)  # how training steps are computed, as `setup` finds
        self.tuned = None  # the Setting that run.autotune chose
        self.compiled = None  # the network's forward as training calls it, where that is compiled

    def forward(self, clips_XCTHW):
        return self.model(clips_XCTHW)

    def train(self, mode=True):
        super().train(mode)
        freezing.set_eval_mode(self.frozen)
        return self

    # Training

    def on_fit_start(self):
        if self.teacher is not None:
            self.teacher.model.to(self.device)

    def on_train_batch_start(self, batch, batch_idx):
        """Dropout at a step depends on seed, rank and step alone: a resumed run draws what a whole one would."""
        seed = derive_seed(self.cfg.run.seed, self.global_rank, self.trainer.fit_loop.total_batch_idx)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 0.16 ms for devices that are not there
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch, batch_idx):
        """All clips of the batch at once, for they share its statistics. Of a mixed label the heavier class counts."""
        clips_XCTHW = self.clips_of(batch)
        logits_XN = (self.compiled or self.model)(clips_XCTHW)
        label = expand_labels(batch["label"], batch["clips"].shape[1])
        loss = losses.classification_loss(logits_XN, label, self.cfg.train.label_smoothing, self.weight_N)
        if self.teacher is not None:
            loss = self.teacher.loss(loss, clips_XCTHW, logits_XN)
        label_X = label if label.ndim == 1 else label.argmax(1)
        return {"loss": loss, "hits": (logits_XN.argmax(1) == label_X).float().mean().detach()}

    def clips_of(self, batch):
        """clips_XCTHW in the memory layout of training."""
        return (batch["clips"] if self.setting.channels_last else batch["clips"].contiguous()).flatten(0, 1)

    def configure_optimizers(self):
        optimizer = optim.make_optimizer(self.model, self.cfg.train, self.lr())
        return [optimizer], optim.make_schedules(optimizer, self.cfg.train, self.steps_per_epoch())

    def global_batch(self):
        """The videos of a step, over all processes."""
        return optim.compute_global_batch_size(self.cfg, self.trainer.world_size)

    def ends_step(self, batch_idx):
        """Whether the optimizer steps after this batch of the epoch, or its gradient waits for others."""
        return (batch_idx + 1) % self.cfg.train.accumulate == 0

    def steps_per_epoch(self):
        return len(self.trainer.datamodule.dataset("train")) // self.global_batch()

    def lr(self):
        return optim.scale_lr(self.cfg.train, self.global_batch())

    # Scoring: validation and test are the same code, in float32 if nothing else is asked for

    def on_validation_epoch_start(self):
        self.start_scores(["val", "gap"] if self.trainer.datamodule.gap else ["val"])

    def on_test_epoch_start(self):
        self.start_scores(["test"])

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.score(batch, list(self.scoring.values())[dataloader_idx])

    def test_step(self, batch, batch_idx):
        self.score(batch, self.scoring["test"])

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return  # a part of the videos: no result
        found = {part: self.numbers(part) for part in self.scoring}
        val, gap = found["val"], self.gap(found)
        # Every rank has the same numbers already: averaging them once more (sync_dist) would only round them.
        self.log_dict({"val/loss": val["loss"], "val/clip_top1": val["clip_top1"]}, sync_dist=False)
        self.log("val/video_top1", val["video_top1"], prog_bar=True, sync_dist=False)
        if gap:
            self.log_dict({f"train_eval/{name}": value for name, value in found["gap"].items()}, sync_dist=False)
            self.log("gap/video_top1", gap["video_top1"], prog_bar=True, sync_dist=False)
        # What best.ckpt is chosen by: few videos often tie in accuracy, and then the lower loss decides. Its share
        # stays below the accuracy of one video in 20,000.
        self.log("best_by", val["video_top1"] - 1e-3 * min(val["loss"], 4), sync_dist=False)
        self.measured = {"step": self.trainer.global_step, "gap": gap}

    def on_save_checkpoint(self, checkpoint):
        checkpoint["measured"] = self.measured

    def on_test_epoch_end(self):
        self.logits_VKN = self.scoring["test"].scores.compute(self.device)

    def start_scores(self, parts):
        for_part = lambda dataset: Scoring(
            dataset, accumulator.ScoreAccumulator(dataset.view_counts(), len(self.classes))
        )
        self.scoring = {part: for_part(self.trainer.datamodule.dataset(part)) for part in parts}

    def numbers(self, part):
        """evaluation.validation of a part, whose logits are added up over all processes."""
        dataset, scores = self.scoring[part]
        logits_VKN = scores.compute(self.device)
        if part == "val":
            self.logits_VKN = logits_VKN
        label_V = np.array([v.label for v in dataset.videos])
        return metrics.compute_validation_metrics(logits_VKN, label_V, dataset.views.fusion, scores.views_V.numpy())

    def gap(self, found):
        """What metrics.json says of the gap (docs/watching.md); None where no training videos were scored."""
        if "gap" not in found:
            return None
        train, val = (found[part]["video_top1"] for part in ("gap", "val"))
        counts = {"train_videos": len(self.scoring["gap"].dataset), "val_videos": len(self.scoring["val"].dataset)}
        top1 = {"train_video_top1": train, "val_video_top1": val, "video_top1": train - val}
        return {"protocol": protocol.format_protocol(self.cfg, "val"), **top1, **counts}

    def score(self, batch, scoring):
        """Scores all views of a batch, at most data.batch_size clips at a time; it may be empty, with fewer videos than
        processes."""
        data, t, (dataset, scores) = self.cfg.data, self.cfg.data.transform, scoring
        for video, reason in batch["unreadable"]:
            print(
                f"warning: {dataset.videos[video].path}: {reason} (no longer decodes: counts as wrong)", file=sys.stderr
            )
            scores.fail(video)
        for video_X, view_X, clips_XTHWC in views.split_batch(batch, t.crop, dataset.views, data.batch_size):
            clips_XCTHW = transforms.normalize_clips(clips_XTHWC[None], t.mean, t.std)[0]
            clips_XCTHW = clips_XCTHW.contiguous(memory_format=self.score_layout())
            with precision.autocast_scores(self.device.type, self.cfg.trainer.score_precision):
                scores.update(video_X, view_X, self(clips_XCTHW))

    def score_layout(self):
        last = precision.use_channels_last_scores(self.device.type, self.cfg.trainer.score_precision)
        return torch.channels_last_3d if last else torch.contiguous_format

    def setup(self, stage):
        if stage == "fit":
            if self.cfg.trainer.sync_batchnorm and self.trainer.world_size > 1:
                norms.synchronize_batch_norms(self.model)
            device = self.trainer.strategy.root_device.type
            self.setting = self.tuned or precision.select_setting(self.cfg.trainer, device)
            if self.setting.channels_last:
                precision.to_channels_last(self.model)
                if self.teacher is not None:
                    precision.to_channels_last(self.teacher.model)
            if self.setting.compiled:  # not the module: its keys stay, and scores come from the network as it stands
                self.compiled = torch.compile(self.model.forward)
            if self.cfg.train.class_weights == "balanced":
                label_V = [video.label for video in self.trainer.datamodule.dataset("train").videos]
                self.weight_N = losses.compute_class_weights(label_V, len(self.classes))


def expand_labels(label, views):
    """label_X or probabilities label_XN of the B * K clips, from label_B, label_BK or label_BKN."""
    return label.repeat_interleave(views) if label.ndim == 1 else label.flatten(0, 1)


def derive_seed(*numbers):
    """A seed for torch from numbers, the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
