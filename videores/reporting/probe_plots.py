"""Plot and print what probes of a run found."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from videores.reporting import figures

Found = Mapping[str, Any]  # the content of <part>.json


def _plot_orders(path, found):
    """Plot what each order of frames loses, as bars with their intervals."""
    rows = found["orders"]
    figure, axes = plt.subplots(figsize=(7, 1.6 + 0.42 * len(rows)), layout="constrained")
    values, limits = [row["difference"] for row in rows], np.array([row["ci95_difference"] for row in rows])
    axes.barh(range(len(rows)), values, xerr=abs(limits.T - values), color="tab:blue", height=0.6, capsize=3)
    axes.set_yticks(range(len(rows)), [f"{row['order']}: {row['video_top1']:.1f} %" for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel="change of video top-1 (points, 95 % interval)")
    _finish(figure, axes, path, found)


def _plot_corruptions(path, found):
    """Plot the accuracy against the severity, a line for each corruption."""
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for name in found["by_corruption"]:
        line = [row for row in found["corruptions"] if row["corruption"] == name]
        axes.plot(
            [row["severity"] for row in line], [row["video_top1"] for row in line], "o-", label=name, markersize=4
        )
    axes.axhline(100 - found["normal_error"], color="black", linestyle=":", label="normal frames")
    axes.set(xlabel="severity", ylabel="video top-1 (%)", ylim=(0, 100))
    axes.set_xticks(sorted({row["severity"] for row in found["corruptions"]}))
    figures.add_legend(axes, columns=3)
    _finish(figure, axes, path, found)


def _plot_responses(path, found):
    """Plot the standard deviations of branches and shortcuts against the depth."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    blocks = found["blocks"]
    for what in ("branch", "shortcut"):
        axes.plot(range(1, len(blocks) + 1), [block[what] for block in blocks], "o-", label=what, markersize=4)
    axes.set(ylabel="standard deviation", ylim=(0, None))
    axes.set_xticks(range(1, len(blocks) + 1), [block["block"] for block in blocks], rotation=90, fontsize=8)
    axes.legend(fontsize=9)
    _finish(figure, axes, path, found)


def _plot_maps(path, found):
    """Plot the checks of each method: curves, similarity in the cascade, pointing game."""
    methods = found["methods"]
    figure, all_axes = plt.subplots(
        len(methods), 4, figsize=(14, 0.6 + 3.1 * len(methods)), layout="constrained", squeeze=False
    )
    for (name, checks), axes in zip(methods.items(), all_axes, strict=True):
        for axis, what in zip(axes, ("deletion", "insertion"), strict=False):
            _draw_curves(axis, checks[what]["curves"])
            axis.set(title=f"{name}: {what} ({checks['fill']})", xlabel="% of places", ylabel="% for the class")
        _draw_cascade(axes[2], checks["cascade"])
        _draw_pointing(axes[3], checks["pointing"])
    figure.suptitle(figures.wrap_title(found["protocol"], 12), fontsize=11)
    figures.save_figure(figure, path)


def _draw_curves(axes, curves):
    for order, style in (("map", "-"), ("random", ":"), ("center", "--")):
        axes.plot(np.linspace(0, 100, len(curves[order])), curves[order], style, label=order)
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _draw_cascade(axes, cascade):
    steps = cascade["steps"]
    values = [np.nan if step["spearman"] is None else step["spearman"] for step in steps]
    axes.plot(range(len(steps)), values, "o-", label="maps")
    axes.plot(range(len(steps)), [step["edges"] for step in steps], "s:", label="edges (control)")
    if cascade["other_videos"]["spearman"] is not None:
        axes.axhline(cascade["other_videos"]["spearman"], color="gray", linestyle="--", label="other videos")
    axes.set_xticks(range(len(steps)), [step["part"] for step in steps], rotation=45, fontsize=8)
    axes.set(title="random from the end to", ylabel="Spearman to the trained", ylim=(-0.5, 1.05))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _draw_pointing(axes, pointing):
    if pointing is None:
        axes.text(0.5, 0.5, "places not known", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    names, place = list(pointing["hit"]), np.arange(len(pointing["hit"]))
    for shift, what in ((-0.2, "hit"), (0.2, "energy")):
        axes.bar(place + shift, [pointing[what][name] for name in names], width=0.38, label=what)
    axes.axhline(pointing["uniform"], color="black", linestyle=":", label="uniform")
    axes.set_xticks(place, names, rotation=20, fontsize=8)
    axes.set(title="pointing game", ylabel="% on the object")
    axes.legend(fontsize=8)


def _finish(figure, axes, path, found):
    axes.set_title(figures.wrap_title(found["protocol"], 6), fontsize=11)
    axes.grid(alpha=0.3)
    figures.save_figure(figure, path)


# The screen


def _format_orders(found) -> Iterator[str]:
    yield "frames       video top-1  change (95 % interval)"
    for row in found["orders"]:
        yield f"{row['order']:12s} {row['video_top1']:11.2f}  {_format_interval(row, 'difference')}"
    if found["partner"]:
        share, (low, high) = found["partner"]["share"], found["partner"]["ci95"]
        yield f"partner      {share:11.2f} % of reversed videos get the class of the reversal ({low:.2f} to {high:.2f})"


def _format_corruptions(found) -> Iterator[str]:
    severities = sorted({row["severity"] for row in found["corruptions"]})
    yield "corruption   error  video top-1 at severity " + "".join(f"{severity:>7d}" for severity in severities)
    for name, error in found["by_corruption"].items():
        line = [row["video_top1"] for row in found["corruptions"] if row["corruption"] == name]
        yield f"{name:12s} {error:5.2f}  {'':24s}" + "".join(f"{value:7.2f}" for value in line)
    yield f"mean corruption error {_format_interval(found, 'mean_error', '')}, not divided by AlexNet's"
    yield f"above the error of {found['normal_error']:.2f} on normal frames: {_format_interval(found, 'relative')}"


def _format_responses(found) -> Iterator[str]:
    yield "block          branch  shortcut  ratio (standard deviations)"
    for block in found["blocks"]:
        ratio = "" if block["ratio"] is None else f"{block['ratio']:7.3f}"
        yield f"{block['block']:13s} {block['branch']:7.3f}   {block['shortcut']:7.3f}{ratio}"


def _format_maps(found) -> Iterator[str]:
    for name, checks in found["methods"].items():
        empty = f", {checks['constant']} of them constant" if checks["constant"] else ""
        yield f"{name}: maps of {' x '.join(map(str, checks['resolution']))} of {checks['videos']} videos{empty}"
        for what, good in (("deletion", -1), ("insertion", 1)):
            one = checks[what]
            for other in ("random", "center"):
                passed = good * one[f"ci95_above_{other}"][0 if good > 0 else 1] > 0
                yield (
                    f"  {what:9s} {one['area']['map']:6.2f} against {other:6s} {one['area'][other]:6.2f}: "
                    f"{_format_interval(one, f'above_{other}')}{'' if passed else ': NOT BETTER'}"
                )
        yield f"  cascade   Spearman {_format_steps(checks['cascade'])}"
        if checks["pointing"]:
            yield from _format_pointing(checks["pointing"])


def _format_pointing(pointing):
    for what, other in product(("hit", "energy"), ("random", "difference", "center")):
        interval = _format_interval(pointing, f"{what}_above_{other}")
        passed = pointing[f"ci95_{what}_above_{other}"][0] > 0
        values = f"{pointing[what]['trained']:6.2f} against {other:10s} {pointing[what][other]:6.2f}"
        yield f"  {what:9s} {values}: {interval}{'' if passed else ': NOT BETTER'}"


def _format_steps(cascade):
    number = lambda row: "constant" if row["spearman"] is None else f"{row['spearman']:.2f}"
    steps = ", ".join(f"{step['part']} {number(step)}" for step in cascade["steps"])
    return f"{steps}; maps of other videos {number(cascade['other_videos'])}; edges {cascade['steps'][-1]['edges']:.2f}"


def _format_interval(found, key, sign="+"):
    low, high = found[f"ci95_{key}"]
    return f"{found[key]:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


PLOTS: dict[str, Callable[[Path, Found], None]] = {
    "orders": _plot_orders,
    "corruptions": _plot_corruptions,
    "responses": _plot_responses,
    "maps": _plot_maps,
}
FORMATS: dict[str, Callable[[Found], Iterator[str]]] = {
    "orders": _format_orders,
    "corruptions": _format_corruptions,
    "responses": _format_responses,
    "maps": _format_maps,
}
