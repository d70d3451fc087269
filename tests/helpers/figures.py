"""What a reader of a figure would see: its texts, which may neither leave it nor lie on each other."""

import itertools

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from videores.reporting import figures


def record_figures(monkeypatch):
    """The list to which each figure goes that is to be saved."""
    saved = []

    def save(figure, path, dpi=110):
        saved.append(figure)
        plt.close(figure)
        FigureCanvasAgg(figure)  # so that it can still be drawn

    monkeypatch.setattr(figures, "save_figure", save)
    return saved


def text_boxes(figure):
    """(text, box) of everything that is written, without the ticks beyond the ends of an axis."""
    figure.canvas.draw()
    beyond = set()
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), Text.get_window_extent(text)) for text in texts if text not in beyond]


def assert_legible(figure):
    boxes = text_boxes(figure)
    frame = figure.bbox.padded(0.5)
    outside = [text for text, box in boxes if not (frame.contains(*box.p0) and frame.contains(*box.p1))]
    pairs = itertools.combinations([(text, box.padded(-0.5)) for text, box in boxes], 2)
    together = [(a, b) for (a, one), (b, other) in pairs if one.overlaps(other)]
    assert (outside, together) == ([], []), (outside, together)
