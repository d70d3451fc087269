"""Count, measure and forecast what the cells of a table cost."""

import statistics
import time
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import lightning.pytorch as pl
import torch

from videores.ablation.cells import compressed_path, read_network
from videores.compute import cost
from videores.config.schema import ModelConfig
from videores.config.streams import compute_input_shape
from videores.data import datamodule, index, streams
from videores.data.datamodule import VideoData
from videores.data.synthetic import datasets
from videores.errors import UserError
from videores.inference.exported import load_exported
from videores.models import create_model
from videores.training.module import VideoClassifier
from videores.training.trainer import make_trial_options

OFFICIAL_CLASSES = {"ucf101": 101, "hmdb51": 51, "kinetics": 400, "ssv2": 174, "ravdess": 8}
OFFICIAL_LISTS = {"ucf101": (9537, 3783), "hmdb51": (3570, 1530), "kinetics": (246534, 19906), "ssv2": (168913, 24777)}
OFFICIAL_LISTS |= {"ravdess": (1140, 300)}  # of the first fold
TIMED_STEPS = 20  # that are measured for the forecast
WARMUP_STEPS = 3  # of them are left out where there are more: they allocate
BACKWARD = 2  # a training step costs so many forward passes more than a test


def count_costs(cells):
    """Return {key: {params, gmacs, gmacs_video, memory}} of the cells' networks.

    They are of one clip, in bytes and GMACs. Cells that read clips alone have none.
    """
    return {cell.key: {} if cell.kind == "decode" else _try_count_cost(cell) for cell in cells}


def _try_count_cost(cell):
    """Count the costs of a cell; of several networks whose scores are fused they are the sums."""
    try:
        found = [_count_cost(one.config, read_network(one)) for one in cell.members or (cell,)]
    except UserError as error:
        return {"error": str(error)}
    total = lambda name: None if any(one[name] is None for one in found) else sum(one[name] for one in found)
    return {name: total(name) for name in found[0]}


def _count_cost(cfg, network):
    views = cfg.test.clips * cfg.test.crops if isinstance(cfg.test.clips, int) and cfg.test.crops != "full" else None
    shapes = compute_input_shape(cfg.data)
    of_streams = tuple(shapes.items()) if isinstance(shapes, dict) else ()
    _, frames, *size = streams.pick_first(shapes)
    found = _count_network_cost(network.model_dump_json(), _count_classes(cfg.data), frames, tuple(size), of_streams)
    return {
        "params": found["params"],
        "gmacs": found["gmacs"],
        "gmacs_video": views * found["gmacs"] if views else None,
        "memory": found["training_bytes"],
    }


@cache  # a deep one takes seconds, and seeds and tables share them
def _count_network_cost(model_json, classes, frames, size, of_streams):
    model = ModelConfig.model_validate_json(model_json)
    return cost.count_costs(build_network(model, classes, "meta"), frames, size, shapes=dict(of_streams))


def build_network(model, classes, device):
    with torch.device(device):
        return create_model(model.name, classes, **model.overrides())


def _count_classes(data):
    """Count the classes of the lists that are there, else those of the official data set of the format."""
    if data.format in datasets.SETS:  # written when a run starts
        return len(datasets.SETS[data.format].classes)
    try:
        return len(index.read_format(data).classes)
    except UserError:
        if data.format not in OFFICIAL_CLASSES:
            raise
        return OFFICIAL_CLASSES[data.format]


def measure_latencies(cells, rounds=20):
    """Return {key: ms} of one clip, inference in float32.

    It is the median of `rounds` turns over all networks; on one thread of processor time, which other programs do not
    lengthen.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    runs = {cell.key: _read_inference_setting(cell) for cell in cells}
    return {key: 1e3 * seconds for key, seconds in cost.time_interleaved(runs, rounds, clock=clock).items()}


def _read_inference_setting(cell):
    """Return a function that scores one clip; a network in integers runs in ONNX Runtime."""
    data, network = cell.config.data, read_network(cell)
    shape = streams.add_batch(compute_input_shape(data), 1)
    if cell.quantises and compressed_path(cell).exists():
        return partial(load_exported(compressed_path(cell)), torch.randn(shape))
    model = build_network(network, _count_classes(data), "cpu")
    return cost.make_runner(model, cost.make_clips(model, shape, torch.randn), cost.MODES["fp32"])


# The forecast


class _Pace(NamedTuple):
    """Seconds: of a cell's start, of a clip's forward pass, and of each GMAC in it."""

    start: float
    clip: float
    gmac: float


def forecast_hours(cells, measured, costs):
    """Return {key: seconds} of training and testing.

    They follow from measured steps of some cells and everybody's GMACs.
    """
    data = {cell.config.data.model_dump_json(): cell.config.data for cell in cells}
    sizes = {name: count_videos(part) for name, part in data.items()}
    pace = fit_pace([(costs[cell.key]["gmacs"], *_time_training(cell.config)) for cell in measured])
    size = lambda cell: sizes[cell.config.data.model_dump_json()]
    seconds = lambda cell: pace.clip + pace.gmac * costs[cell.key]["gmacs"]
    return {cell.key: pace.start + count_passes(cell, size(cell)) * seconds(cell) for cell in cells}


def fit_pace(trials):
    """Fit the line through the trials with the fewest and the most GMACs.

    A trial is (GMACs, seconds of a clip's forward pass, seconds of the start). Small networks' time is that of the
    videos and of many small operations.
    """
    (few, fast, _), (many, slow, _) = min(trials), max(trials)
    gmac = max(0, (slow - fast) / (many - few)) if many > few else 0
    return _Pace(statistics.fmean(start for *_, start in trials), max(0, fast - gmac * few), gmac)


def count_passes(cell, sizes):
    """Count the forward passes of a clip that a cell's time is worth.

    They are those of its training steps, validations, training videos that are scored beside them, and test.
    """
    cfg, (train, val, test) = cell.config, sizes
    clips = test * count_views(cfg.test)
    if cell.trains:
        beside = min(train, val if cfg.train.gap_videos == "auto" else cfg.train.gap_videos)
        clips += count_steps(cfg, train) * count_step_clips(cfg) * (1 + BACKWARD)
        clips += (val + beside) * count_views(cfg.val) * cfg.train.epochs
    return clips


def count_views(part):
    return (part.clips if isinstance(part.clips, int) else 10) * (1 if part.crops == "full" else part.crops)


def count_steps(cfg, videos):
    return videos // _count_step_videos(cfg) * cfg.train.epochs


def count_step_clips(cfg):
    return _count_step_videos(cfg) * cfg.data.clip.repeat


def _count_step_videos(cfg):
    return cfg.data.batch_size * (cfg.trainer.devices if cfg.trainer.devices != "auto" else 1)


def count_videos(data):
    found = index.read_index(data)
    return len(found.train), len(found.val), len(found.test)


def list_videos(data):
    """Return the (training, test) videos of the lists.

    Where these are not here they are those that were published, else None.
    """
    if data.format in datasets.SETS:
        sizes = datasets.SETS[data.format].videos
        return sizes["train"], sizes["test"]
    try:
        train, val, test = count_videos(data)
        return train + val, test
    except UserError:
        return OFFICIAL_LISTS.get(data.format)


def _time_training(cfg):
    """Return (seconds of a clip's forward pass, seconds of all else).

    The first is the median over measured steps without the first few.
    """
    began, clock = time.perf_counter(), StepTimer()
    videos = datamodule.load_videos(cfg.data)
    options = {**make_trial_options(cfg), "max_steps": TIMED_STEPS, "enable_progress_bar": False}
    torch.manual_seed(cfg.run.seed)
    task = VideoClassifier(cfg, videos.index.classes)
    pl.Trainer(**options, callbacks=[clock]).fit(task, VideoData.from_config(cfg, videos))
    step = statistics.median(b - a for a, b in pairwise(clock.times[WARMUP_STEPS:] or clock.times))
    start = time.perf_counter() - began - step * len(clock.times)
    return step / (count_step_clips(cfg) * (1 + BACKWARD)), max(0, start)


class StepTimer(pl.Callback):
    def __init__(self):
        self.times = []

    def on_train_batch_end(self, *_):
        self.times.append(time.perf_counter())
