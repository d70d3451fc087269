"""Quantise the network of a run to 8-bit integers: an .onnx file that says what exported files say, and how it was made.

The file is read back and compared with the network before it has its name.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videores.compress.quantise_clips import choose_clips
from videores.compress.quantise_onnx import Kind, add_metadata, quantise_file
from videores.config import parse
from videores.config.schema import Config
from videores.errors import UserError
from videores.inference.export import describe_network, describe_run, find_samples
from videores.inference.export_check import compare_answers
from videores.inference.export_program import write_program
from videores.inference.exported import load_exported
from videores.inference.source import resolve_source
from videores.runtime.files import write_atomically
from videores.training.run_files import find_best_checkpoint

MOVED = ("data.root", "data.splits")  # keys that may be other than the run's


class QuantisationReport(NamedTuple):
    """What was written."""

    bytes: int
    times_smaller: float  # than the float32 file
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
        overrides: data.root=... and data.splits=... where the run's videos have moved.

    Raises:
        UserError: if the source is no run, there are no calibration clips, or they are of test videos, if a
            convolution stays in float32, or the file's answers are far off; then there is no file.
    """
    checkpoint = _find_checkpoint(source)
    trained = resolve_source(checkpoint)
    cfg, known = describe_run(checkpoint)
    data = _move_data(cfg, overrides).data
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
        facts |= {
            "compared_on": compared_on,
            "differences": compare_answers(path, load_exported(temporary), trained, samples),
        }
        add_metadata(temporary, {"quantised": json.dumps(facts)})
        size = full.stat().st_size
    return QuantisationReport(path.stat().st_size, size / path.stat().st_size, facts)


def _find_checkpoint(source: Path) -> Path:
    """Return the checkpoint of a source that is a run. Raises UserError for an exported or quantised file."""
    if source.suffix in (".onnx", ".pt2") and source.is_file():
        is_quantised = load_exported(source).about.quantised
        what = "is quantised already" if is_quantised else "is an exported file, which has its norms no more"
        raise UserError(f"{source} must be a run folder or a checkpoint, and {what}: give the run that it was made of")
    return find_best_checkpoint(source) if source.is_dir() else source


def _move_data(cfg: Config, overrides: Sequence[str]) -> Config:
    """Return the configuration with other places of the videos. Raises UserError for other keys."""
    values = cfg.model_dump(mode="json")
    for override in overrides:
        if override.partition("=")[0] not in MOVED:
            raise UserError(f"{override}: a run is quantised as it was trained; give {' or '.join(MOVED)} alone")
        parse.apply_override(values, override, Config)
    return parse.build_section(Config, values, "the run's configuration", list(overrides))
