"""Plot the classes of a video over time."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from videores.inference.segments import Curve, Segment
from videores.reporting import figures

MAX_LINES = 8  # classes that have a line: those that are ever the highest


def plot_timeline(path: Path, curve: Curve, segments: Sequence[Segment], classes: Sequence[str], title: str) -> None:
    """Plot the probabilities of windows over time, with the segments below."""
    scores_TN = np.stack([*curve.scores, *(scores for _, scores in curve.waiting[:1] if not curve.scores)])
    times = curve.times or [curve.waiting[0][0]]
    shown = np.argsort(-scores_TN.max(0), kind="stable")[:MAX_LINES]
    named = dict(zip(classes, figures.label_classes(classes), strict=True))
    colors = {classes[n]: f"C{place}" for place, n in enumerate(shown)}
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 4.2), sharex=True, height_ratios=(5, 1), layout="constrained"
    )
    for n in shown:
        label = figures.escape_text(figures.shorten_text(named[classes[n]], 30))
        marker = "." if len(times) < 60 else None
        above.plot(times, scores_TN[:, n], color=colors[classes[n]], label=label, marker=marker, linewidth=1)
    above.set(ylabel="probability of windows", ylim=(-0.02, 1.02))
    above.grid(alpha=0.3)
    figures.add_legend(above, columns=4)
    for s in segments:
        color = "lightgray" if s.label is None else colors.get(s.label, "dimgray")
        below.axvspan(s.start, s.end, color=color, linewidth=0)
    wide = segments[-1].end - segments[0].start
    for s in segments:
        if (s.end - s.start) > 0.06 * wide:
            text = figures.escape_text(figures.shorten_text("nothing" if s.label is None else named[s.label], 18))
            below.text((s.start + s.end) / 2, 0.5, text, ha="center", va="center", fontsize=8)
    below.set(xlabel="seconds", yticks=[], ylim=(0, 1), xlim=(segments[0].start, segments[-1].end))
    above.set_title(figures.wrap_title(title, 9), fontsize=11)
    figures.save_figure(figure, path)
