"""Save figures as PNG and SVG, with fonts, labels and legends that are legible and hide nothing."""

import functools
import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from videores.runtime.files import write_atomically

matplotlib.use("Agg")

LABEL_STYLE = dict(textcoords="offset points", fontsize=8, ha="center", va="center")  # of names beside points
LEADER_STYLE = dict(arrowstyle="-", color="0.5", linewidth=0.6, shrinkA=0, shrinkB=2)
DISTANCES = (5, 10, 15, 20, 26, *range(34, 300, 10))  # points, of names from their points
LEADER_DISTANCE = 10  # from here on a line joins name and point
SHAPES_TEXT = tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11)  # joins and turns Arabic letters


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Save a figure as `path`, a PNG, and as SVG beside it; close it.

    Equal figures give equal bytes. Text stays text in the SVG, so that a browser or an editor chooses its font.
    """
    _choose_fonts(figure)
    files = {path: {"Software": None}, path.with_suffix(".svg"): {"Creator": None, "Date": None}}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "videores"}), _ignore_missing_glyphs():
        for file, metadata in files.items():
            with write_atomically(file) as temporary:
                figure.savefig(temporary, dpi=dpi, metadata=metadata)
    plt.close(figure)


@contextmanager
def _ignore_missing_glyphs():
    """Let other texts than names of classes have squares, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


# Text


def escape_text(text: str) -> str:
    """Escape dollar signs, between which matplotlib would read a formula."""
    return text.replace("$", r"\$")


def wrap_title(text: str, inches: float, size: float = 11) -> str:
    """Break a title into lines that fit into a width."""
    return escape_text(textwrap.fill(text, int(inches * 72 / (0.6 * size))))


def shorten_text(text: str, length: int) -> str:
    """Replace the middle of a text by an ellipsis if it is longer than `length`."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"


def label_classes(names: Sequence[str]) -> list[str]:
    """Return the names of classes, or numbers from 1 on where no installed font has their characters."""
    missing = _find_fonts(names)[1]
    return [str(number) for number in range(1, len(names) + 1)] if missing else list(names)


def _choose_fonts(figure):
    """Let texts use the installed fonts that have the characters which the usual font lacks."""
    texts = figure.findobj(Text)
    families, _ = _find_fonts(text.get_text() for text in texts)
    for text in texts if len(families) > 1 else ():
        text.set_fontfamily(families)


def _find_fonts(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return font families for texts, the usual one first, and the characters that none has."""
    characters = {c for text in texts for c in text if c.isprintable() and not c.isspace()}
    unshaped = set() if SHAPES_TEXT else {c for c in characters if unicodedata.bidirectional(c) in ("R", "AL")}
    usual = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    families, missing = [usual.family_name], {c for c in characters if not usual.get_char_index(ord(c))}
    while found := _find_best_font(missing):
        families.append(found[0])
        missing -= found[1]
    return families, missing | unshaped


def _find_best_font(missing):
    """Return the family that has most of the characters, and those it has, or None."""
    if not missing:
        return None
    fonts = {
        font.name: {c for c in missing if ord(c) in _read_characters(font.fname)}
        for font in font_manager.fontManager.ttflist
        if font.style == "normal" and "Last Resort" not in font.name  # that has a square for every character
    }
    best = max(fonts, key=lambda name: len(fonts[name]))
    return (best, fonts[best]) if fonts[best] else None


@functools.cache
def _read_characters(path):
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):  # such as fonts of colored pictures
        return frozenset()


# Axes and legends


def label_log_axis(axis: Axis) -> None:
    """Write plain numbers at a logarithmic axis, as many as its range needs."""
    low, high = axis.get_view_interval()
    digits = (1,) if high > 1000 * low else (1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 4, 6, 8)
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def add_legend(axes: Axes, columns: int = 2, title: str | None = None) -> None:
    """Write the legend below the axes, where it hides nothing."""
    below = axes.transAxes + ScaledTranslation(0, -36 / 72, axes.figure.dpi_scale_trans)
    look = dict(title=title, fontsize=9, title_fontsize=9, frameon=False, borderaxespad=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=columns, **look)


# Names of points


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (x, y) that no other beats, by rising x.

    Lower is better in both; equal points do not beat each other.
    """
    beats = lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b
    best = [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]
    return sorted(best, key=lambda i: points[i])


def label_points(figure: Figure, panels: Mapping[Axes, Sequence[tuple[float, float, str]]]) -> None:
    """Write names beside points (x, y, name), where they hide nothing.

    Everything else must have been drawn: the layout of the figure is fixed here.
    """
    _choose_fonts(figure)
    with _ignore_missing_glyphs():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes, points in panels.items():
            _label_panel(axes, points)


def _label_panel(axes, points):
    """Place the names of crowded points first, each where it costs least; then again, now that the others are there.

    P points; C places of a name; S line segments; B boxes (left, bottom, right, top). All in pixels.
    """
    pixels = axes.figure.dpi / 72
    centers_P2 = axes.transData.transform([point[:2] for point in points])
    crowd_P = (np.linalg.norm(centers_P2[:, None] - centers_P2, axis=-1) < 50 * pixels).sum(1)
    texts = [axes.annotate(escape_text(name), (x, y), (0, 0), **LABEL_STYLE) for x, y, name in points]
    sizes_P2 = [text.get_window_extent().padded(3 * pixels, pixels).size for text in texts]
    frame_4 = axes.get_window_extent().padded(-2 * pixels).extents
    markers_P4 = np.hstack([centers_P2 - 3.5 * pixels, centers_P2 + 3.5 * pixels])
    lines_S22 = _find_lines(axes)
    names, leaders, offsets = {}, {}, {}
    for i in sorted(range(len(points)), key=lambda i: (-crowd_P[i], *-centers_P2[i])) * 3:
        if i in names and i not in leaders:
            continue  # it lies well
        names.pop(i, None), leaders.pop(i, None)
        distance_C, offset_C2 = _list_offsets(sizes_P2[i] / pixels, steep=not axes.containers)
        places_C2 = centers_P2[i] + offset_C2 * pixels
        boxes_C4 = np.hstack([places_C2 - sizes_P2[i] / 2, places_C2 + sizes_P2[i] / 2])
        leaders_C22 = np.stack([np.broadcast_to(centers_P2[i], places_C2.shape), places_C2], axis=1)
        names_B4 = np.array([*names.values()]).reshape(-1, 4)
        leaders_S22 = np.array([*leaders.values()]).reshape(-1, 2, 2)
        others_B4 = markers_P4[~_overlap(markers_P4, markers_P4[i : i + 1])[:, 0]]
        cost_C = 1e6 * ((boxes_C4[:, :2] < frame_4[:2]) | (boxes_C4[:, 2:] > frame_4[2:])).any(1)
        cost_C += 1e4 * _overlap(boxes_C4, np.concatenate([markers_P4, names_B4])).sum(1)
        cost_C += 300 * _meet(leaders_S22, boxes_C4).sum(0) + 60 * _meet(lines_S22, boxes_C4).sum(0)
        leader_cost_C = 300 * _meet(leaders_C22, names_B4).sum(1) + 60 * _meet(leaders_C22, others_B4).sum(1)
        leader_cost_C += 80 * _cross(leaders_C22, leaders_S22).sum(1) + 4 * _cross(leaders_C22, lines_S22).sum(1)
        best = np.argmin(cost_C + distance_C + leader_cost_C * (distance_C >= LEADER_DISTANCE))
        names[i], offsets[i] = boxes_C4[best], offset_C2[best]
        leaders |= {i: leaders_C22[best]} if distance_C[best] >= LEADER_DISTANCE else {}
    for i, text in enumerate(texts):
        text.remove()
        x, y, name = points[i]
        arrow = LEADER_STYLE if i in leaders else None
        axes.annotate(escape_text(name), (x, y), offsets[i], arrowprops=arrow, **LABEL_STYLE)


def _list_offsets(size, steep):
    """Return distances, and offsets of the center of a name from its point; of equal ones those to the right cost less.

    Where leader lines would run along error bars, none is `steep`.
    """
    distances, angles = np.meshgrid(DISTANCES, np.radians(np.arange(-170, 181, 10)), indexing="ij")
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    offsets = directions * distances[..., None] + np.clip(1.5 * directions, -1, 1) * size / 2
    allowed = steep | (distances < LEADER_DISTANCE) | (abs(directions[..., 0]) > 0.4)
    return (distances + abs(angles))[allowed], offsets[allowed]


def _find_lines(axes):
    """Return the segments of lines and error bars, segments_S22 in pixels."""
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    bars = [bars for bars in axes.collections if isinstance(bars, LineCollection)]
    lines += [axes.transData.transform_path(path) for one in bars for path in one.get_paths()]
    segments = [np.stack([line.vertices[:-1], line.vertices[1:]], axis=1) for line in lines]
    return np.concatenate([np.empty((0, 2, 2)), *segments])


def _overlap(a_A4, b_B4):
    """Return overlaps_AB of boxes."""
    low, high = np.maximum(a_A4[:, None, :2], b_B4[:, :2]), np.minimum(a_A4[:, None, 2:], b_B4[:, 2:])
    return (low < high).all(-1)


def _meet(segments_S22, boxes_B4):
    """Return meets_SB: whether a segment has a point within a box, by clipping it to the box."""
    start_S12, step_S12 = segments_S22[:, :1], np.diff(segments_S22, axis=1)
    step_S12 = np.where(step_S12 == 0, 1e-9, step_S12)
    ends_2SB2 = np.stack([(boxes_B4[:, :2] - start_S12) / step_S12, (boxes_B4[:, 2:] - start_S12) / step_S12])
    return np.maximum(ends_2SB2.min(0).max(-1), 0) <= np.minimum(ends_2SB2.max(0).min(-1), 1)


def _cross(a_S22, b_T22):
    """Return crossings_ST of segments; those that only touch do not cross."""
    turn = lambda p, q, r: np.sign(
        (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])
    )
    a, b, c, d = a_S22[:, None, 0], a_S22[:, None, 1], b_T22[None, :, 0], b_T22[None, :, 1]
    return (turn(a, b, c) * turn(a, b, d) < 0) & (turn(c, d, a) * turn(c, d, b) < 0)
