"""Plot an explanation: frames, the map over them, the map itself, and scores over time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from videores.explain.explanation import Explanation
from videores.explain.overlay import AGAINST, FOR, paint_heat, scale_heat, select_step
from videores.reporting import figures, probe_plots

COLUMNS = 8  # frames that are shown
COLORS = LinearSegmentedColormap.from_list("evidence", np.array([AGAINST, [255] * 3, FOR]) / 255)


def plot_explanation(path: Path, one: Explanation) -> None:
    """Plot the view of a video in which the class is most probable.

    The map itself has a panel for each of its steps in time, and its own pixels: what lies over the frames is
    interpolated in height and width. A zero map is not drawn.
    """
    view = one.shown
    map_THW, clip_THWC, frame_T = one.maps_VTHW[view], one.clips_VTHWC[view], one.frame_VT[view]
    shown = np.unique(np.linspace(0, len(frame_T) - 1, COLUMNS).round().astype(int))
    side = 9 / len(shown) * clip_THWC.shape[1] / clip_THWC.shape[2]
    heights = [side + 0.25, *([] if one.is_zero else [side + 0.05, side + 0.3]), 2.0]
    figure = plt.figure(figsize=(9.5, sum(heights) + 0.8), layout="constrained")
    figure.suptitle("\n".join(figures.wrap_title(line, 9.5) for line in _list_title_lines(one)), fontsize=11)
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    frames, *heat, scores = parts
    for axes, t in zip(frames.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _show_frame(axes, clip_THWC[t], f"frame {frame_T[t]}")
    if heat:
        for axes, t in zip(heat[0].subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            value_HW = scale_heat(select_step(map_THW, int(t), len(frame_T)) / one.full, clip_THWC.shape[1:3])
            _show_frame(axes, paint_heat(clip_THWC[t], value_HW), "")
        _plot_steps(heat[1], map_THW, one.full)
    profile, views = scores.subplots(1, 2)
    _plot_profile(profile, map_THW, frame_T, one.is_zero)
    _plot_views(views, one)
    figures.save_figure(figure, path)


def report_check(path: Path, found: Mapping[str, Any]) -> list[str]:
    """Plot what a check of maps found, and return it in lines."""
    probe_plots.PLOTS["maps"](path, found)
    return list(probe_plots.FORMATS["maps"](found))


def _list_title_lines(one):
    method = f"{one.method} of {one.layer}" if one.layer else one.method
    if one.is_zero:
        return [f"{one.video}: {one.answer}", f"{method}: the map is zero, nothing that it sees speaks for the class"]
    size = f"map {one.resolution} (time x height x width), full color {one.full:.2g}"
    return [f"{one.video}: {one.answer}", f"{method}, {size}"]


def _show_frame(axes, frame_HWC, title):
    axes.imshow(frame_HWC)
    axes.set_axis_off()
    axes.set_title(title, fontsize=8, pad=2)


def _plot_steps(figure, map_THW, full):
    """Plot steps of the map as they are: all of a few, else those of the frames that are shown."""
    shown = np.unique(np.linspace(0, len(map_THW) - 1, COLUMNS).round().astype(int))
    for axes, step in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axes.imshow(map_THW[step], cmap=COLORS, vmin=-full, vmax=full, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"step {step + 1} of {len(map_THW)}", fontsize=8, pad=2)


def _plot_profile(axes, map_THW, frame_T, is_zero):
    """Plot the mean of each step over the frames that it stands for."""
    frames = np.sort(frame_T)
    ends = np.append(frames, frames[-1] + max(1, frames[-1] - frames[-2]) if len(frames) > 1 else frames[-1] + 1)
    edges = ends[np.arange(len(map_THW) + 1) * len(frames) // len(map_THW)]
    axes.stairs(map_THW.mean((1, 2)) * (not is_zero), edges, color="C0", linewidth=1.5)
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="frame", ylabel="mean of the map")
    axes.set_title("The map over time", fontsize=9)


def _plot_views(axes, one):
    """Plot the probability of the class in each view over the frames of its clip."""
    shown = one.view_V[one.shown]
    for view, ((first, last), probability) in enumerate(zip(one.span_K2, one.probability_K, strict=True)):
        color, width, order = ("C0", 3, 3) if view == shown else ("0.6", 1.5, 2)
        axes.plot([first, last + (first == last)], [probability] * 2, color=color, linewidth=width, zorder=order)
    axes.set(xlabel="frame", ylabel="probability", ylim=(-0.03, 1.03))
    name = figures.escape_text(figures.shorten_text(one.name, 24))
    axes.set_title(f"{name} in each view of the test (blue: shown)", fontsize=9)
