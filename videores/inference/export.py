"""Export a trained network: what the file says, and the comparison before it has its name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videores.config import parse
from videores.config.schema import Config, DataConfig
from videores.config.streams import has_sound
from videores.data import index, manifest
from videores.errors import UserError
from videores.evaluation.protocol import format_protocol
from videores.inference.export_check import SampleClips, compare_answers, draw_samples, read_samples
from videores.inference.export_program import write_program
from videores.inference.exported import ExportDescription, load_exported
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork, resolve_source
from videores.models.weights import safe_load
from videores.models.weights.names import find_file
from videores.models.weights.safetensors import read_safetensors
from videores.runtime.environment import read_git_state
from videores.runtime.files import write_atomically

MAX_SAMPLED_VIDEOS = 3


class ExportReport(NamedTuple):
    """What was written, and how it compares with the network."""

    bytes: int
    differences: dict[int, float]  # batch size -> largest difference of logits, or of probabilities
    compared_on: str


def export_source(
    source: str | Path, path: Path, *, fold: bool, with_preprocessing: bool, videos: Sequence[Path] = ()
) -> ExportReport:
    """Export a checkpoint or public weights as .pt2 or .onnx, the suffix of `path`.

    The file is read back and compared with the network, at batches of 1, 2 and 5 clips.

    Args:
        source: as `resolve_source` takes it.
        fold: make batch norms part of the convolutions: faster, and logits change by rounding.
        with_preprocessing: take decoded frames and give probabilities, else normalized clips and logits.
        videos: to compare on, by default the first of the run's test.

    Raises:
        UserError: if the network cannot be exported, or the file answers otherwise; then there is no file.
    """
    trained = resolve_source(source)
    assert trained.preprocessing.one_stream  # raises where there are several
    cfg: Config | None = None
    known: dict[str, Any] = {"protocol": None, "commit": _format_commit()}
    if (file := Path(find_file(source))).is_file():
        cfg, known = describe_run(file)
    about = describe_network(trained, known, fold=fold, with_preprocessing=with_preprocessing)
    samples, compared_on = find_samples(trained.preprocessing, videos, cfg.data if cfg else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        write_program(trained.model, about, temporary)
        differences = compare_answers(path, load_exported(temporary), trained, samples)
    return ExportReport(path.stat().st_size, differences, compared_on)


def describe_network(
    trained: TrainedNetwork, known: Mapping[str, Any], *, fold: bool, with_preprocessing: bool = False
) -> ExportDescription:
    """Return what a file says of itself; `known` is what `describe_run` says."""
    return ExportDescription(
        classes=list(trained.classes),
        preprocessing=trained.preprocessing.model_dump(mode="json"),
        input="frames" if with_preprocessing else "clips",
        output="probabilities" if with_preprocessing else "logits",
        folded=fold,
        source=trained.source,
        **known,
    )


def describe_run(checkpoint: Path) -> tuple[Config | None, dict[str, Any]]:
    """Return a checkpoint's configuration, and what exported files say of it.

    Of a safetensors file it is what the file says; older ones lack the configuration. Raises UserError for other files.
    """
    if checkpoint.suffix == ".safetensors":
        about = read_safetensors(checkpoint)[1]
        known = {key: about.get(key) for key in ("protocol", "config", "epoch", "step")} | {"commit": _format_commit()}
        return parse.build_config(about["config"], checkpoint) if "config" in about else None, known
    stored = safe_load.read_checkpoint(checkpoint)
    safe_load.check_run_checkpoint(checkpoint, stored)
    config = stored["hyper_parameters"]["config"]
    cfg = parse.build_config(config, checkpoint)
    about = {"protocol": format_protocol(cfg), "commit": _format_commit(), "config": config}
    return cfg, about | {"epoch": stored["epoch"], "step": stored["global_step"]}


def _format_commit() -> str | None:
    """Return the commit of this code, marked where files differ; None without git."""
    state = read_git_state()
    return state["commit"] + " with changes" * state["dirty"] if state else None


def find_samples(
    preprocessing: Preprocessing, videos: Sequence[Path], data: DataConfig | None
) -> tuple[list[SampleClips], str]:
    """Return clips to compare on, and what they are of: videos, or noise.

    The videos are the given ones, or the first of the run's test.

    Raises UserError for a given video that does not decode.
    """
    if videos:
        root, paths = Path(), [str(path) for path in videos]
    else:
        root, paths = _list_test_videos(data)
    infos, bad = manifest.probe_all(root, paths, sound=has_sound(preprocessing.stream))
    if videos and bad:
        path, reason = next(iter(bad.items()))
        raise UserError(f"--compare {path} must decode: {reason}")
    if not infos:
        return draw_samples(preprocessing), "noise, as there are no videos of the run here (--compare gives some)"
    found = [path for path in paths if path in infos]
    return read_samples(root, found, infos, preprocessing), f"clips of {', '.join(found)}"


def _list_test_videos(data: DataConfig | None) -> tuple[Path, list[str]]:
    try:
        listed = index.read_index(data).test if data else ()
    except UserError:  # the data set is elsewhere
        listed = ()
    return Path(data.root if data else "."), [video.path for video in listed[:MAX_SAMPLED_VIDEOS]]
