"""What an average of the weights (train.ema) and checkpoints cost a training, in what tools/train.py runs.

Both are timed within the steps of one training, each of which updates the average and here writes a checkpoint too. At
the default interval checkpoints are rarer: their share of a run follows from one's cost and the rule that sets it.
"""

import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks import overhead
from videores.config import parse
from videores.data import datamodule
from videores.runtime import cli
from videores.training.callbacks.checkpointing import MIN_SAVE_INTERVAL, SAVE_INTERVAL_RATIO, Checkpointing
from videores.training.callbacks.weight_averaging import WeightAverager
from videores.training.module import VideoClassifier

LIMIT = 1.0  # per cent, of each
CASES = {  # name -> changes to the configuration
    "default network": [],
    "r2plus1d_18 16x112x112": ["model.name=r2plus1d_18", *overhead.LARGE, "data.batch_size=4"],
}


def add_arguments(parser):
    parser.add_argument("--cfg", default="r2plus1d_motion.yaml", help="default: r2plus1d_motion.yaml")
    parser.add_argument("--steps", type=cli.positive, default=6, help="that are measured (default: 6)")
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark", "upkeep.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration, e.g. data.root=...")


def main(args):
    rows = []
    for name, changes in CASES.items():
        fixed = ["data.val=none", "data.workers=0", "data.cache=ram", "train.ema=0.999", "run.checkpoint_steps=1"]
        cfg = parse.load_config(args.cfg, [*changes, *fixed, *args.overrides])
        rows.append({"case": name, **measure(cfg, args.steps)})
        print(said(rows[-1]), flush=True)
    overhead.write(args.out, "upkeep", rows)
    return 0


def said(row):
    verdicts = {kind: "reached" if row[f"{kind}_percent"] < LIMIT else "NOT reached" for kind in ("ema", "checkpoint")}
    return (
        f"{row['case']}: a step takes {row['step_ms']:.0f} ms\n"
        f"  train.ema    {row['ema_ms']:9.2f} ms a step, {row['ema_percent']:.3f} %; "
        f"under {LIMIT:g}: {verdicts['ema']}\n"
        f"  checkpoints  {row['checkpoint_ms']:9.2f} ms each, {row['checkpoint_percent']:.3f} % of an epoch of "
        f"{row['epoch_steps']} steps at the default interval; under {LIMIT:g}: {verdicts['checkpoint']}"
    )


def measure(cfg, steps):
    """Medians over the steps, in ms, and shares of training, in per cent."""
    data = datamodule.VideoData.from_config(cfg, datamodule.load_videos(cfg.data))
    module, arrivals = VideoClassifier(cfg, data.videos.index.classes), overhead.Arrivals()
    with overhead.lightning_trainer(cfg, overhead.WARM_UP + steps + 1, arrivals) as trainer:
        updates = timed(find(trainer, WeightAverager), "update")
        checkpoints = timed(find(trainer, Checkpointing), "save")
        trainer.fit(module, data)
        epoch_steps = len(data.dataset("train")) // cfg.data.batch_size
    rounds = [*zip(pairwise(arrivals.times), updates[:-1], checkpoints[:-1], strict=True)][overhead.WARM_UP :]
    step = median(after - before - update - checkpoint for (before, after), update, checkpoint in rounds)
    update, checkpoint = (median(column) for column in list(zip(*rounds, strict=True))[1:])
    return {
        "step_ms": round(1000 * step, 2),
        "ema_ms": round(1000 * update, 3),
        "ema_percent": round(100 * update / step, 4),
        "checkpoint_ms": round(1000 * checkpoint, 2),
        "checkpoint_percent": round(100 * share(checkpoint, epoch_steps * step), 4),
        "epoch_steps": epoch_steps,
        "steps": steps,
    }


def share(cost, epoch):
    """Of the seconds of an epoch, how much its checkpoints take: one at its end, and those that the time decides."""
    return cost * (1 + epoch // max(MIN_SAVE_INTERVAL, SAVE_INTERVAL_RATIO * cost)) / epoch


def find(trainer, kind):
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))


def timed(owner, name):
    """The seconds of each call of a method from now on."""
    seconds, method = [], getattr(owner, name)

    def measured(*args):
        began = time.perf_counter()
        method(*args)
        seconds.append(time.perf_counter() - began)

    setattr(owner, name, measured)
    return seconds
