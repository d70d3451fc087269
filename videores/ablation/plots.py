"""Plot curves.png and pareto.png of a table from the collected cells."""

import itertools
import statistics

import matplotlib
import matplotlib.pyplot as plt

from videores.ablation.columns import COLUMNS
from videores.reporting.plots import escape_text, find_pareto_front

matplotlib.use("Agg")

PANELS = {"train/loss": "training loss", "val/video_top1": "validation video top-1 (%)"}


def plot_curves(path, rows):
    """Training loss and validation accuracy against the step: a line a row, the mean over its seeds. Returns whether
    there were any."""
    trained = {row: [c["curves"] for c in cells if c.get("curves")] for row, cells in rows.items()}
    trained = {row: curves for row, curves in trained.items() if curves}
    if not trained:
        return False
    figure, panels = plt.subplots(1, len(PANELS), figsize=(13, max(4.5, 0.2 * len(trained))), layout="constrained")
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        for look, (row, curves) in zip(itertools.cycle(line_styles()), trained.items(), strict=False):
            plot_row(axes, row, [c[name] for c in curves if c.get(name)], look)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    panels[0].set(yscale="log")  # losses of distillation are far above the others
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, fontsize=7, loc="outside right upper")
    _save_figure(figure, path)
    return True


def line_styles():
    """Yield different styles for 40 rows.

    They are dark colors, dashed from the eleventh row on, then light ones.
    """
    colours = plt.get_cmap("tab20").colors
    return [{"color": c, "linestyle": s} for shade in (0, 1) for s in ("-", "--") for c in colours[shade::2]]


def plot_row(axes, row, curves, look):
    seeds = [dict(points) for points in curves]
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    means = [statistics.fmean(seed[step] for seed in seeds) for step in steps]
    axes.plot(steps, means, **look, label=escape_text(row), marker="." if len(steps) == 1 else None)


def plot_pareto(path, summaries, costs):
    """Video accuracy against each cost, a row of panels for each set of test videos; filled where no other row is at
    least as accurate and cheaper. Returns whether there was anything to draw."""
    known = lambda row, name: row["numbers"].get(name, (None,))[0]
    rows = [row for row in summaries if known(row, "video") is not None]
    costs = [cost for cost in costs if sum(known(row, cost) is not None for row in rows) > 1]
    if not costs:
        return False
    tests = list(dict.fromkeys(_count_protocol_videos(row["protocol"]) for row in rows))
    size = dict(figsize=(6 * len(costs), 4.8 * len(tests)), layout="constrained", squeeze=False)
    figure, panels = plt.subplots(len(tests), len(costs), **size)
    for line, test in zip(panels, tests, strict=True):
        for axes, cost in zip(line, costs, strict=True):
            unit = COLUMNS[cost].unit
            tested = [row for row in rows if _count_protocol_videos(row["protocol"]) == test and known(row, cost)]
            if tested:
                _plot_points(axes, [(known(row, cost) / unit, known(row, "video"), row["row"]) for row in tested])
            axes.set(title=test, xlabel=COLUMNS[cost].heading, ylabel="video top-1 (%)")
            axes.grid(alpha=0.3)
    _save_figure(figure, path)
    return True


def _count_protocol_videos(protocol):
    """Return the part of a protocol that names the videos and what was done to them.

    Accuracies are compared within it.
    """
    return protocol.split(" ", 3)[3]


def _plot_points(axes, points):
    best = find_pareto_front([(cost, -accuracy) for cost, accuracy, _ in points])
    costs = [cost for cost, _, _ in points]
    axes.set(xscale="log" if max(costs) > 3 * min(costs) else "linear")
    axes.margins(x=0.3, y=0.08)  # for the names, to the right of the points
    for i, (x, y, name) in enumerate(points):
        axes.plot(x, y, "o", color="tab:blue", markerfacecolor="tab:blue" if i in best else "white")
        axes.annotate(escape_text(name), (x, y), fontsize=7, xytext=(4, 3), textcoords="offset points")


def _save_figure(figure, path):
    figure.savefig(path, dpi=110)
    plt.close(figure)
