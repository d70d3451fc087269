"""Quantise the network of a run to 8-bit integers: from a run to an .onnx file.

It says what exported files say of themselves, and how it was quantised. It is read back and compared with the network
before it has its name.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from videores.compress.quantise_clips import choose_clips
from videores.compress.quantise_onnx import Kind, add_metadata, quantise_file
from videores.compress.source import read_run
from videores.compute.cost import time_interleaved
from videores.config import parse
from videores.config.schema import Config, DataConfig
from videores.inference.export import describe_network, find_samples
from videores.inference.export_check import compare_answers
from videores.inference.export_program import write_program
from videores.inference.exported import load_exported
from videores.inference.source import resolve_source
from videores.runtime.files import write_atomically

ROUNDS = 5  # of which the times are the median


class QuantisationReport(NamedTuple):
    """What was written."""

    bytes: int
    float_bytes: int  # of the float32 file
    milliseconds: dict[str, float]  # of one clip, by the float32 file and by this one, in turns
    about: dict[str, Any]  # `quantised` of the file's metadata


def quantise_run(
    source: Path,
    path: Path,
    *,
    kind: Kind = "static",
    clips: int = 64,
    videos: Sequence[Path] = (),
    overrides: Sequence[str] = (),
) -> QuantisationReport:
    """Quantise all convolutions of a run's network; write an .onnx file.

    Args:
        source: a run folder, or a checkpoint.
        kind: as quantise_onnx.py says.
        clips: number of clips that set the ranges of activations.
        videos: to take them from, instead of the run's training videos.
        overrides: of the run's configuration, of which data.root and data.splits count: where its videos are.

    Raises:
        UserError: if the source is no run, there are no calibration clips, or they are of test videos, if a
            convolution stays in float32, or the file's answers are far off; then there is no file.
    """
    checkpoint, cfg, known = read_run(source)
    trained = resolve_source(checkpoint)
    data = _move_data(cfg, overrides)
    facts: dict[str, Any] = {"kind": kind}
    calibration = choose_clips(data, trained.preprocessing, clips, videos) if kind == "static" else None
    if calibration:
        facts |= {"clips": len(calibration), "videos": calibration.videos, "videos_hash": calibration.digest}
    samples, compared_on = find_samples(trained.preprocessing, (), data)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="videores-quantise-") as folder, write_atomically(path) as temporary:
        full = Path(folder, "full.onnx")
        write_program(trained.model, describe_network(trained, known, fold=True), full)
        facts["convolutions"] = quantise_file(full, temporary, kind, calibration.read() if calibration else ())
        add_metadata(temporary, {"quantised": json.dumps(facts)})
        networks = {"float32": load_exported(full), kind: load_exported(temporary)}
        facts |= {"compared_on": compared_on, "differences": compare_answers(path, networks[kind], trained, samples)}
        add_metadata(temporary, {"quantised": json.dumps(facts)})
        clip_BCTHW = trained.preprocessing.normalize(samples[0].clips_BTHWC)
        seconds = time_interleaved({name: partial(run, clip_BCTHW) for name, run in networks.items()}, ROUNDS)
        sizes = temporary.stat().st_size, full.stat().st_size
    return QuantisationReport(*sizes, {name: 1e3 * s for name, s in seconds.items()}, facts)


def _move_data(cfg: Config, overrides: Sequence[str]) -> DataConfig:
    """Return the data of a run where they are now."""
    values = cfg.model_dump(mode="json")
    for override in overrides:
        parse.apply_override(values, override, Config)
    moved = parse.build_section(Config, values, "the run's configuration", list(overrides)).data
    return cfg.data.model_copy(update={"root": moved.root, "splits": moved.splits})


def format_report(path: Path, report: QuantisationReport) -> str:
    """Format what was written, as a few lines."""
    about, (full_ms, ms) = report.about, report.milliseconds.values()
    lines = [
        f"wrote   {path}: {report.bytes / 1e6:.1f} MB, {report.bytes / report.float_bytes:.2f} times the float32 file",
        f"quantised all {about['convolutions']} convolutions ({about['kind']})",
    ]
    if "clips" in about:
        lines.append(f"calibrated on {about['clips']} clips of {len(about['videos'])} videos that are not tested")
    lines.append(f"compared on {about['compared_on']}")
    lines += [f"batch {size} logits differ by {value:.1e}" for size, value in about["differences"].items()]
    return "\n".join([*lines, f"a clip takes {ms:.1f} ms, {ms / full_ms:.2f} times the {full_ms:.1f} ms of float32"])
