"""Pictures of a run, from the files in its folder alone."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from videores.callbacks.history import read_history


def draw_curves(folder):
    """curves.png: loss and accuracy of training batches and of validation against the step."""
    rows = read_history(folder / "metrics.jsonl")
    if not rows:
        return
    figure, (left, right, rate) = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    plot(left, rows, {"train/loss": "training batches", "val/loss": "validation clips"}, "loss")
    accuracies = {
        "train/top1": "training batches",
        "val/clip_top1": "validation clips",
        "val/video_top1": "validation videos",
    }
    plot(right, rows, accuracies, "top-1 (%)")
    plot(rate, rows, {"lr": "learning rate"}, "learning rate")
    figure.savefig(folder / "curves.png", dpi=110)
    plt.close(figure)


def plot(axes, rows, names, title):
    for name, label in names.items():
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 40 else None, linewidth=1)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def draw_confusion(path, counts_NN, classes, title):
    """Rows are true classes in shares of their videos; small tables carry the counts."""
    shares_NN = counts_NN / np.maximum(counts_NN.sum(1, keepdims=True), 1)
    size = min(4 + 0.28 * len(classes), 30)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="constrained")
    figure.colorbar(
        axes.imshow(shares_NN, cmap="Blues", vmin=0, vmax=1), ax=axes, shrink=0.8, label="share of the true class"
    )
    ticks, classes = range(len(classes)), [name.replace("$", r"\$") for name in classes]  # no formulas
    axes.set_xticks(ticks, classes, rotation=90, fontsize=7 if len(classes) > 30 else 9)
    axes.set_yticks(ticks, classes, fontsize=7 if len(classes) > 30 else 9)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    if len(classes) <= 30:
        for (row, column), count in np.ndenumerate(counts_NN):
            if count:
                colour = "white" if shares_NN[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
