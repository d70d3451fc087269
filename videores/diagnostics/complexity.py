"""Write tables and pictures of what networks cost, counted by compute.cost."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from tqdm import tqdm

from videores.compute import cost
from videores.config import parse
from videores.data import streams
from videores.errors import UserError
from videores.models import MODELS, create_model
from videores.models.pytorchvideo import BUILDERS, NAMES
from videores.reporting import figures
from videores.runtime.files import write_text
from videores.runtime.tables import format_csv, format_markdown_table

COLUMNS = {  # of the Markdown table: title -> text of a row
    "model": lambda r: r["model"],
    "classes": lambda r: str(r["classes"]),
    "clip": lambda r: "x".join(map(str, (r["frames"], *cost.expand_size(r["size"])))),
    "parameters": lambda r: f"{r['params']:,}",
    "GMAC a clip": lambda r: format_number(r["gmacs"]),
    "views": lambda r: str(r["views"]),
    "GMAC a video": lambda r: format_number(r["gmacs_video"]),
    "activations (M)": lambda r: f"{r['activations'] / 1e6:.1f}",
    "inference (MB)": lambda r: f"{r['inference_bytes'] / 1e6:,.0f}",
    "training (MB)": lambda r: "-" if r["training_bytes"] is None else f"{r['training_bytes'] / 1e6:,.0f}",
}


def format_number(number):
    return f"{number:.2f}" if number >= 1 else f"{number:.3g}"


def _get_default_clip(name):
    """Return (frames, size) where none is given: what a network was published at.

    Video ResNets have 16x112x112, networks of sound 64 bands of a second.
    """
    if name in NAMES:
        return BUILDERS[name.removeprefix("pytorchvideo/")]
    if name.startswith("audio"):
        return 1, (64, 100)
    return (16, 32) if name.startswith("cifar") else (16, 112)


def format_name(name: str, overrides: Mapping[str, Any]) -> str:
    """Format a network and its overrides as one string, such as "r3d_50 groups=32"."""
    return " ".join([name, *(f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in overrides.items())])


def parse_model(model):
    """Parse (name, overrides) of such a string."""
    if not model.strip():
        raise UserError('a network has no name: write "NAME key=value ...", such as "r3d_50 groups=32"')
    name, *changes = model.split()
    overrides = {}
    try:
        for change in changes:
            parse.apply_override(overrides, change)
    except UserError as error:
        raise UserError(f"{name}: write NAME key=value ..., without spaces in a value: {error}") from None
    return name, overrides


def _build_model(model, classes, frames):
    """Build a network for clips of `frames` frames."""
    name, overrides = parse_model(model)
    if getattr(MODELS.get(name), "fold", False):  # r2d is made for a number of frames
        overrides.setdefault("frames", frames)
    if overrides.get("frames", frames) != frames:
        raise UserError(f"{model} is made for {overrides['frames']} frames, and the clip has {frames}: make them equal")
    return create_model(name, classes, **overrides)


def compute_row(
    model: str,
    classes: int | None = 400,
    frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    views: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Any]:
    """Count the costs of a network, at its default clip where none is given.

    Raises UserError for clips that it cannot take.
    """
    name, overrides = parse_model(model)
    default_frames, default_size = _get_default_clip(name)
    frames, size = frames or overrides.get("frames") or default_frames, size or default_size
    with torch.device("meta"):
        network = _build_model(model, classes, frames)
    return {"model": model, "classes": classes, **cost.count_costs(network, frames, size, views, shapes)}


def compute_rows(models: Sequence[str], **options: Any) -> list[dict[str, Any]]:
    """Count the costs of several networks.

    Those that refuse the clip are left out, and printed with their reason.
    """
    rows = []
    for model in tqdm(models, desc="counting", unit="network", disable=None):
        try:
            rows.append(compute_row(model, **options))
        except UserError as error:
            tqdm.write(f"left out {model}: {error}")
    if not rows:
        raise UserError("no network takes these clips")
    return rows


def check_device(device: str) -> None:
    """Check that the device is there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device: leave out --device")


def check_modes(modes: Sequence[str] | None) -> list[str]:
    """Return the modes to measure: [] for None, a few for []."""
    if modes is None:
        return []
    unknown = [mode for mode in modes if mode not in cost.MODES]
    if unknown:
        raise UserError(f"unknown mode {unknown[0]!r}; there are: {', '.join(map(repr, cost.MODES))}")
    return list(modes) or ["fp32", "fp32 channels-last", "bf16", "bf16 channels-last"]


def add_measurements(
    row: dict[str, Any],
    modes: Sequence[str],
    batch: int,
    device: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Measure batches of clips and add {mode: {"ms", "clips_s"}} to a row."""
    network = _build_model(row["model"], row["classes"], row["frames"])
    shape = shapes or (cost.get_channels(network), row["frames"], *cost.expand_size(row["size"]))
    row["batch"] = batch
    row["measured"] = cost.measure_latency(network, streams.add_batch(shape, batch), modes, device)


# Writing


def format_table(rows: Sequence[Mapping[str, Any]], without: Sequence[str] = ()) -> str:
    """Format rows as a Markdown table."""
    columns = {title: text for title, text in COLUMNS.items() if title not in without}
    modes = list(rows[0].get("measured", {}))
    titles = [*columns, *(f"{mode}: ms (clips/s)" for mode in modes)]
    lines = []
    for r in rows:
        measured = [f"{r['measured'][mode]['ms']:.1f} ({r['measured'][mode]['clips_s']:.2f})" for mode in modes]
        lines.append([*(text(r) for text in columns.values()), *measured])
    return format_markdown_table(titles, lines) + "\n"


def _format_rows_csv(rows):
    flat = [{k: v for k, v in r.items() if k != "measured"} | _flatten_times(r) for r in rows]
    return format_csv(flat)


def _flatten_times(r):
    return {f"{mode} {unit}": value for mode, found in r.get("measured", {}).items() for unit, value in found.items()}


def write_files(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write table.csv, table.md, pareto.png and pareto.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("table.csv", _format_rows_csv(rows)), ("table.md", format_table(rows))):
        write_text(folder / name, text)
    _plot_costs(folder / "pareto.png", rows)


def _plot_costs(path, rows):
    """Plot GMACs against parameters, and against time where it was measured.

    A line joins the networks that no other beats in both.
    """
    modes = list(rows[0].get("measured", {}))
    panels = {"million parameters": lambda r: r["params"] / 1e6}
    if modes:
        panels[f"ms a batch of {rows[0]['batch']}, {modes[0]}"] = lambda r: r["measured"][modes[0]]["ms"]
    size = (9, max(6.5, 0.11 * len(rows)) * len(panels))
    figure, all_axes = plt.subplots(len(panels), 1, figsize=size, layout="constrained", squeeze=False)
    labels = {}
    for axes, (title, value) in zip(all_axes[:, 0], panels.items(), strict=True):
        points = [(r["gmacs"], value(r)) for r in rows]
        best = figures.find_pareto_front(points)
        axes.set(xscale="log", yscale="log", xlabel="GMAC a clip", ylabel=title)
        axes.margins(0.08)
        for point in points:
            axes.plot(*point, "o", markersize=4, color="0.5")
        axes.plot(*zip(*(points[i] for i in best), strict=True), "o-", linewidth=1, label="no network has less of both")
        for axis in (axes.xaxis, axes.yaxis):
            figures.label_log_axis(axis)
        axes.grid(alpha=0.3)
        figures.add_legend(axes)
        labels[axes] = [(*point, r["model"]) for point, r in zip(points, rows, strict=True)]
    figures.label_points(figure, labels)
    figures.save_figure(figure, path)


# docs/reference/complexity.md

HEAD = """# Cost of networks

Written by `python tools/complexity.py --docs`; do not edit. For other networks and clips, run
`python tools/complexity.py --model r3d_18 --frames 16 --size 112`, with `--measure` to measure the time on your
machine.

* **parameters**: of convolutions, norms and the classifier, for the number of classes in the heading.
* **GMAC**: 10^9 multiply-adds of convolutions and linear layers, counted by PyTorch's `flop_counter` while the network
  runs on the meta device. Many papers call them GFLOPs. The cost of a video is the cost of a clip times the number of
  views.
* **activations**: output values of convolutions and linear layers for one clip.
* **memory**: the peak memory of tensors for one clip in float32, including weights; in training including gradients,
  without the state of the optimizer. The workspace of kernels is not included.
* GMACs do not predict time: depthwise and grouped convolutions have fewer of them and run at a lower rate. Measure the
  time.

[![parameters against GMACs of the 16x112x112 networks](complexity.png)](complexity.svg)
"""

VIDEO = [name for name in MODELS if not name.startswith(("f_", "cifar", "audio"))]
SHALLOW = [name for name in VIDEO if name.endswith(("_18", "_34"))]
DEEP = [name for name in VIDEO if name not in SHALLOW and not name.startswith(("mc", "rmc"))]
SHALLOW += ["f_r2d_18 stem=nopool", "r2plus1d_18 mid=paper", "r2plus1d_34 mid=paper"]
DEEP += ["r3d_50 groups=32", "r3d_101 groups=32"]
PER_FRAME = [name for name in MODELS if name.startswith("f_")]
SOUND = [name for name in MODELS if name.startswith("audio")]
CIFAR = [name for name in MODELS if name.startswith("cifar")]
SECTIONS: list[tuple[str, Sequence[str], dict[str, Any]]] = [  # title, labels, options of `compute_row`
    ("Basic blocks, 16 frames, 400 classes", SHALLOW, {"frames": 16, "size": 112, "views": 10}),
    ("Basic blocks, 8 frames, 400 classes", SHALLOW, {"frames": 8, "size": 112, "views": 10}),
    ("Bottlenecks, 8 frames, 400 classes", DEEP, {"frames": 8, "size": 224, "views": 30}),
    ("Bottlenecks, 32 frames, 400 classes", DEEP, {"frames": 32, "size": 224, "views": 30}),
    ("2D networks, one frame, 1000 classes", PER_FRAME, {"classes": 1000, "frames": 1, "size": 224}),
    ("Networks of sound, 64 bands of a second, 400 classes", SOUND, {"views": 10}),
    ("CIFAR networks, 10 classes", CIFAR, {"classes": 10, "frames": 1, "size": 32}),
    ("pytorchvideo, at the clips they were trained at, 400 classes", NAMES, {"views": 30}),
]


def write_docs(folder: Path) -> None:
    """Write complexity.md, complexity.png and complexity.svg."""
    text, first = HEAD, None
    for title, models, options in SECTIONS:
        print(title, flush=True)
        rows = [compute_row(model, **options) for model in models]
        first = first or rows
        text += f"\n## {title}\n\n{format_table(rows, without=('classes',))}"
    _plot_costs(folder / "complexity.png", first)
    write_text(folder / "complexity.md", text)
