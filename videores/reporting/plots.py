"""Plot a run's curves, confusion matrix, view sweep and comparison from its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from videores.runtime.files import write_text
from videores.runtime.tables import format_csv
from videores.training.callbacks.metrics_log import read_metrics_log

matplotlib.use("Agg")

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
        figure = build_curves(rows)
        figure.savefig(path or folder / "curves.png", dpi=110)
        plt.close(figure)


def build_curves(rows):
    """Return a figure with a panel for everything that was logged, at most four side by side."""
    panels = _group_panels(list(dict.fromkeys(name for row in rows for name in row)))
    wide = min(4, len(panels))
    high = -(-len(panels) // wide)
    figure, axes = plt.subplots(high, wide, figsize=(5 * wide, 4.2 * high), layout="constrained", squeeze=False)
    for axis, (title, names) in zip(axes.flat[: len(panels)], panels.items(), strict=True):
        _plot_panel(axis, rows, names, title)
        if title == WATCHED["grad_norm/"]:
            axis.set_yscale("log")
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
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def plot_confusion(
    path: Path, counts_NN: np.ndarray, classes: Sequence[str], title: str, max_inches: float = 30
) -> None:
    """Plot a confusion matrix, at most `max_inches` high.

    Rows are true classes in shares of their videos; small tables carry the counts.
    """
    shares_NN = counts_NN / np.maximum(counts_NN.sum(1, keepdims=True), 1)
    size = min(4 + 0.28 * len(classes), max_inches)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="compressed")
    image = axes.imshow(shares_NN, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, fraction=0.04, label="share of the true class")
    ticks, names = range(len(classes)), [escape_text(name) for name in classes]
    font = min(9, 48 * size / len(classes))  # as high as a row
    if font >= 3:  # legible
        axes.set_xticks(ticks, names, rotation=90, fontsize=font)
        axes.set_yticks(ticks, names, fontsize=font)
    axes.set(title=escape_text(title), xlabel="predicted", ylabel="true")
    if len(classes) <= 30:
        for (row, column), count in np.ndenumerate(counts_NN):
            if count:
                color = "white" if shares_NN[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, dpi=110 if size > 12 else 150)
    plt.close(figure)


def plot_sweep(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Plot video accuracy against the number of views, a line for each number of crops.

    `rows` are those of `offline.sweep_views`; bands are 95 % intervals.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for crops in dict.fromkeys(row["crops"] for row in rows):
        line = [row for row in rows if row["crops"] == crops]
        views, top1 = [row["views"] for row in line], [row["video_top1"] for row in line]
        (curve,) = axes.plot(views, top1, label=f"{crops} crop{'s' * (str(crops) != '1')} a clip", linewidth=1)
        axes.fill_between(views, [row["low"] for row in line], [row["high"] for row in line], alpha=0.12)
        for row in line:
            face = curve.get_color() if row["a_protocol"] else "white"
            axes.plot(row["views"], row["video_top1"], "o", color=curve.get_color(), markerfacecolor=face, markersize=5)
    axes.set(title=escape_text(title), xlabel="views of a video (clips x crops)", ylabel="video top-1 (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(title="hollow: clips chosen from more" if not all(row["a_protocol"] for row in rows) else None)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_differences(path: Path, rows: Sequence[Mapping[str, Any]], title: str, most: int = 60) -> None:
    """Plot the classes' differences in points as bars; of many classes those that differ most."""
    rows = sorted(sorted(rows, key=lambda row: -abs(row["difference"]))[:most], key=lambda row: row["difference"])
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.22 * len(rows)), layout="constrained")
    colors = ["tab:blue" if row["difference"] > 0 else "tab:red" for row in rows]
    axes.barh(
        [escape_text(row["class"]) for row in rows], [row["difference"] for row in rows], color=colors, height=0.7
    )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title=escape_text(title), xlabel="difference in top-1 (points)")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def escape_text(text: str) -> str:
    """Escape dollar signs, between which matplotlib would read a formula."""
    return text.replace("$", r"\$")


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (x, y) that no other beats, by rising x.

    Lower is better in both; equal points do not beat each other.
    """
    beats = lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b
    best = [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]
    return sorted(best, key=lambda i: points[i])
