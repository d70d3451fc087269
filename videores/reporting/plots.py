"""Plot a run's curves, confusion matrix, view sweep and comparison from its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from videores.reporting import figures
from videores.runtime.files import write_text
from videores.runtime.tables import format_csv
from videores.training.callbacks.metrics_log import read_metrics_log

CURVES = {  # title -> logged name -> label
    "loss": {
        "train/loss": "training batches",
        "train_eval/loss": "training clips as in validation",
        "val/loss": "validation clips",
    },
    "top-1 (%)": {
        "train/top1": "training batches",
        "val/clip_top1": "validation clips",
        "train_eval/video_top1": "training videos as in validation",
        "val/video_top1": "validation videos",
    },
    "gap in video top-1 (points)": {"gap/video_top1": "training minus validation videos"},
    "learning rate": {"lr": "learning rate"},
}
WATCHED = {  # prefix of logged names -> title; a line for each part of the network
    "grad_norm/": "norm of the gradient",
    "activation_mean/": "mean of activations",
    "activation_std/": "standard deviation of activations",
    "activation_zeros/": "share of activations that are 0",
}


def plot_curves(folder: Path, path: Path | None = None) -> None:
    """Plot what a run logged against the step, as curves.png or `path`."""
    rows = read_metrics_log(folder / "metrics.jsonl")
    if rows:
        figures.save_figure(build_curves(rows), path or folder / "curves.png")


def build_curves(rows):
    """Return a figure with a panel for everything that was logged, two side by side."""
    panels = _group_panels(list(dict.fromkeys(name for row in rows for name in row)))
    wide = min(2, len(panels))
    high = -(-len(panels) // wide)
    figure, axes = plt.subplots(high, wide, figsize=(4.7 * wide, 3.8 * high), layout="constrained", squeeze=False)
    for axis, (title, names) in zip(axes.flat[: len(panels)], panels.items(), strict=True):
        _plot_panel(axis, rows, names, title)
        if title == WATCHED["grad_norm/"]:
            axis.set_yscale("log")
            figures.label_log_axis(axis.yaxis)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    return figure


def _group_panels(logged):
    """Return {title: {logged name: label}} of what was logged."""
    panels = {title: names for title, names in CURVES.items() if set(logged) & set(names)}
    for start, title in WATCHED.items():
        names = {name: name.removeprefix(start) for name in logged if name.startswith(start)}
        panels |= {title: names} if names else {}
    return panels or {"loss": CURVES["loss"]}


def write_metrics_csv(folder: Path) -> Path:
    """Write the rows of metrics.jsonl as metrics.csv and return its path."""
    path = folder / "metrics.csv"
    write_text(path, format_csv(read_metrics_log(folder / "metrics.jsonl")))
    return path


def _plot_panel(axes, rows, names, title):
    for name, label in names.items():
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 40 else None, linewidth=1)
    axes.set(title=title, xlabel="step")
    axes.locator_params(axis="x", nbins=6)
    axes.grid(alpha=0.3)
    if axes.lines and list(names.values()) != [title]:
        figures.add_legend(axes, columns=2 if len(names) < 5 else 3)


def plot_confusion(
    path: Path, counts_NN: np.ndarray, classes: Sequence[str], title: str, max_inches: float = 30
) -> None:
    """Plot a confusion matrix, at most `max_inches` high.

    Rows are true classes in shares of their videos; small tables carry the counts. Classes have numbers where
    `figures.label_classes` finds no font for their names.
    """
    shares_NN = counts_NN / np.maximum(counts_NN.sum(1, keepdims=True), 1)
    size = min(4 + 0.28 * len(classes), max_inches)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="compressed")
    image = axes.imshow(shares_NN, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, fraction=0.04, label="share of the true class")
    names = [figures.shorten_text(name, min(40, int(4 * size))) for name in figures.label_classes(classes)]
    font = (72 * size - 70) / (1.2 * len(names) + 0.6 * max(map(len, names)))  # as high as a row of what names leave
    number = " (number of the class)" if names[0] == "1" != classes[0] else ""
    if font >= 3:  # legible
        texts = [figures.escape_text(name) for name in names]
        axes.set_xticks(range(len(texts)), texts, rotation=90, fontsize=min(9, font))
        axes.set_yticks(range(len(texts)), texts, fontsize=min(9, font))
    axes.set_title(figures.wrap_title(title, size), fontsize=11)
    axes.set(xlabel=f"predicted{number}", ylabel=f"true{number}")
    if len(classes) <= 30:
        font = min(8, 0.6 * size * 72 / len(classes) / (0.65 * len(str(counts_NN.max()))))  # as wide as a column
        for (row, column), count in np.ndenumerate(counts_NN):
            if count:
                color = "white" if shares_NN[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, fontsize=font)
    figures.save_figure(figure, path, dpi=110 if size > 12 else 150)


def plot_sweep(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Plot video accuracy against the number of views, a line for each number of crops.

    `rows` are those of `offline.sweep_views`; bands are 95 % intervals.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for crops in dict.fromkeys(row["crops"] for row in rows):
        line = [row for row in rows if row["crops"] == crops]
        views, top1 = [row["views"] for row in line], [row["video_top1"] for row in line]
        (curve,) = axes.plot(views, top1, label=f"{crops} crop{'s' * (str(crops) != '1')} a clip", linewidth=1)
        axes.fill_between(views, [row["low"] for row in line], [row["high"] for row in line], alpha=0.12)
        for row in line:
            face = curve.get_color() if row["a_protocol"] else "white"
            axes.plot(row["views"], row["video_top1"], "o", color=curve.get_color(), markerfacecolor=face, markersize=5)
    axes.set_title(figures.wrap_title(title, 6.5), fontsize=11)
    axes.set(xlabel="views of a video (clips x crops)", ylabel="video top-1 (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    hollow = "" if all(row["a_protocol"] for row in rows) else "; hollow: clips chosen from more"
    figures.add_legend(axes, columns=3, title=f"bands: 95 % interval{hollow}")
    figures.save_figure(figure, path)


def plot_differences(path: Path, rows: Sequence[Mapping[str, Any]], title: str, most: int = 60) -> None:
    """Plot the classes' differences in points as bars; of many classes those that differ most.

    Where no font has the names, their numbers are those of `rows`, from 1 on.
    """
    classes = [row["class"] for row in rows]
    names = figures.label_classes(classes)
    bars = sorted(zip(rows, names, strict=True), key=lambda bar: -abs(bar[0]["difference"]))[:most]
    bars.sort(key=lambda bar: bar[0]["difference"])
    differences = [row["difference"] for row, _ in bars]
    figure, axes = plt.subplots(figsize=(7.5, 1.6 + 0.22 * len(bars)), layout="constrained")
    colors = ["tab:blue" if difference > 0 else "tab:red" for difference in differences]
    axes.barh(range(len(bars)), differences, color=colors, height=0.7)
    texts = [figures.escape_text(figures.shorten_text(name, 40)) for _, name in bars]
    axes.set_yticks(range(len(bars)), texts, fontsize=8)
    axes.margins(y=1 / (len(bars) + 1))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(figures.wrap_title(title, 5), fontsize=11)
    axes.set(xlabel="difference in top-1 (points)", ylabel="" if names == classes else "row of classes.csv")
    axes.grid(axis="x", alpha=0.3)
    figures.save_figure(figure, path)
