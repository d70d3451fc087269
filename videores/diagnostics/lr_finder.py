"""Find a learning rate by a range test: record the loss while the learning rate rises.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3; exponential
rise, smoothing and stop as in fastai (Howard and Gugger).
"""

import csv
import math
from pathlib import Path

import lightning.pytorch as pl
import matplotlib.pyplot as plt
import numpy as np

from videores.config.schema import Config
from videores.data import datamodule
from videores.data.datamodule import VideoData
from videores.errors import UserError
from videores.reporting import figures
from videores.training import optim
from videores.training.callbacks.progress import ProgressBar
from videores.training.setup import build_network
from videores.training.trainer import make_trial_options

LOSS_SMOOTHING = 0.95  # of the running mean of losses
DIVERGENCE_FACTOR = 4  # times the lowest smoothed loss
MIN_STEPS = 10  # steps before a loss may be called diverged, and of which a suggestion can be made


class LRRangeTest(pl.Callback):
    """Set the learning rate of each step, record losses, and stop when they diverge."""

    def __init__(self, rates):
        self.rates, self.losses = rates, []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rates[len(self.losses)] * group["initial_lr"] / module.lr()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if not module.ends_step(batch_idx):
            return
        self.losses.append(float(outputs["loss"]))
        if len(self.losses) == len(self.rates) or find_divergence(self.losses):
            trainer.should_stop = True


def find_lr(cfg: Config, folder: Path, lowest: float, highest: float, steps: int) -> int:
    """Run the range test, write lr.csv, lr.png and lr.svg, and print a learning rate.

    Returns the exit code. Raises UserError if the loss does not fall.
    """
    ramp = LRRangeTest(make_lr_ramp(lowest, highest, steps))
    constant = cfg.train.model_copy(update={"schedule": "constant", "warmup": 0, "milestones": ()})
    _run_range_test(cfg.model_copy(update={"train": constant}), ramp)
    losses = ramp.losses
    rates, smooth = ramp.rates[: len(losses)], smooth_losses(losses)
    best = suggest_lr(rates, smooth)  # before anything is written: the two files are of one search
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "lr.csv", rates, losses, smooth)
    _plot_losses(folder / "lr.png", rates, losses, smooth, best)
    ended = "diverged" if find_divergence(losses) else "did not diverge"
    print(f"steps   {len(losses)} from {rates[0]:.2g} to {rates[-1]:.2g}, where the loss {ended}")
    print(f"rate    {format_suggestion_text(cfg.train, best, optim.compute_global_batch_size(cfg, 1))}")
    print(f"wrote   {folder}/lr.csv, lr.png, lr.svg")
    return 0


def format_suggestion_text(train, rate, global_batch):
    """Format a learning rate as train.lr, which `base_batch` scales."""
    factor = optim.scale_lr(train, global_batch) / train.lr
    scaled = f", {rate:.2g} at {global_batch} videos a step" if train.base_batch else ""
    return f"{rate / factor:.2g} (train.lr{scaled}; the loss falls fastest there)"


def _run_range_test(cfg, ramp):
    options = make_trial_options(cfg)
    if options["devices"] * options["num_nodes"] > 1:
        raise UserError("trainer.devices must be 1 to find a learning rate: scale it by train.base_batch")
    videos = datamodule.load_videos(cfg.data, parts=("train",))
    datamodule.check_enough_videos(videos, optim.compute_global_batch_size(cfg, 1))
    module = build_network(cfg, videos.index.classes).module
    pl.Trainer(**options, callbacks=[ramp, ProgressBar()]).fit(module, VideoData.from_config(cfg, videos))


# Analysis of the losses


def make_lr_ramp(lowest, highest, steps):
    """Return learning rates in equal ratios from `lowest` to `highest`."""
    return [float(rate) for rate in np.geomspace(lowest, highest, steps)]


def smooth_losses(losses):
    """Return the running mean, corrected for its start at 0.

    Source: Kingma and Ba 2015, arXiv:1412.6980, section 3.
    """
    mean, smooth = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = LOSS_SMOOTHING * mean + (1 - LOSS_SMOOTHING) * loss
        smooth.append(mean / (1 - LOSS_SMOOTHING**step))
    return smooth


def find_divergence(losses):
    if not math.isfinite(losses[-1]):
        return True
    smooth = smooth_losses(losses)
    return len(smooth) > MIN_STEPS and smooth[-1] > DIVERGENCE_FACTOR * min(smooth)


def suggest_lr(rates, smooth):
    """Return the learning rate at which the smoothed loss falls fastest.

    Only steps before its minimum count. The slope is with respect to the logarithm of the learning rate.
    """
    end = int(np.nanargmin(smooth)) + 1
    if end < MIN_STEPS:
        raise UserError(
            f"the loss must fall for at least {MIN_STEPS} steps, got {end}: give a smaller --lowest or more --steps"
        )
    slopes = np.gradient(smooth[:end], np.log(rates[:end]))
    return rates[int(np.argmin(slopes))]


def write_csv(path, rates, losses, smooth):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("lr", "loss", "smoothed"), *zip(rates, losses, smooth, strict=True)])


def _plot_losses(path, rates, losses, smooth, best):
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(rates, losses, color="0.8", label="loss of a batch")
    axes.plot(rates, smooth, label="smoothed")
    axes.axvline(best, color="tab:red", linestyle="--", label=f"falls fastest: {best:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    finite = [value for value in smooth if math.isfinite(value)]
    axes.set_ylim(min(0, *finite), 1.1 * min(max(finite), 2 * finite[0]))
    axes.grid(alpha=0.3)
    figures.label_log_axis(axes.xaxis)
    figures.add_legend(axes, columns=3)
    figures.save_figure(figure, path)
