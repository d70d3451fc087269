"""The LightningModule: forward, loss, what is logged, optimizer.

B videos, K views of a video, X clips of any, C channels, T frames, H x W pixels, N classes.
"""

import sys

import lightning.pytorch as pl
import numpy as np
import torch

from videores import configfile, evaluation, freezing, losses, optim, precision
from videores.data import transforms, views
from videores.models import create_model, sync


class VideoClassifier(pl.LightningModule):
    """A network, its recipe, and the names of its classes, which travel in the checkpoint as primitives."""

    def __init__(self, cfg, classes):
        super().__init__()
        self.save_hyperparameters({"config": configfile.dump(cfg), "classes": list(classes)})
        self.cfg, self.classes = cfg, list(classes)
        self.model = create_model(cfg.model.name, len(classes), **cfg.model.overrides())
        self.frozen = freezing.freeze(self.model, cfg.train.freeze, cfg.train.freeze_bn)
        self.register_buffer("weight_N", None, persistent=False)  # of classes in the loss
        self.teacher = None  # a distillation.Teacher
        self.scores = self.views = self.dataset = None  # of the loop that is running, as start_scores says
        self.logits_VKN = None  # of the last loop, all its videos
        self.channels_last = False  # memory layout in training

    def forward(self, clips_XCTHW):
        return self.model(clips_XCTHW)

    def train(self, mode=True):
        super().train(mode)
        freezing.hold(self.frozen)
        return self

    # Training

    def on_fit_start(self):
        if self.teacher is not None:
            self.teacher.model.to(self.device)

    def on_train_batch_start(self, batch, batch_idx):
        """Dropout at a step depends on seed, rank and step alone: a resumed run draws what a whole one would."""
        torch.manual_seed(hash_of(self.cfg.run.seed, self.global_rank, self.trainer.fit_loop.total_batch_idx))

    def training_step(self, batch, batch_idx):
        """All clips of the batch at once, for they share its statistics. Of a mixed label the heavier class counts."""
        clips_XCTHW = self.clips_of(batch)
        logits_XN = self.model(clips_XCTHW)
        label = labels_of_clips(batch["label"], batch["clips"].shape[1])
        loss = losses.classification(logits_XN, label, self.cfg.train.label_smoothing, self.weight_N)
        if self.teacher is not None:
            loss = self.teacher.loss(loss, clips_XCTHW, logits_XN)
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False)
        label_X = label if label.ndim == 1 else label.argmax(1)
        return {"loss": loss, "hits": (logits_XN.argmax(1) == label_X).float().mean().detach()}

    def clips_of(self, batch):
        """clips_XCTHW in the memory layout of training."""
        return (batch["clips"] if self.channels_last else batch["clips"].contiguous()).flatten(0, 1)

    def configure_optimizers(self):
        optimizer = optim.make_optimizer(self.model, self.cfg.train, self.lr())
        return [optimizer], optim.make_schedules(optimizer, self.cfg.train, self.steps_per_epoch())

    def global_batch(self):
        """The videos of a step, over all processes."""
        return optim.global_batch(self.cfg, self.trainer.world_size)

    def ends_step(self, batch_idx):
        """Whether the optimizer steps after this batch of the epoch, or its gradient waits for others."""
        return (batch_idx + 1) % self.cfg.train.accumulate == 0

    def steps_per_epoch(self):
        return len(self.trainer.datamodule.dataset("train")) // self.global_batch()

    def lr(self):
        return optim.scaled_lr(self.cfg.train, self.global_batch())

    # Scoring: validation and test are the same code, in float32

    def on_validation_epoch_start(self):
        self.start_scores("val")

    def on_test_epoch_start(self):
        self.start_scores("test")

    def validation_step(self, batch, batch_idx):
        self.score(batch)

    def test_step(self, batch, batch_idx):
        self.score(batch)

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return  # a part of the videos: no result
        logits_VKN = self.logits_VKN = self.scores.compute(self.device)
        views_V = self.scores.views_V.numpy()
        label_V = np.array([v.label for v in self.dataset.videos])
        scores_VN = evaluation.fuse(logits_VKN, self.views.fusion, views_V)
        found = evaluation.accuracies(logits_VKN, scores_VN, label_V, views_V)
        loss = evaluation.cross_entropy(logits_VKN, label_V, views_V)
        # Every rank has the same numbers already: averaging them once more (sync_dist) would only round them.
        self.log_dict({"val/loss": loss, "val/clip_top1": found["clip_top1"]}, sync_dist=False)
        self.log("val/video_top1", found["video_top1"], prog_bar=True, sync_dist=False)
        # What best.ckpt is chosen by: few videos often tie in accuracy, and then the lower loss decides. Its share
        # stays below the accuracy of one video in 20,000.
        self.log("best_by", found["video_top1"] - 1e-3 * min(loss, 4), sync_dist=False)

    def on_test_epoch_end(self):
        self.logits_VKN = self.scores.compute(self.device)

    def start_scores(self, part):
        self.views, self.dataset = getattr(self.cfg, part), self.trainer.datamodule.dataset(part)
        self.scores = evaluation.Scores(self.dataset.view_counts(), len(self.classes))

    def score(self, batch):
        """Scores all views of a batch, at most data.batch_size clips at a time; it may be empty, with fewer videos than
        processes."""
        data, t = self.cfg.data, self.cfg.data.transform
        for video, reason in batch["unreadable"]:
            path = self.dataset.videos[video].path
            print(f"warning: {path}: {reason} (no longer decodes: counts as wrong)", file=sys.stderr)
            self.scores.fail(video)
        for video_X, view_X, clips_XTHWC in views.micro_batches(batch, t.crop, self.views, data.batch_size):
            clips_XCTHW = transforms.normalise(clips_XTHWC[None], t.mean, t.std)[0]
            with torch.autocast(self.device.type, enabled=False):
                self.scores.update(video_X, view_X, self(clips_XCTHW.contiguous()))

    def setup(self, stage):
        if stage == "fit":
            if self.cfg.trainer.sync_batchnorm and self.trainer.world_size > 1:
                sync.synchronise(self.model)
            device, wanted = self.trainer.strategy.root_device.type, self.cfg.trainer
            _, self.channels_last = precision.choose(device, wanted.precision, wanted.channels_last)
            if self.channels_last:
                precision.to_channels_last(self.model)
                if self.teacher is not None:
                    precision.to_channels_last(self.teacher.model)
            if self.cfg.train.class_weights == "balanced":
                label_V = [video.label for video in self.trainer.datamodule.dataset("train").videos]
                self.weight_N = losses.balanced_weights(label_V, len(self.classes))


def labels_of_clips(label, views):
    """label_X or probabilities label_XN of the B * K clips, from label_B, label_BK or label_BKN."""
    return label.repeat_interleave(views) if label.ndim == 1 else label.flatten(0, 1)


def hash_of(*numbers):
    """A seed for torch from numbers, the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
