"""Plot accuracy against cost, and measure the cost of runs and files: which of them to use."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from videores.compute.cost import time_interleaved
from videores.compute.scoring import score_clips
from videores.data import streams
from videores.errors import UserError
from videores.evaluation import offline
from videores.evaluation.predictions import Predictions, read_predictions
from videores.inference.source import TrainedNetwork, resolve_source
from videores.reporting import figures
from videores.runtime.files import write_text
from videores.runtime.tables import format_csv

ROUNDS = 10  # turns, of which the times are the median


def write_pareto(sources: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """Compare tested runs and files: video accuracy against measured time.

    All score random clips in turns on this machine, as their tests do, without reading videos. Writes pareto.csv,
    pareto.png and pareto.svg; returns a row for each, in order.

    Raises:
        UserError: if one was not tested, or tested on other videos than the first.
    """
    tests = [read_predictions(f"{source}.results" if source.is_file() else source) for source in sources]
    _check_same_videos(tests)
    runs = {str(source): _make_run(resolve_source(source)) for source in sources}
    seconds = time_interleaved(runs, ROUNDS)
    rows = [_make_row(source, p, 1e3 * seconds[str(source)]) for source, p in zip(sources, tests, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "pareto.csv", format_csv(rows))
    _plot_rows(folder / "pareto.png", rows)
    return rows


def _check_same_videos(tests: Sequence[Predictions]) -> None:
    first = set(tests[0].video.tolist())
    for p in tests[1:]:
        if set(p.video.tolist()) != first:
            raise UserError(
                f"{p.path} must be a test of the videos of {tests[0].path}: their accuracies cannot be compared"
            )


def _make_run(network: TrainedNetwork):
    """Return a function that scores one clip as a test does."""
    clips_BTHWC = streams.draw_noise(1, network.preprocessing)
    return torch.inference_mode()(
        partial(score_clips, network.model, clips_BTHWC, network.preprocessing, network.number_format)
    )


def _make_row(source, p, clip_ms):
    views = p.logits.shape[1] if p.views_V is None else p.views_V.mean()
    accuracy = offline.rescore(p, offline.select_fusion([p]))["video_top1"]
    name = f"{source.parent.name}/{source.name}" if source.is_file() else source.name
    return {
        "source": name,
        "video_top1": accuracy,
        "clip_ms": round(clip_ms, 3),
        "video_ms": round(clip_ms * float(views), 3),
        "protocol": p.protocol,
    }


def _plot_rows(path, rows):
    figure, axes = plt.subplots(figsize=(7, 4.8), layout="constrained")
    labels = plot_points(axes, [(row["video_ms"], row["video_top1"], None, row["source"]) for row in rows])
    axes.set(xlabel=f"ms a video, threads: {torch.get_num_threads()}", ylabel="video top-1 (%)")
    axes.grid(alpha=0.3)
    figure.supxlabel("filled: none is faster and as good", fontsize=9)
    figures.label_points(figure, {axes: labels})
    figures.save_figure(figure, path)


def plot_points(axes: Axes, points: Sequence[tuple[float, float, float | None, str]]) -> list[tuple[float, float, str]]:
    """Plot points (cost, accuracy, deviation, name); return (x, y, name) as drawn.

    One that none beats in both is filled. Accuracies are in percent; deviations that are not None become error bars.
    """
    best = figures.find_pareto_front([(cost, -accuracy) for cost, accuracy, _, _ in points])
    costs = [cost for cost, *_ in points]
    logarithmic = max(costs) > 3 * min(costs)
    axes.set(xscale="log" if logarithmic else "linear")
    axes.margins(x=0.25, y=0.15)  # for the names
    places = move_apart([(math.log(cost) if logarithmic else cost, y, sd or 0) for cost, y, sd, _ in points])
    xs = [math.exp(x) for x in places] if logarithmic else places
    for i, (x, (_, y, sd, _)) in enumerate(zip(xs, points, strict=True)):
        face = "tab:blue" if i in best else "white"
        bar = None if sd is None else [[min(sd, y)], [min(sd, 100 - y)]]  # of percents
        axes.errorbar(x, y, bar, fmt="o", color="tab:blue", markerfacecolor=face, markersize=5, linewidth=0.8)
    axes.set_ylim(top=min(axes.get_ylim()[1], 105))
    if logarithmic:
        figures.label_log_axis(axes.xaxis)
    else:
        axes.locator_params(axis="x", nbins=5)
    return [(x, y, name) for x, (_, y, _, name) in zip(xs, points, strict=True)]


def move_apart(points: Sequence[tuple[float, float, float]]) -> list[float]:
    """Return the x of points (x, y, deviation), moved apart where bars would overlap."""
    xs, ys, _ = zip(*points, strict=True)
    step, gap = 0.025 * (max(xs) - min(xs) or 0.1 * abs(xs[0])), 0.03 * (max(ys) - min(ys))
    found: dict[int, float] = {}
    for i in sorted(range(len(points)), key=lambda i: points[i]):
        x, y, sd = points[i]
        beside = [found[j] for j in found if abs(y - points[j][1]) <= sd + points[j][2] + gap]
        places = (x + sign * k * step / 3 for k in itertools.count() for sign in (1, -1))
        found[i] = next(place for place in places if all(abs(place - other) >= step for other in beside))
    return [found[i] for i in range(len(points))]
