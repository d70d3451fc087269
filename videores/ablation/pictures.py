"""curves.png and pareto.png of a table, from the collected cells alone."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from videores.ablation.columns import COLUMNS
from videores.reports import plain

PANELS = {"train/loss": "training loss", "val/video_top1": "validation video top-1 (%)"}


def draw_curves(path, rows):
    """Training loss and validation accuracy against the step, a colour a row, a line a seed. Returns whether there
    were any."""
    trained = {row: [c for c in cells if c.get("curves")] for row, cells in rows.items()}
    trained = {row: cells for row, cells in trained.items() if cells}
    if not trained:
        return False
    figure, panels = plt.subplots(1, len(PANELS), figsize=(13, 4.5), layout="constrained")
    colours = plt.get_cmap("tab20")(np.arange(len(trained)) % 20)
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        for colour, (row, cells) in zip(colours, trained.items(), strict=True):
            for number, cell in enumerate(cells):
                if points := cell["curves"].get(name):
                    axes.plot(
                        *zip(*points, strict=True), color=colour, linewidth=1, label=None if number else plain(row)
                    )
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    panels[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    save(figure, path)
    return True


def draw_pareto(path, summaries, costs):
    """Video accuracy against each cost; filled where no other row is at least as accurate and cheaper. Returns whether
    there was anything to draw."""
    known = lambda row, name: row["numbers"].get(name, (None,))[0]
    rows = [row for row in summaries if known(row, "video") is not None]
    costs = [cost for cost in costs if sum(known(row, cost) is not None for row in rows) > 1]
    if not costs:
        return False
    figure, panels = plt.subplots(1, len(costs), figsize=(6 * len(costs), 4.8), layout="constrained", squeeze=False)
    for axes, cost in zip(panels[0], costs, strict=True):
        column = COLUMNS[cost]
        points = [(known(row, cost) / column.unit, known(row, "video"), row["row"]) for row in rows if known(row, cost)]
        for x, y, name in points:
            best = name in front(points)
            axes.plot(x, y, "o", color="tab:blue", markerfacecolor="tab:blue" if best else "white")
            axes.annotate(plain(name), (x, y), fontsize=7, xytext=(4, 3), textcoords="offset points")
        axes.set(xlabel=column.heading, ylabel="video top-1 (%)", xscale="log")
        axes.grid(alpha=0.3)
    save(figure, path)
    return True


def front(points):
    """Names of the points (cost, accuracy, name) that no other beats: cheaper and as good, or better and as cheap."""
    beats = lambda a, b: a[0] <= b[0] and a[1] >= b[1] and a[:2] != b[:2]
    return {point[2] for point in points if not any(beats(other, point) for other in points)}


def save(figure, path):
    figure.savefig(path, dpi=110)
    plt.close(figure)
