"""Plot curves.png and pareto.png of a table from the collected cells."""

import math
import statistics

import matplotlib.pyplot as plt

from videores.ablation.columns import COLUMNS
from videores.reporting import figures
from videores.reporting.pareto import plot_points

PANELS = {"train/loss": "training loss", "val/video_top1": "validation video top-1 (%)"}
COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "black", "tab:cyan")  # of rows in a panel
DASHES = ("-", "--", ":")  # tell similar colors apart, also in grey


def plot_curves(path, rows):
    """Plot training loss and validation accuracy against the step.

    Each row has one line, the mean over its seeds, in a band from the lowest to the highest. As many rows as
    COLORS share a line of panels, in which the others with the same test videos are grey. Returns False if no row was
    trained.
    """
    trained = {row: [c["curves"] for c in cells if c.get("curves")] for row, cells in rows.items()}
    trained = {row: curves for row, curves in trained.items() if curves}
    if not trained:
        return False
    groups = _group_rows({row: _get_tested_videos(rows[row][0]["protocol"]) for row in trained})
    figure, lines = plt.subplots(len(groups), 2, figsize=(10, 3.1 * len(groups)), layout="constrained", squeeze=False)
    for panels, (tested, shown, others) in zip(lines, groups, strict=True):
        for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
            for row in others:
                axes.plot(*_compute_curve(trained[row], name)[:2], color="0.85", linewidth=0.8)
            for i, row in enumerate(shown):
                _plot_row(axes, row, _compute_curve(trained[row], name), COLORS[i], DASHES[i % len(DASHES)])
            axes.set_title(title, fontsize=11)
            axes.set(xlabel="step")
            axes.locator_params(axis="x", nbins=5)
            axes.grid(alpha=0.3)
        panels[0].set(yscale="log")  # losses of distillation are far above the others
        figures.label_log_axis(panels[0].yaxis)
        title = figures.wrap_title(f"tested on {tested}", 2.3, 9)
        place = dict(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False)
        panels[1].legend(**place, title=title, fontsize=9, title_fontsize=9, alignment="left", handlelength=2.5)
    notes = ["bands: lowest to highest seed"] if max(map(len, trained.values())) > 1 else []
    notes += ["grey: the other rows with these test videos"] if any(others for *_, others in groups) else []
    if notes:
        figure.supxlabel("; ".join(notes), fontsize=9)
    figures.save_figure(figure, path)
    return True


def _group_rows(tested):
    """Return (test videos, rows to show, other rows) for each line of panels, from {row: test videos}."""
    groups = []
    for videos in dict.fromkeys(tested.values()):
        same = [row for row in tested if tested[row] == videos]
        size = math.ceil(len(same) / math.ceil(len(same) / len(COLORS)))
        for shown in (same[i : i + size] for i in range(0, len(same), size)):
            groups.append((videos, shown, [row for row in same if row not in shown]))
    return groups


def _compute_curve(curves, name):
    """Return (steps, means, lowest, highest) over the seeds, at the steps that all have."""
    seeds = [dict(c[name]) for c in curves if c.get(name)]
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    values = [[seed[step] for seed in seeds] for step in steps]
    return steps, *([function(v) for v in values] for function in (statistics.fmean, min, max))


def _plot_row(axes, row, curve, color, dashes):
    steps, means, lowest, highest = curve
    marker = "." if len(steps) == 1 else None
    axes.plot(steps, means, color=color, linestyle=dashes, label=figures.escape_text(row), marker=marker, linewidth=1.4)
    axes.fill_between(steps, lowest, highest, color=color, alpha=0.12, linewidth=0)


def plot_pareto(path, summaries, costs):
    """Plot video accuracy against each cost.

    Each set of test videos has its panels. A point is filled if no other row is at least as accurate and cheaper.
    Returns False if there is nothing to plot.
    """
    known = lambda row, name: row["numbers"].get(name, (None,))[0]
    rows = [row for row in summaries if known(row, "video") is not None]
    costs = [cost for cost in costs if sum(known(row, cost) is not None for row in rows) > 1]
    if not costs:
        return False
    panels = {}
    for test in dict.fromkeys(_get_tested_videos(row["protocol"]) for row in rows):
        for cost in costs:
            tested = [row for row in rows if _get_tested_videos(row["protocol"]) == test and known(row, cost)]
            points = [(known(row, cost) / COLUMNS[cost].unit, *row["numbers"]["video"], row["row"]) for row in tested]
            panels |= {(test, cost): points} if points else {}
    wide = min(2, len(costs))
    high = -(-len(panels) // wide)
    size = (5 * wide, 4.4 * high) if wide > 1 else (7, 4.8 * high)
    figure, all_axes = plt.subplots(high, wide, figsize=size, layout="constrained", squeeze=False)
    labels = {}
    for axes, ((test, cost), points) in zip(all_axes.flat[: len(panels)], panels.items(), strict=True):
        labels[axes] = plot_points(axes, points)
        axes.set_title(figures.wrap_title(test, 4.5), fontsize=11)
        axes.set(xlabel=COLUMNS[cost].heading, ylabel="video top-1 (%)")
        axes.grid(alpha=0.3)
    for axes in all_axes.flat[len(panels) :]:
        axes.remove()
    spread = any(sd is not None for points in panels.values() for _, _, sd, _ in points)
    bars = "; bars: standard deviation over seeds" * spread
    note = f"filled: no row is cheaper and as good; rows on each other are moved apart{bars}"
    figure.supxlabel(figures.wrap_title(note, size[0], 9), fontsize=9)
    figures.label_points(figure, labels)
    figures.save_figure(figure, path)
    return True


def _get_tested_videos(protocol):
    """Return the part of a protocol that names the videos and their perturbation.

    Only accuracies with equal parts are compared.
    """
    return protocol.split(" ", 3)[3]


def plot_power(path, powers, wanted):
    """Plot the share of true differences that hold against the seeds of a row.

    `powers` has {panel: {difference: {seeds: share}}}; a line is drawn at the share that is `wanted`.
    """
    figure, panels = plt.subplots(1, len(powers), figsize=(10, 3.8), layout="constrained", sharey=True)
    for axes, (title, lines) in zip(panels, powers.items(), strict=True):
        for number, (difference, shares) in enumerate(lines.items()):
            label = f"{difference} points"
            style = dict(color=COLORS[number], linestyle=DASHES[number], marker=".")
            axes.plot([*shares], [*shares.values()], label=label, **style)
        axes.axhline(wanted, color="0.7", linewidth=0.8)
        axes.set_title(figures.wrap_title(title, 4.5), fontsize=11)
        axes.set(xlabel="seeds of a row", ylim=(0, 102))
        axes.grid(alpha=0.3)
        figures.add_legend(axes, columns=3, title="difference of the rows")
    panels[0].set(ylabel="claims that hold (%)")
    figures.save_figure(figure, path)
