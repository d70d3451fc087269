"""Define the columns of a table and format their numbers."""

from typing import NamedTuple


class _Column(NamedTuple):
    heading: str
    digits: int
    unit: float = 1  # what the value is divided by
    points: bool = False  # an accuracy, whose differences are percentage points
    cost: bool = False
    spread: bool = True  # whether seeds differ in it
    tested: bool = False  # whether it depends on the test videos


COLUMNS = {
    "params": _Column("parameters (M)", 3, 1e6, cost=True, spread=False),
    "nonzero": _Column("parameters not 0 (M)", 3, 1e6, spread=False),
    "gmacs": _Column("GMAC a clip", 4, cost=True, spread=False),
    "gmacs_video": _Column("GMAC a video", 3, cost=True, spread=False),
    "memory": _Column("training memory (MB a clip)", 1, 1e6, cost=True, spread=False),
    "latency": _Column("ms a clip", 2, cost=True),
    "train": _Column("train video top-1", 1, points=True),
    "clip": _Column("clip top-1", 1, points=True, tested=True),
    "video": _Column("video top-1", 1, points=True, tested=True),
    "above_floor": _Column("video top-1 above the best floor", 1, points=True, tested=True),
    "video5": _Column("video top-5", 1, points=True, tested=True),
    "mean_class_top1": _Column("mean class top-1", 1, points=True, tested=True),
    "macro_f1": _Column("macro F1", 1, points=True, tested=True),
    "gap": _Column("gap, train - test", 1, points=True, tested=True),
    "val_gap": _Column("gap, train - validation that chose the checkpoint", 1, points=True),
    "nll": _Column("NLL", 3, tested=True),
    "ece": _Column("ECE", 3, tested=True),
    "correlation": _Column("correlation of the errors of those fused", 2, tested=True),
    "mirrored": _Column("top-1 of mirrored classes", 1, points=True, tested=True),
    "train_loss": _Column("training loss", 3),
    "grad_stem": _Column("gradient of the stem", 4),
    "clips_per_s": _Column("clips/s", 1),
    "frames_per_s": _Column("frames/s", 0),
    "clip_ms": _Column("processor ms a clip", 1),
    "pixel_diff": _Column("largest pixel difference", 0),
    "wrong_frames": _Column("wrong frames", 0),
    "failures": _Column("failed clips", 0),
    "memory_growth": _Column("memory growth (MB)", 1),
    "shuffled": _Column("shuffled", 1, points=True, tested=True),
    "reversed": _Column("reversed", 1, points=True, tested=True),
    "frozen": _Column("frozen", 1, points=True, tested=True),
    "static": _Column("static", 1, points=True, tested=True),
    "subsampled": _Column("subsampled", 1, points=True, tested=True),
    "shuffled_scores": _Column("largest change of a score, shuffled (millionths)", 1, 1e-6, tested=True),
    "partner": _Column("partner class if reversed", 1, points=True, tested=True),
    "mce": _Column("mean corruption error", 1, points=True, tested=True),
    "mce_rise": _Column("corruption error above normal", 1, points=True, tested=True),
    "response": _Column("branch / shortcut", 2, tested=True),
    "deletion_gradcam": _Column("Grad-CAM: deletion above random", 1, points=True, tested=True),
    "insertion_gradcam": _Column("Grad-CAM: insertion above random", 1, points=True, tested=True),
    "cascade_gradcam": _Column("Grad-CAM: Spearman to random weights", 2, tested=True),
    "pointing_gradcam": _Column("Grad-CAM: hits above random weights", 1, points=True, tested=True),
    "pointing_difference_gradcam": _Column("Grad-CAM: hits above frame difference", 1, points=True, tested=True),
    "deletion_layercam": _Column("LayerCAM: deletion above random", 1, points=True, tested=True),
    "insertion_layercam": _Column("LayerCAM: insertion above random", 1, points=True, tested=True),
    "cascade_layercam": _Column("LayerCAM: Spearman to random weights", 2, tested=True),
    "pointing_layercam": _Column("LayerCAM: hits above random weights", 1, points=True, tested=True),
    "videos": _Column("videos scored", 0, spread=False, tested=True),
}


def read_values(cell):
    """Return {column: value or None} of a cell.

    A cell keeps the `gap` of metrics.json, to the validation videos; the gap to the test videos is computed here, as is
    the difference from the floor.
    """
    values = {name: cell["values"].get(name) for name in COLUMNS}
    known = values["train"] is not None and values["video"] is not None
    floor = cell.get("answers", {}).get("floor")
    return {
        **values,
        "gap": values["train"] - values["video"] if known else None,
        "val_gap": values["gap"],
        "above_floor": values["video"] - 100 * floor.count("1") / len(floor) if floor else None,
    }


def format_cell(name, mean, sd=None):
    """Format a mean, with its standard deviation where seeds differ."""
    column = COLUMNS[name]
    if mean is None:
        return "-"
    text = f"{mean / column.unit:,.{column.digits}f}"
    if column.cost and sd == 0:  # older cells: the latency was measured once for all seeds
        return text
    return text if sd is None or not column.spread else f"{text} ± {sd / column.unit:.{column.digits}f}"
