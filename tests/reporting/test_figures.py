"""Names beside points, fonts, and the two files of a figure."""

import json
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers.damage import BROKEN_JSON
from helpers.figures import assert_legible, record_figures, text_boxes
from matplotlib import font_manager

from videores.reporting import figures, plots, results

CHINESE = ["跑步", "游泳", "走"]


@pytest.fixture
def few_fonts(monkeypatch):
    """No font but those of matplotlib, which have no Chinese."""
    shipped = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", shipped)


def draw_points(points):
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    axes.margins(0.2)
    for x, y, _ in points:
        axes.errorbar(x, y, 0.1, fmt="o", markersize=5)
    figures.label_points(figure, {axes: points})
    return figure, axes


@pytest.mark.parametrize("spread", [1, 0.05, 0], ids=["apart", "close", "one place"])
def test_names_beside_points_hide_nothing(spread):
    random = np.random.default_rng(0)
    points = [(*(spread * random.normal(size=2)), f"network {i} of $many") for i in range(25)]
    figure, axes = draw_points([*points, (-3, -3, "far"), (3, 3, "at the corner")])
    assert_legible(figure)
    names = [(text, box) for text, box in text_boxes(figure) if text.startswith("network")]
    assert len(names) == 25
    markers = axes.transData.transform([point[:2] for point in points])
    assert [text for text, box in names for marker in markers if box.contains(*marker)] == []
    assert [text for text, box in names if not axes.bbox.containsx(box.x1)] == []


def test_a_name_far_from_its_point_has_a_line_to_it():
    _, axes = draw_points([(0, 0, f"name {i}") for i in range(12)] + [(1, 1, "alone")])
    lines = {text.get_text(): text.arrow_patch is not None for text in axes.texts}
    assert sum(lines.values()) >= 4
    assert not lines["alone"]


def test_equal_figures_have_equal_bytes_and_the_svg_has_text(tmp_path):
    before = plt.get_fignums()
    for name in "ab":
        figure, axes = plt.subplots()
        axes.plot([1, 2], label="a line")
        axes.legend()
        figures.save_figure(figure, tmp_path / f"{name}.png")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert ">a line</text>" in (tmp_path / "a.svg").read_text()
    assert plt.get_fignums() == before


def test_classes_without_a_font_have_numbers(few_fonts):
    assert figures.label_classes(CHINESE) == ["1", "2", "3"]
    assert figures.label_classes(["läufer", "café", "a b"]) == ["läufer", "café", "a b"]


def test_an_installed_font_is_used_for_what_the_usual_one_lacks(few_fonts):
    symbol = "a \u20e4"  # in STIX, not in DejaVu Sans
    assert figures.label_classes([symbol]) == [symbol]
    figure, axes = plt.subplots()
    axes.set_title(symbol)
    figures._choose_fonts(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()


def test_right_to_left_names_have_numbers_where_matplotlib_does_not_join_letters(monkeypatch):
    monkeypatch.setattr(figures, "SHAPES_TEXT", False)
    assert figures.label_classes(["مرحبا", "run"]) == ["1", "2"]


def test_pictures_of_classes_without_a_font_warn_of_nothing(tmp_path, few_fonts, recwarn):
    plots.plot_confusion(tmp_path / "confusion.png", np.eye(3, dtype=int), CHINESE, "8x1@32/32 走")
    rows = [{"class": name, "difference": i - 1.0} for i, name in enumerate(CHINESE)]
    plots.plot_differences(tmp_path / "classes.png", rows, "走 minus a")
    figures.save_figure(draw_points([(0, 0, "游泳"), (1, 1, "走")])[0], tmp_path / "points.png")
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("classes", [2, 3, 30, 101])
def test_names_of_classes_fit_into_the_confusion_matrix(tmp_path, monkeypatch, classes, recwarn):
    saved = record_figures(monkeypatch)
    names = [f"pretending to put something number {i} next to something that moves" for i in range(classes)]
    counts = np.full((classes, classes), 12345)
    protocol = "16x2@112/128 10x3 softmax-mean a-long-name-of-a-data-set-heldout shuffled gaussian_noise-5"
    plots.plot_confusion(tmp_path / "confusion.png", counts, names, protocol, max_inches=13)
    assert_legible(saved[0])
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("classes", [1, 5, 200])
def test_names_of_classes_fit_beside_their_differences(tmp_path, monkeypatch, classes):
    saved = record_figures(monkeypatch)
    rows = [{"class": f"something quite long, number {i}, of a list", "difference": 50.0 - i} for i in range(classes)]
    plots.plot_differences(
        tmp_path / "classes.png", rows, "a run with a very long name indeed, seed 3 minus another one"
    )
    assert_legible(saved[0])


def test_a_sweep_is_legible(tmp_path, monkeypatch):
    saved = record_figures(monkeypatch)
    rows = [
        {"crops": crops, "views": n * crops, "video_top1": 50 + n, "low": 45, "high": 62, "a_protocol": n % 2}
        for crops in (1, 3, 5, 10)
        for n in range(1, 11)
    ]
    plots.plot_sweep(tmp_path / "sweep.png", rows, "16x2@112/128 10x10 softmax-mean a-long-name-of-a-data-set shuffled")
    assert_legible(saved[0])


def test_curves_of_everything_that_can_be_logged_are_legible():
    names = [name for panel in plots.CURVES.values() for name in panel]
    names += [
        f"{start}{part}" for start in plots.WATCHED for part in ("stem", "layer1", "layer2", "layer3", "layer4", "fc")
    ]
    figure = plots.build_curves([{"step": step, **dict.fromkeys(names, 0.1 + step)} for step in range(0, 90000, 9000)])
    assert_legible(figure)
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [legend for legend in legends if legend.get_window_extent().overlaps(legend.axes.bbox)] == []
    plt.close(figure)


def test_a_cell_of_a_table_is_named_by_its_row(tmp_path):
    record = {"row": "R3D", "seed": 2, "code": "c", "commit": None, "dirty": None}
    (tmp_path / "0123abcd.json").write_text(json.dumps(record))
    assert results.format_run_name(tmp_path / "0123abcd") == "R3D, seed 2"
    for content in (json.dumps({**record, "seed": "2"}).encode(), *BROKEN_JSON):
        (tmp_path / "mine.json").write_bytes(content)
        assert results.format_run_name(tmp_path / "mine") == "mine"
    assert results.format_run_name(tmp_path / "mine") == "mine"
    assert results.format_run_name(tmp_path / "other.1") == "other.1"
