"""What the cells of a table cost: counted, measured in turns, and forecast from 20 measured steps."""

import statistics
import time
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import lightning.pytorch as pl
import torch

from videores.compute import cost
from videores.data import datamodule, index
from videores.data.datamodule import make_data
from videores.data.synthetic import datasets
from videores.errors import UserError
from videores.models import create_model
from videores.training import trainer as trainers
from videores.training.module import VideoClassifier

CLASSES = {"ucf101": 101, "hmdb51": 51, "kinetics": 400, "ssv2": 174}
CLASSES |= {name: len(embedded.classes) for name, embedded in datasets.SETS.items()}
OFFICIAL = {"ucf101": (9537, 3783), "hmdb51": (3570, 1530), "kinetics": (246534, 19906), "ssv2": (168913, 24777)}
STEPS = 20  # that are measured for the forecast
FIRST = 3  # of them are left out where there are more: they allocate
BACKWARD = 2  # a training step costs so many forward passes more than a test


def counted(cells):
    """{key: {params, gmacs, gmacs_video, memory}} of the cells' networks on one clip of theirs, in bytes and GMACs.
    {key: {error}} of one that cannot be built, for it costs the other cells nothing."""
    return {cell.key: count_or_error(cell.config) for cell in cells}


def count_or_error(cfg):
    try:
        return count(cfg)
    except UserError as error:
        return {"error": str(error)}


def count(cfg):
    views = cfg.test.clips * cfg.test.crops if isinstance(cfg.test.clips, int) and cfg.test.crops != "full" else None
    found = count_network(cfg.model, classes(cfg.data), cfg.data.clip.frames, cfg.data.transform.crop)
    return {
        "params": found["params"],
        "gmacs": found["gmacs"],
        "gmacs_video": views * found["gmacs"] if views else None,
        "memory": found["training_bytes"],
    }


@cache  # a deep one takes seconds, and seeds and tables share them
def count_network(model, classes, frames, crop):
    return cost.count(network(model, classes, "meta"), frames, crop)


def network(model, classes, device):
    with torch.device(device):
        return create_model(model.name, classes, **model.overrides())


def classes(data):
    return CLASSES.get(data.format) or len(index.read_lists(data).classes)


def latencies(cells, rounds=20):
    """{key: ms} of one clip, inference in float32, the median of `rounds` turns over all networks."""
    runs = {cell.key: inference(cell.config) for cell in cells}
    return {key: 1e3 * seconds for key, seconds in cost.interleaved(runs, rounds).items()}


def inference(cfg):
    """A function that answers one clip."""
    shape = (1, 3, cfg.data.clip.frames, cfg.data.transform.crop, cfg.data.transform.crop)
    return cost.runner(network(cfg.model, classes(cfg.data), "cpu"), shape, "cpu", "fp32", False, False)


# The forecast


class Pace(NamedTuple):
    """Seconds: of a cell's start, of a clip's forward pass, and of each GMAC in it."""

    start: float
    clip: float
    gmac: float


def forecast(cells, measured, costs):
    """{key: seconds} of training and testing, from STEPS measured steps of some cells and everybody's GMACs."""
    data = {cell.config.data.model_dump_json(): cell.config.data for cell in cells}
    sizes = {name: videos(part) for name, part in data.items()}
    pace = pace_of([(costs[cell.key]["gmacs"], *trial(cell.config)) for cell in measured])
    size = lambda cell: sizes[cell.config.data.model_dump_json()]
    seconds = lambda cell: pace.clip + pace.gmac * costs[cell.key]["gmacs"]
    return {cell.key: pace.start + passes(cell, size(cell)) * seconds(cell) for cell in cells}


def pace_of(trials):
    """The line through the trials (GMACs, seconds of a clip's forward pass, seconds of the start) with the fewest GMACs
    and the most: small networks' time is that of the videos and of many small operations."""
    (few, fast, _), (many, slow, _) = min(trials), max(trials)
    gmac = max(0, (slow - fast) / (many - few)) if many > few else 0
    return Pace(statistics.fmean(start for *_, start in trials), max(0, fast - gmac * few), gmac)


def passes(cell, sizes):
    """Forward passes of a clip that a cell's time is worth: of its training steps, validations, training videos that
    are scored beside them, and test."""
    cfg, (train, val, test) = cell.config, sizes
    clips = test * views(cfg.test)
    if cell.kind == "train":
        beside = min(train, val if cfg.train.gap_videos == "auto" else cfg.train.gap_videos)
        clips += steps_of(cfg, train) * clips_of_step(cfg) * (1 + BACKWARD)
        clips += (val + beside) * views(cfg.val) * cfg.train.epochs
    return clips


def views(part):
    return (part.clips if isinstance(part.clips, int) else 10) * (1 if part.crops == "full" else part.crops)


def steps_of(cfg, videos):
    return videos // videos_of_step(cfg) * cfg.train.epochs


def clips_of_step(cfg):
    return videos_of_step(cfg) * cfg.data.clip.repeat


def videos_of_step(cfg):
    return cfg.data.batch_size * (cfg.trainer.devices if cfg.trainer.devices != "auto" else 1)


def videos(data):
    found = index.read(data)
    return len(found.train), len(found.val), len(found.test)


def listed(data):
    """(training, test) videos: of the lists, or where these are not here of those that were published; else None.
    Embedded data is not written for it."""
    if data.format in datasets.SETS:
        sizes = datasets.SETS[data.format].videos
        return sizes["train"], sizes["test"]
    try:
        train, val, test = videos(data)
        return train + val, test
    except UserError:
        return OFFICIAL.get(data.format)


def trial(cfg):
    """(seconds of a clip's forward pass, the median over measured steps without the first few; seconds of all else)"""
    began, clock = time.perf_counter(), Clock()
    videos = datamodule.load_videos(cfg.data)
    options = {**trainers.make_trial_options(cfg), "max_steps": STEPS, "enable_progress_bar": False}
    torch.manual_seed(cfg.run.seed)
    task = VideoClassifier(cfg, videos.index.classes)
    pl.Trainer(**options, callbacks=[clock]).fit(task, make_data(cfg, videos))
    step = statistics.median(b - a for a, b in pairwise(clock.times[FIRST:] or clock.times))
    start = time.perf_counter() - began - step * len(clock.times)
    return step / (clips_of_step(cfg) * (1 + BACKWARD)), max(0, start)


class Clock(pl.Callback):
    def __init__(self):
        self.times = []

    def on_train_batch_end(self, *_):
        self.times.append(time.perf_counter())
