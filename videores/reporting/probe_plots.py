"""Plot and print what probes of a run found."""

from collections.abc import Callable, Iterator, Mapping
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
        axes.plot([row["severity"] for row in line], [row["video_top1"] for row in line], "o-", label=name, markersize=4)
    axes.axhline(100 - found["normal_error"], color="black", linestyle=":", label="normal frames")
    axes.set(xlabel="severity", ylabel="video top-1 (%)", ylim=(0, 100))
    axes.set_xticks(sorted({row["severity"] for row in found["corruptions"]}))
    figures.add_legend(axes, columns=3)
    _finish(figure, axes, path, found)


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


def _format_interval(found, key, sign="+"):
    low, high = found[f"ci95_{key}"]
    return f"{found[key]:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


PLOTS: dict[str, Callable[[Path, Found], None]] = {"orders": _plot_orders, "corruptions": _plot_corruptions}
FORMATS: dict[str, Callable[[Found], Iterator[str]]] = {"orders": _format_orders, "corruptions": _format_corruptions}
