"""Put finished runs into one table, as Markdown, CSV and LaTeX: a row a configuration, a column a split.

Runs that differ in data.split and run.seed alone are one row. A mean of splits is the mean of the accuracies on each,
as papers have it. S seeds, V tests of a video: one in every split that tests it.
"""

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from videores.config import parse
from videores.errors import UserError
from videores.evaluation import metrics, offline
from videores.evaluation.fusion import fuse_views
from videores.evaluation.predictions import Predictions, align_videos, read_predictions
from videores.reporting.results import FLOOR_NAMES
from videores.runtime.files import write_text
from videores.runtime.tables import format_csv, format_latex_table, format_markdown_table
from videores.training.resume import CHANGEABLE_KEYS, flatten_config
from videores.training.run_folder import read_record

TABLE_FOLDER = Path("results", "tables")
MEANS = {"clip_top1": "clip top-1", "video_top1": "video top-1", "mean_class_top1": "mean class top-1"}
ENDS = ("low", "high")  # of intervals
ROW_KEYS = {*CHANGEABLE_KEYS, "run.seed", "data.split"}  # in which the runs of a row may differ


class _TestedRun(NamedTuple):
    recipe: str  # equal for the runs of a row
    split: int
    seed: int
    predictions: Predictions
    numbers: dict[str, Any]  # as in metrics.json


class _Mean(NamedTuple):
    """The mean of splits, over seeds."""

    value: float
    deviation: float | None  # over seeds; None of one seed
    interval: tuple[float, float] | None = None  # 95 %, over groups of all splits

    def __str__(self):
        deviation = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        return f"{self.value:.2f}{deviation}" + (" [{:.2f}, {:.2f}]".format(*self.interval) if self.interval else "")


class Row(NamedTuple):
    """A row of the table."""

    name: str
    splits: dict[int, float]  # video top-1 of each, the mean over seeds
    means: dict[str, _Mean]  # of MEANS; empty for a floor but for video top-1
    runs: tuple[_TestedRun, ...] = ()

    @property
    def several(self) -> dict[int, float]:
        """Return `splits` where there are several, each a column."""
        return self.splits if len(self.splits) > 1 else {}


def write_table(sources: Sequence[Path | str], folder: Path) -> list[Row]:
    """Write the table of runs and return its rows, floors last.

    The files are table.md, table.csv and table.tex, and runs.csv with a line a run. `sources` are run folders, or their
    test folders where they were tested under several protocols.

    Raises:
        UserError: if a row lacks a split of a seed, or rows were tested on different videos.
    """
    runs = [_read_run(source) for source in sources]
    rows = _make_rows(runs)
    rows += _make_floor_rows(rows[0])
    header = ["", MEANS["clip_top1"], *(f"split {split}" for split in rows[0].several), *list(MEANS.values())[1:]]
    lines = [_format_row(row) for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    about = "\n".join(_describe(rows, runs))
    write_text(
        folder / "table.md",
        f"# {_strip_split(runs[0].predictions.words['data'])}\n\n{format_markdown_table(header, lines)}\n\n{about}\n",
    )
    write_text(folder / "table.csv", format_csv([_flatten_row(row) for row in rows]))
    write_text(folder / "table.tex", format_latex_table(header, lines))
    write_text(folder / "runs.csv", format_csv([_describe_run(row, run) for row in rows for run in row.runs]))
    return rows


def print_table(rows: Sequence[Row], folder: Path) -> None:
    """Print the files, the floors, and as the last lines the accuracies of each row."""
    print(f"wrote   {folder}/table.md, table.csv, table.tex, runs.csv")
    floors = [f"{row.name.removeprefix('floor: ')} {row.means['video_top1']}" for row in rows if not row.runs]
    print(f"floors  {', '.join(floors) or 'unknown'}")
    for row in rows:
        if row.runs:
            splits = ", ".join(f"{split}: {value:.2f}" for split, value in row.several.items())
            print(f"row     {row.name}")
            print(f"clip    top-1 {row.means['clip_top1']}")
            mean_class = f"mean class {row.means['mean_class_top1']}"
            print(f"video   top-1 {row.means['video_top1']}{f' (splits {splits})' * bool(splits)}  {mean_class}")


# Rows


def _read_run(source):
    predictions = read_predictions(source)
    path = predictions.run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{source} must be a run of tools/train.py, or a test of one: {path} is not there")
    cfg = parse.load_config(path)
    values = flatten_config(parse.dump_config(cfg))
    recipe = json.dumps({key: value for key, value in values.items() if key not in ROW_KEYS})
    numbers = offline.rescore(predictions, offline.select_fusion([predictions]))
    return _TestedRun(recipe, int(cfg.data.split), cfg.run.seed, predictions, numbers)


def _make_rows(runs):
    """Return a row for each recipe, in the order of the runs."""
    alike: dict[str, list[_TestedRun]] = {}
    for run in runs:
        alike.setdefault(run.recipe, []).append(run)
    splits = sorted({run.split for run in runs})
    first = {split: next(run.predictions for run in runs if run.split == split) for split in splits}
    names = [_strip_name(some[0]) for some in alike.values()]
    names = names if len(set(names)) == len(names) else [_name_run(some[0]) for some in alike.values()]
    return [_make_row(name, some, first) for name, some in zip(names, alike.values(), strict=True)]


def _name_run(run):
    return run.predictions.run.resolve().name


def _strip_name(run):
    return re.sub(r"-(split|seed)\d+", "", _name_run(run))


def _strip_split(protocol):
    return re.sub(r"-\d+$", "", protocol)


def _make_row(name, runs, first):
    """Make the row of runs; `first` are predictions of each split, whose videos all must have."""
    seeds = sorted({run.seed for run in runs})
    by_place = _place_runs(name, runs, [(split, seed) for split in first for seed in seeds])
    number = lambda key, split, seed: by_place[split, seed].numbers[key]
    splits = {split: statistics.fmean(number("video_top1", split, seed) for seed in seeds) for split in first}
    value_S = {key: [statistics.fmean(number(key, split, seed) for split in first) for seed in seeds] for key in MEANS}
    tested = {
        split: [align_videos(p, by_place[split, seed].predictions) for seed in seeds] for split, p in first.items()
    }
    intervals = _compute_intervals(tested)
    spread = lambda values: statistics.stdev(values) if len(values) > 1 else None
    means = {key: _Mean(statistics.fmean(some), spread(some), intervals.get(key)) for key, some in value_S.items()}
    return Row(name, splits, means, tuple(by_place[key] for key in sorted(by_place)))


def _place_runs(name, runs, places):
    """Return {(split, seed): run}; refuse another run than one for each place, and other protocols."""
    by_place = {(run.split, run.seed): run for run in runs}
    missing = [f"split {split} of seed {seed}" for split, seed in places if (split, seed) not in by_place]
    if missing or len(by_place) < len(runs):
        what = f"it lacks {', '.join(missing)}" if missing else "one is there twice"
        raise UserError(f"{name}: must have one run for each split and seed, {what}")
    protocols = {_strip_split(run.predictions.protocol) for run in runs}
    if len(protocols) > 1:
        raise UserError(f"{name}: runs must be tested under one protocol, got {', '.join(sorted(protocols))}")
    return by_place


def _compute_intervals(tested):
    """Return the intervals over groups of the mean of splits, itself the mean over seeds."""
    right_V, label_V, split_V, group_V = [], [], [], []
    for place, runs in enumerate(tested.values()):
        fused = [fuse_views(p.logits, offline.select_fusion([p]), p.views_V) for p in runs]
        right_V.append(
            np.mean([metrics.is_in_top_k(scores_VN, p.label) for scores_VN, p in zip(fused, runs, strict=True)], 0)
        )
        label_V.append(runs[0].label)
        split_V.append(np.full(len(runs[0].label), place))
        group_V.append(np.where(runs[0].group == "", runs[0].video, runs[0].group))  # a video may be in several splits
    right_V, label_V, split_V, group_V = map(np.concatenate, (right_V, label_V, split_V, group_V))
    interval = lambda stratum_V: tuple(metrics.bootstrap_interval(right_V, group_V, stratum_V=stratum_V))
    return {
        "video_top1": interval(split_V),
        "mean_class_top1": interval(split_V * (label_V.max() + 1) + label_V),
    }


def _make_floor_rows(row):
    """Return what needs no network, where every split knows it."""
    found = {run.split: run.numbers.get("floors") for run in row.runs}
    if not all(found.values()):
        return []
    return [
        Row(f"floor: {name}", values, {"video_top1": _Mean(statistics.fmean(values.values()), None)})
        for key, name in FLOOR_NAMES.items()
        for values in [{split: floors[key] for split, floors in found.items()}]
    ]


# Formats


def _format_row(row):
    show = lambda key: str(row.means.get(key, ""))
    splits = [f"{value:.2f}" for value in row.several.values()]
    return [row.name, show("clip_top1"), *splits, show("video_top1"), show("mean_class_top1")]


def _flatten_row(row):
    """Return the numbers of a row, unrounded, for CSV."""
    values: dict[str, Any] = {"row": row.name, **{f"split{split}": value for split, value in row.several.items()}}
    for key, mean in row.means.items():
        values |= {key: mean.value, f"{key}_sd": mean.deviation}
        values |= dict(zip([f"{key}_{end}" for end in ENDS], mean.interval or (), strict=False))
    return values


def _describe_run(row, run):
    git = (read_record(run.predictions.run) or {}).get("git") or {}
    about = {"row": row.name, "split": run.split, "seed": run.seed}
    limits = {f"{key}_{end}": run.numbers[f"ci95_{key}"][i] for key in list(MEANS)[1:] for i, end in enumerate(ENDS)}
    return {
        **about,
        **{key: run.numbers[key] for key in MEANS},
        **limits,
        "protocol": run.predictions.protocol,
        "commit": git.get("commit"),
        "run": _name_run(run),
    }


def _describe(rows, runs):
    """Yield what the numbers are, for the end of the page."""
    tests = [run.predictions for run in rows[0].runs]
    videos = {video for p in tests for video in p.video.tolist()}
    groups = {group for p in tests for group in p.group.tolist()} - {""}
    over = f"{len(groups)} groups of the {len(videos)} test videos" if groups else f"{len(videos)} test videos"
    seeds = sorted({run.seed for run in runs})
    several = f" (± standard deviation over the seeds {', '.join(map(str, seeds))})" if len(seeds) > 1 else ""
    yield f"Video top-1 of each split, then the mean of splits{several};"
    yield f"in brackets the 95 % interval over the {over}. Floors need no network."
    best = max((row.means["video_top1"].value for row in rows if not row.runs), default=None)
    below = [row.name for row in rows if row.runs and best is not None and row.means["video_top1"].interval[0] <= best]
    if below:
        yield f"With its interval not above the best floor ({best:.2f}): {', '.join(below)}."
    yield "Protocols:"
    yield ""
    for protocol in sorted({run.predictions.protocol for run in runs}):
        yield f"* `{protocol}`"
