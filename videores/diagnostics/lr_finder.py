"""Find a learning rate by range tests: record the loss while the learning rate rises, with two seeds.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3; exponential
rise, smoothing and stop as in fastai (Howard and Gugger).
"""

import csv
import itertools
import math
from pathlib import Path
from typing import NamedTuple

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
SEEDS = 2  # range tests, from the configuration's seed on
SURE_FACTOR = 3  # between the rates of the seeds, up to which a suggestion is sure


class RangeTest(NamedTuple):
    """The losses of one seed, and the learning rate at which they fall fastest."""

    seed: int
    rates: list[float]
    losses: list[float]
    smooth: list[float]  # up to the lowest
    best: float


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
    """Run two range tests, write their curves, and print a learning rate.

    It says how sure it is, and writes lr.csv, lr.png and lr.svg. Returns the exit code. Raises UserError if a loss does
    not fall.
    """
    constant = cfg.train.model_copy(update={"schedule": "constant", "warmup": 0, "milestones": ()})
    tests = []
    for seed in range(cfg.run.seed, cfg.run.seed + SEEDS):
        ramp = LRRangeTest(make_lr_ramp(lowest, highest, steps))
        run = cfg.run.model_copy(update={"seed": seed})
        _run_range_test(cfg.model_copy(update={"train": constant, "run": run}), ramp)
        rates, smooth = ramp.rates[: len(ramp.losses)], center_smooth_losses(ramp.losses)
        tests.append(RangeTest(seed, rates, ramp.losses, smooth, suggest_lr(rates, smooth)))
    folder.mkdir(parents=True, exist_ok=True)  # now: the files are of whole tests
    write_csv(folder / "lr.csv", tests)
    _plot_losses(folder / "lr.png", tests)
    for test in tests:
        ended = "diverged" if find_divergence(test.losses) else "did not diverge"
        reached = f"{len(test.losses)} from {test.rates[0]:.2g} to {test.rates[-1]:.2g}, where the loss {ended}"
        print(f"steps   seed {test.seed}: {reached}")
    found = [test.best for test in tests]
    mean = math.exp(sum(map(math.log, found)) / len(found))
    print(f"rate    {format_suggestion_text(cfg.train, mean, optim.compute_global_batch_size(cfg, 1))}")
    at_end = any(test.best >= test.rates[len(test.smooth) - MIN_STEPS // 2] for test in tests)
    print(f"{format_certainty(found, at_end)}\nwrote   {folder}/lr.csv, lr.png, lr.svg")
    return 0


def format_certainty(rates: list[float], at_end: bool = False) -> str:
    """Say how far the learning rates of the seeds are apart, and if that is sure.

    It is not where a loss falls fastest `at_end`, in the last steps before its minimum, which a few batches decide.
    """
    factor = max(rates) / min(rates)
    apart = (
        f"single seeds give {', '.join(f'{rate:.2g}' for rate in rates)} (before base_batch), {factor:.1f} times apart"
    )
    if at_end:
        return f"unsure  {apart}; a loss falls fastest just before its minimum: give more --steps, or try a tenth"
    if factor <= SURE_FACTOR:
        return f"sure    {apart}"
    return f"unsure  {apart}, more than {SURE_FACTOR}: give more --steps or a narrower range, or train with both"


def format_suggestion_text(train, rate, global_batch):
    """Format a learning rate as train.lr, which `base_batch` scales."""
    factor = optim.scale_lr(train, global_batch) / train.lr
    scaled = f", {rate:.2g} at {global_batch} videos a step" if train.base_batch else ""
    return f"{rate / factor:.2g} (train.lr{scaled}; the loss falls fastest there, geometric mean of {SEEDS} seeds)"


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


def center_smooth_losses(losses):
    """Return the mean of the running means in both directions, which has no lag.

    One alone lags by about 20 steps: with 100 steps from 1e-5 to 1, a factor of 10 in the learning rate. The curve ends
    at the lowest running mean, or a divergence would reach back to steps before it.
    """
    forth = smooth_losses(losses)
    end = _count_up_to_lowest(forth)
    back = smooth_losses(losses[:end][::-1])[::-1]
    return [(one + other) / 2 for one, other in zip(forth[:end], back, strict=True)]


def _count_up_to_lowest(smooth):
    """Return the number of steps up to the lowest loss, 1 if all are NaN."""
    return int(np.where(np.isnan(smooth), math.inf, smooth).argmin()) + 1


def find_divergence(losses):
    if not math.isfinite(losses[-1]):
        return True
    smooth = smooth_losses(losses)
    return len(smooth) > MIN_STEPS and smooth[-1] > DIVERGENCE_FACTOR * min(smooth)


def suggest_lr(rates, smooth):
    """Return the learning rate at which the smoothed loss falls fastest.

    Only steps before its minimum count. The slope is with respect to the logarithm of the learning rate.
    """
    end = _count_up_to_lowest(smooth)
    if end < MIN_STEPS:
        raise UserError(
            f"the loss must fall for at least {MIN_STEPS} steps, got {end}: give a smaller --lowest or more --steps"
        )
    slopes = np.gradient(smooth[:end], np.log(rates[:end]))
    return rates[int(np.argmin(slopes))]


def write_csv(path, tests):
    columns = [([test.seed] * len(test.rates), test.rates, test.losses, test.smooth) for test in tests]
    rows = [row for test in columns for row in itertools.zip_longest(*test, fillvalue="")]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("seed", "lr", "loss", "smoothed"), *rows])


def _plot_losses(path, tests):
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for test, color in zip(tests, ("tab:blue", "tab:orange"), strict=True):
        axes.plot(test.rates, test.losses, color=color, alpha=0.3, linewidth=0.8)
        axes.plot(test.rates[: len(test.smooth)], test.smooth, color=color, label=f"seed {test.seed}, smoothed")
        axes.axvline(test.best, color=color, linestyle="--", label=f"falls fastest: {test.best:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    finite = [value for test in tests for value in test.smooth if math.isfinite(value)]
    axes.set_ylim(min(0, *finite), 1.1 * min(max(finite), 2 * tests[0].smooth[0]))
    axes.grid(alpha=0.3)
    figures.label_log_axis(axes.xaxis)
    figures.add_legend(axes, columns=2)
    figures.save_figure(figure, path)
