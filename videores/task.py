"""The LightningModule: forward, loss, what is logged, optimizer.

B videos, K views of a video, C channels, T frames, H x W pixels, N classes: clips_BKCTHW -> logits_BKN.
"""

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F

from videores import config, evaluation, optim, precision
from videores.models import create_model


class VideoClassifier(pl.LightningModule):
    """A network, its recipe, and the names of its classes, which travel in the checkpoint as primitives."""

    def __init__(self, cfg, classes):
        super().__init__()
        self.save_hyperparameters({"config": config.dump(cfg), "classes": list(classes)})
        self.cfg, self.classes = cfg, list(classes)
        self.model = create_model(cfg.model.name, len(classes), **cfg.model.overrides())
        self.scores = None  # evaluation.Scores of the loop that is running
        self.test_logits_VKN = None
        self.channels_last = False  # memory layout in training

    def forward(self, clips_BKCTHW):
        """logits_BKN; the network sees at most data.batch_size clips at a time."""
        views = clips_BKCTHW.shape[1]
        clips = clips_BKCTHW.flatten(0, 1).split(self.cfg.data.batch_size)
        return torch.cat([self.model(part) for part in clips]).unflatten(0, (-1, views))

    # Training

    def on_train_batch_start(self, batch, batch_idx):
        """Dropout at a step depends on seed, rank and step alone: a resumed run draws what a whole one would."""
        torch.manual_seed(hash_of(self.cfg.run.seed, self.global_rank, self.trainer.fit_loop.total_batch_idx))

    def training_step(self, batch, batch_idx):
        """All clips of the batch at once, for they share its statistics. Of a mixed label the heavier class counts."""
        clips = batch["clips"] if self.channels_last else batch["clips"].contiguous()
        logits_XN = self.model(clips.flatten(0, 1))
        label = labels_of_clips(batch["label"], clips.shape[1])
        loss = F.cross_entropy(logits_XN.float(), label, label_smoothing=self.cfg.train.label_smoothing)
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False)
        label_X = label if label.ndim == 1 else label.argmax(1)
        return {"loss": loss, "hits": (logits_XN.argmax(1) == label_X).float().mean().detach()}

    def configure_optimizers(self):
        train, steps = self.cfg.train, self.steps_per_epoch()
        optimizer = optim.make_optimizer(self.model, train, self.lr())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: optim.lr_factor(step, steps, train))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def global_batch(self):
        return self.cfg.data.batch_size * self.trainer.world_size

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
        logits_VKN = self.scores.compute(self.device)
        label_V = np.array([v.label for v in self.trainer.datamodule.dataset("val").videos])
        found = evaluation.metrics(logits_VKN, label_V, self.cfg.val.fusion)
        loss = evaluation.cross_entropy(logits_VKN, label_V)
        # Every rank has the same numbers already: averaging them once more (sync_dist) would only round them.
        self.log_dict({"val/loss": loss, "val/clip_top1": found["clip_top1"]}, sync_dist=False)
        self.log("val/video_top1", found["video_top1"], prog_bar=True, sync_dist=False)
        # What best.ckpt is chosen by: few videos often tie in accuracy, and then the lower loss decides. Its share
        # stays below the accuracy of one video in 20,000.
        self.log("best_by", found["video_top1"] - 1e-3 * min(loss, 4), sync_dist=False)

    def on_test_epoch_end(self):
        self.test_logits_VKN = self.scores.compute(self.device)

    def start_scores(self, part):
        dataset, views = self.trainer.datamodule.dataset(part), getattr(self.cfg, part)
        self.scores = evaluation.Scores(len(dataset), views.clips * views.crops, len(self.classes))

    def score(self, batch):
        if len(batch["video"]) == 0:
            return  # fewer videos than processes
        with torch.autocast(self.device.type, enabled=False):
            self.scores.update(batch["video"], self(batch["clips"].contiguous()))

    def setup(self, stage):
        if stage == "fit":
            device, wanted = self.trainer.strategy.root_device.type, self.cfg.trainer
            _, self.channels_last = precision.choose(device, wanted.precision, wanted.channels_last)
            if self.channels_last:
                precision.to_channels_last(self.model)


def labels_of_clips(label, views):
    """label_X or probabilities label_XN of the B * K clips, from label_B, label_BK or label_BKN."""
    return label.repeat_interleave(views) if label.ndim == 1 else label.flatten(0, 1)


def hash_of(*numbers):
    """A seed for torch from numbers, the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
