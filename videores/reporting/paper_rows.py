"""Make the rows of a table of runs: a configuration each, with means over splits and seeds, and differences.

Runs that differ in data.split and run.seed alone are one row. A mean of splits is the mean of the accuracies on each,
as papers have it. Differences are paired by test video. S seeds, V tests of a video: one in every split that tests it.
"""

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from videores.config import parse
from videores.errors import UserError
from videores.evaluation import metrics, offline
from videores.evaluation.fusion import fuse_views
from videores.evaluation.predictions import Predictions, align_videos, read_predictions
from videores.evaluation.protocol import format_protocol, slugify
from videores.reporting.results import FLOOR_NAMES
from videores.training.resume import CHANGEABLE_KEYS, flatten_config

MEANS = {"clip_top1": "clip top-1", "video_top1": "video top-1", "mean_class_top1": "mean class top-1"}
DIFFERENCES = {"above_floor": "above the best floor", "above_first": "above the first row"}  # of video top-1
ROW_KEYS = {*CHANGEABLE_KEYS, "run.seed", "data.split"}  # in which the runs of a row may differ


class TestedRun(NamedTuple):
    recipe: str  # equal for the runs of a row
    split: int
    seed: int
    predictions: Predictions
    numbers: dict[str, Any]  # as in metrics.json

    @property
    def name(self) -> str:
        return self.predictions.run.resolve().name


class _Mean(NamedTuple):
    """The mean of splits, over seeds."""

    value: float
    deviation: float | None  # over seeds; None of one seed
    interval: tuple[float, float] | None = None  # 95 %, over groups of all splits
    sign: Literal["", "+"] = ""  # + for differences

    def __str__(self):
        show = lambda value: f"{value:{self.sign}.2f}"
        deviation = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        interval = f" [{', '.join(map(show, self.interval))}]" if self.interval else ""
        return f"{show(self.value)}{deviation}{interval}"


class _Tests(NamedTuple):
    """What is tested."""

    label_V: np.ndarray
    split_V: np.ndarray  # from 0 on
    group_V: np.ndarray

    def compute_interval(self, right_V: np.ndarray, *, by_class: bool = False) -> tuple[float, float]:
        """Return the interval over groups of the mean of splits, and of classes."""
        stratum_V = self.split_V * (self.label_V.max() + 1) + self.label_V if by_class else self.split_V
        low, high = metrics.bootstrap_interval(right_V, self.group_V, stratum_V=stratum_V)
        return low, high


class Row(NamedTuple):
    """A row of the table."""

    name: str
    splits: dict[int, float]  # video top-1 of each, the mean over seeds
    means: dict[str, _Mean]  # of MEANS and DIFFERENCES; of a floor video top-1 alone
    right_V: np.ndarray | None  # the mean over seeds of 1 where the answer is right, else 0
    runs: tuple[TestedRun, ...] = ()

    @property
    def several(self) -> dict[int, float]:
        """Return `splits` where there are several, each a column."""
        return self.splits if len(self.splits) > 1 else {}


def make_rows(sources: Sequence[Path | str]) -> list[Row]:
    """Read runs and make their rows, in their order, floors last.

    Raises:
        UserError: if a row lacks a split of a seed, or rows were tested on different videos.
    """
    runs = [_read_run(source) for source in sources]
    splits = sorted({run.split for run in runs})
    first = {split: next(run.predictions for run in runs if run.split == split) for split in splits}
    tests = _list_tests(first)
    rows = _join_runs(runs, first, tests)
    floors = _make_floor_rows(rows[0], first)
    return [_compare_row(row, rows[0], floors, tests) for row in rows] + floors


def _read_run(source):
    predictions = read_predictions(_leave_out_control(Path(source)))
    path = predictions.run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{source} must be a run of tools/train.py, or a test of one: {path} is not there")
    cfg = parse.load_config(path)
    values = flatten_config(parse.dump_config(cfg))
    recipe = json.dumps({key: value for key, value in values.items() if key not in ROW_KEYS})
    numbers = offline.rescore(predictions, offline.select_fusion([predictions]))
    return TestedRun(recipe, int(cfg.data.split), cfg.run.seed, predictions, numbers)


def _leave_out_control(source):
    """Return the test folder of a pretext run whose other test is the control on still clips, else `source`."""
    path = source / "config.yaml"
    cfg = parse.load_config(path) if path.is_file() else None
    return source / "test" / slugify(format_protocol(cfg)) if cfg and cfg.data.pretext else source


def _list_tests(first):
    """Return what the predictions of each split are of."""
    group = lambda p: np.where(p.group == "", p.video, p.group)  # a video may be in several splits
    split_V = np.repeat(np.arange(len(first)), [len(p.label) for p in first.values()])
    label_V, group_V = (
        np.concatenate(some) for some in ([p.label for p in first.values()], [*map(group, first.values())])
    )
    return _Tests(label_V, split_V, group_V)


def _join_runs(runs, first, tests):
    """Return a row for each recipe, in the order of the runs.

    `first` are predictions of each split, whose videos all must have.
    """
    alike: dict[str, list[TestedRun]] = {}
    for run in runs:
        alike.setdefault(run.recipe, []).append(run)
    names = [strip_name(some[0].name) for some in alike.values()]
    names = names if len(set(names)) == len(names) else [some[0].name for some in alike.values()]
    return [_make_row(name, some, first, tests) for name, some in zip(names, alike.values(), strict=True)]


def strip_name(run: str) -> str:
    """Return the name of a run without its split and seed."""
    return re.sub(r"-(split|seed)\d+", "", run)


def strip_split(protocol: str) -> str:
    """Return a protocol without its split."""
    return re.sub(r"-\d+$", "", protocol)


def _make_row(name, runs, first, tests):
    seeds = sorted({run.seed for run in runs})
    by_place = _place_runs(name, runs, [(split, seed) for split in first for seed in seeds])
    number = lambda key, split, seed: by_place[split, seed].numbers[key]
    splits = {split: statistics.fmean(number("video_top1", split, seed) for seed in seeds) for split in first}
    value_S = {key: [statistics.fmean(number(key, split, seed) for split in first) for seed in seeds] for key in MEANS}
    right = lambda split, seed: _find_right(align_videos(first[split], by_place[split, seed].predictions))
    right_V = np.concatenate([np.mean([right(split, seed) for seed in seeds], 0) for split in first])
    spread = lambda values: statistics.stdev(values) if len(values) > 1 else None
    means = {key: _Mean(statistics.fmean(some), spread(some)) for key, some in value_S.items()}
    for key in ("video_top1", "mean_class_top1"):
        interval = tests.compute_interval(right_V, by_class=key == "mean_class_top1")
        means[key] = means[key]._replace(interval=interval)
    return Row(name, splits, means, right_V, tuple(by_place[key] for key in sorted(by_place)))


def _find_right(predictions):
    scores_VN = fuse_views(predictions.logits, offline.select_fusion([predictions]), predictions.views_V)
    return metrics.is_in_top_k(scores_VN, predictions.label)


def _place_runs(name, runs, places):
    """Return {(split, seed): run}; refuse another run than one for each place, and other protocols."""
    by_place = {(run.split, run.seed): run for run in runs}
    missing = [f"split {split} of seed {seed}" for split, seed in places if (split, seed) not in by_place]
    if missing or len(by_place) < len(runs):
        what = f"it lacks {', '.join(missing)}" if missing else "one is there twice"
        raise UserError(f"{name}: must have one run for each split and seed, {what}")
    protocols = {strip_split(run.predictions.protocol) for run in runs}
    if len(protocols) > 1:
        raise UserError(f"{name}: runs must be tested under one protocol, got {', '.join(sorted(protocols))}")
    return by_place


def _make_floor_rows(row, first):
    """Return what needs no network, where every split knows it."""
    found = {run.split: run.numbers.get("floors") for run in row.runs}
    if not all(found.values()):
        return []
    answers = [p.metrics["floors"].get("right") for p in first.values()]
    return [
        Row(
            f"floor: {name}",
            {split: floors[key] for split, floors in found.items()},
            {"video_top1": _Mean(statistics.fmean(floors[key] for floors in found.values()), None)},
            np.array([*map(int, "".join(one[key] for one in answers))]) if all(answers) else None,
        )
        for key, name in FLOOR_NAMES.items()
    ]


def _compare_row(row, first, floors, tests):
    """Return a row with its differences from the best floor and from the first row, each paired by test video."""
    floor = max(floors, key=lambda one: one.means["video_top1"].value, default=None)
    others = {"above_floor": floor, "above_first": None if row is first else first}
    differences = {
        key: _Mean(
            row.means["video_top1"].value - other.means["video_top1"].value,
            None,
            None if other.right_V is None else tests.compute_interval(row.right_V - other.right_V),
            "+",
        )
        for key, other in others.items()
        if other
    }
    return row._replace(means={**row.means, **differences})
