"""What Lightning and our callbacks add to a training step, against a bare PyTorch loop.

Both train the same network, from the same weights, on the same batches in the same order, in turns in one process. A
step is from one batch's arrival to the next one's, so loading, logging, the progress bar and every callback count. The
loops are compared round by round, and the median difference is given with the range of its middle half.
"""

import json
import tempfile
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

import lightning.pytorch as pl
import torch
from torch.nn import functional as F

from benchmarks import report
from videores.compute import precision
from videores.config import parse
from videores.data import datamodule
from videores.runtime import cli, environment, files, signals
from videores.training import optim, run_folder
from videores.training.callbacks.checkpointing import Checkpointing
from videores.training.module import VideoClassifier
from videores.training.trainer import make_hardware_options, make_resume_signature, make_training_options

LIMIT = 3.0  # ms a step
WARM_UP = 2  # steps of a round that are not measured
LARGE = [  # a whole network on whole clips
    *("model.layers=null", "model.width=null", "model.stem=null", "data.clip.frames=16", "data.batch_size=1"),
    *("data.transform.short_side=112", "data.transform.crop=112"),
]
CASES = {  # name -> (changes to the configuration, steps of a round)
    "default network": ([], 40),
    "r3d_18 16x112x112": (["model.name=r3d_18", *LARGE], 8),
}


def add_arguments(parser):
    parser.add_argument("--cfg", default="r2plus1d_motion.yaml", help="default: r2plus1d_motion.yaml")
    parser.add_argument("--rounds", type=cli.positive, default=8, help="of each loop in turn (default: 8)")
    parser.add_argument("--steps", type=cli.positive, help="of a round (default: 40, of the larger network 8)")
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark", "overhead.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration, e.g. data.root=...")


def main(args):
    rows = []
    print(f"{'':20} {'bare ms':>9} {'ours ms':>9} {'added ms':>9}   middle half")
    for name, (changes, steps) in CASES.items():
        cfg = parse.load_config(
            args.cfg, [*changes, "data.val=none", "data.workers=0", "data.cache=ram", *args.overrides]
        )
        rows.append({"case": name, **compare(cfg, args.rounds, args.steps or steps)})
        print(said(rows[-1]), flush=True)
    write(args.out, "overhead", rows)
    return 0


def write(path, measurement, rows):
    """The rows as JSON, with what they were measured with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"measurement": measurement, "date": environment.format_utc_now(), **report.environment()}
    files.write_text(path, json.dumps({**about, "rows": rows}, indent=1) + "\n")
    print(f"wrote {path}")


def said(row):
    verdict = "reached" if row["added_ms"] <= LIMIT else "NOT reached"
    times = f"{row['bare_ms']:9.2f} {row['ours_ms']:9.2f} {row['added_ms']:9.2f}"
    low, high = row["middle_half_ms"]
    return f"{row['case']:20} {times}   {low:.2f} to {high:.2f}; at most {LIMIT:g}: {verdict}"


def compare(cfg, rounds, steps):
    """{"bare_ms", "ours_ms": medians over the rounds' medians; "added_ms": the median of the rounds' differences}."""
    videos = datamodule.load_videos(cfg.data)
    data = datamodule.VideoData.from_config(cfg, videos)
    loops = {"bare": bare_loop, "ours": lightning_loop}
    ms = {name: [] for name in loops}
    for turn in range(rounds + 1):  # the first fills the cache of frames
        for name in (list(loops), list(loops)[::-1])[turn % 2]:
            torch.manual_seed(cfg.run.seed)
            arrivals = loops[name](cfg, data, steps + WARM_UP + 1)
            if turn:
                ms[name].append(1000 * median(b - a for a, b in pairwise(arrivals[WARM_UP:])))
    added = [ours - bare for ours, bare in zip(ms["ours"], ms["bare"], strict=True)]
    low, _, high = quantiles(added) if len(added) > 1 else added * 3
    values = {"bare_ms": median(ms["bare"]), "ours_ms": median(ms["ours"]), "added_ms": median(added)}
    rounded = {name: round(value, 3) for name, value in values.items()}
    return {**rounded, "middle_half_ms": [round(low, 3), round(high, 3)], "rounds": rounds, "steps": steps}


def bare_loop(cfg, data, steps):
    """When each batch arrived."""
    device, setting = torch.device("cpu"), precision.select_setting(cfg.trainer, "cpu")
    network = VideoClassifier(cfg, data.videos.index.classes).model.train()
    if setting.channels_last:
        precision.to_channels_last(network)
    optimizer = optim.make_optimizer(network, cfg.train, cfg.train.lr)
    arrivals = []
    data.trainer = None  # of the last Lightning loop
    for batch in data.training_batches(0, steps, device):
        arrivals.append(time.perf_counter())
        clips_XCTHW = (batch["clips"] if setting.channels_last else batch["clips"].contiguous()).flatten(0, 1)
        optimizer.zero_grad()
        with precision.autocast("cpu", setting.precision):
            logits_XN = network(clips_XCTHW)
        loss = F.cross_entropy(logits_XN.float(), batch["label"], label_smoothing=cfg.train.label_smoothing)
        loss.backward()
        optimizer.step()
    return arrivals


class Arrivals(pl.Callback):
    def __init__(self):
        self.times = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.times.append(time.perf_counter())


def lightning_loop(cfg, data, steps):
    """When each batch arrived in what tools/train.py runs, callbacks and all, without validation."""
    arrivals = Arrivals()
    with lightning_trainer(cfg, steps, arrivals) as trainer:
        trainer.fit(VideoClassifier(cfg, data.videos.index.classes), data)
    return arrivals.times


@contextmanager
def lightning_trainer(cfg, steps, *callbacks, **changes):
    """The Trainer of tools/train.py, for an epoch of `steps` batches in a temporary run folder, without validation.

    `steps` is None for all; `changes` are options of Lightning's.
    """
    with tempfile.TemporaryDirectory(prefix="videores-benchmark-") as folder:
        (Path(folder) / "checkpoints").mkdir()
        record = run_folder.RunRecord(Path(folder), cfg)
        hardware = make_hardware_options(cfg.trainer)
        saving = Checkpointing(
            Path(folder), cfg.run, make_resume_signature(cfg.trainer, hardware), signals.SignalHandler()
        )
        options = make_training_options(cfg, Path(folder), saving, None, record)
        options |= {"max_epochs": 1, "limit_train_batches": steps, "limit_val_batches": 0}
        options["callbacks"] = [*options["callbacks"], *callbacks]
        yield pl.Trainer(**hardware | options | changes)
