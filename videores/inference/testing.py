"""Decide how a file or public weights are tested: configuration, classes, and the folder of the result."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from videores.config import parse
from videores.config.schema import Config
from videores.config.streams import format_streams, has_sound
from videores.data.lists import read_csv_rows
from videores.errors import UserError
from videores.evaluation.predictions import read_metrics
from videores.inference.exported import ExportedNetwork
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork, resolve_source
from videores.models.weights import safe_load
from videores.models.weights.names import find_file
from videores.models.weights.preprocessing import find_other_sound, is_close
from videores.models.weights.safetensors import read_safetensors
from videores.models.weights.sources import LAYOUTS

RESULTS = Path("results", "weights")


class SourceTest(NamedTuple):
    """What is tested, and how."""

    network: TrainedNetwork
    cfg: Config
    folder: Path  # of the results
    about: dict[str, Any]  # file, epoch and step, for metrics.json
    class_map: Path | None = None


def prepare_file_test(source: str | Path, overrides: Sequence[str], out: Path | None = None) -> SourceTest:
    """Return the test of a file, or a network of the hub, on its run's videos.

    Raises UserError where the file does not say its run, and for overrides that change what it was trained with.
    """
    unknown = UserError(
        f"{source} does not say on which videos: give --cfg DATA.yaml (and to tools/evaluate.py --weights {source})"
    )
    path = Path(find_file(source))
    if str(source).startswith("torchvision/") and not path.exists():
        raise unknown  # before a download
    network = resolve_source(source)
    about = _read_run(path, network)
    if about.get("config") is None:
        raise unknown
    values = about["config"]
    for override in overrides:
        parse.apply_override(values, override, Config)
    cfg = parse.build_section(Config, values, path, list(overrides))
    known = {key: about.get(key) for key in ("epoch", "step")}
    # not within a shared folder, nor beside a file of the package or of the hub's cache
    folder = Path(f"{Path(source)}.results") if Path(source).exists() else RESULTS / slugify_source(str(source))
    return _check(SourceTest(network, cfg, out or folder, {"file": path.name, **known}))


def _read_run(path: Path, network: TrainedNetwork) -> dict[str, Any]:
    """Return configuration, epoch and step that a file says."""
    if isinstance(network.model, ExportedNetwork):
        return vars(network.model.about)
    if path.suffix == ".safetensors":
        return read_safetensors(path)[1]
    stored = safe_load.read_checkpoint(path)
    return {
        "config": stored["hyper_parameters"]["config"],
        "epoch": stored["epoch"],
        "step": stored["global_step"],
    }


def prepare_weights_test(
    source: str, cfg_name: str, overrides: Sequence[str], class_map: Path | None = None, out: Path | None = None
) -> SourceTest:
    """Return the test of public weights on the videos of a configuration.

    The preprocessing is that of the weights. Files of other libraries say neither theirs nor their network: both are
    those of the configuration.
    """
    if class_map and not class_map.is_file():
        raise UserError(f"--class-map: there is no file {class_map}; give a CSV with the columns weights,data")
    cfg = parse.load_config(cfg_name, overrides)
    library = source.partition(":")[0] in LAYOUTS
    names = _read_output_numbers(source, class_map) if library else None
    network = resolve_source(source, network=cfg.model.model_dump() if library else None, classes=names)
    if library:
        network = replace(network, preprocessing=Preprocessing.from_config(cfg))
    else:
        cfg = parse.load_config(cfg_name, [*_format_overrides(network.preprocessing), *overrides])
    about = {"file": source, **({"class_map": str(class_map)} if class_map else {})}
    return _check(SourceTest(network, cfg, out or RESULTS / slugify_source(source), about, class_map))


def slugify_source(source: str) -> str:
    """Return a source as a folder name."""
    return re.sub(r"[^A-Za-z0-9.@-]+", "-", source)


def _read_output_numbers(source: str, class_map: Path | None) -> list[str]:
    """Return the names of outputs without names: their numbers, which a class map must have."""
    rows = read_csv_rows(class_map, "weights,data", ("weights", "data")) if class_map else []
    numbers = [row["weights"] for _, row in rows]
    if not numbers or sorted(numbers) != sorted(map(str, range(len(numbers)))):
        raise UserError(
            f"{source} has no class names: give --class-map, a CSV with the columns weights,data and a row for each "
            "output, whose number from 0 is under weights"
        )
    return [str(number) for number in range(len(numbers))]


def _format_overrides(preprocessing: Preprocessing) -> list[str]:
    """Return the preprocessing of weights as overrides, which later ones may change."""
    clip, t = preprocessing.clip, preprocessing.transform
    values = {
        "data.stream": preprocessing.stream if isinstance(preprocessing.stream, str) else [*preprocessing.stream],
        **{f"data.clip.{key}": getattr(clip, key) for key in ("frames", "stride", "fps", "sampling")},
        **{f"data.transform.{key}": getattr(t, key) for key in ("short_side", "crop")},
        **{f"data.transform.{key}": list(getattr(t, key)) for key in ("mean", "std")},
        "data.transform.jitter": None,  # of trainings, and it may not be smaller than the crop
    }
    if has_sound(preprocessing.stream):
        values |= {f"data.audio.{key}": value for key, value in preprocessing.audio.model_dump().items()}
    return [f"{key}={'null' if value is None else value}" for key, value in values.items()]


def digest_source_test(test: SourceTest, part: str, list_hash: str) -> str | None:
    """Return a digest of the file and the list where the folder has results of others.

    The folder belongs to the first that was tested. Raises UserError for damaged results.
    """
    own = (read_metrics(path) for path in sorted((test.folder / part).glob("*/")) if "+" not in path.name)
    facts = (test.about, list_hash)
    if all(
        (found["checkpoint"], found["list"]["hash"]) == facts for found in own if {"checkpoint", "list"} <= found.keys()
    ):
        return None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _check(test: SourceTest) -> SourceTest:
    """Raise UserError where the configuration asks for what the network does not take."""
    transform, theirs = test.cfg.data.transform, test.network.preprocessing.transform
    source, model = test.network.source, test.network.model
    stream = test.network.preprocessing.stream
    if test.cfg.data.stream != stream:
        wanted, got = map(format_streams, (stream, test.cfg.data.stream))
        raise UserError(f"data.stream must be {wanted} for {source}, got {got}: leave it out")
    ours, own = test.cfg.data.audio, test.network.preprocessing.audio
    if has_sound(stream) and (key := find_other_sound(ours.model_dump(), own.model_dump())):
        raise UserError(f"data.audio.{key} must be {getattr(own, key)} for {source}: leave it out")
    wrong = [key for key in ("mean", "std") if not is_close(getattr(transform, key), getattr(theirs, key))]
    if wrong:
        raise UserError(
            f"data.transform.{wrong[0]} must be {list(getattr(theirs, wrong[0]))} for {source}: leave it out"
        )
    if not isinstance(model, ExportedNetwork):
        return test
    if test.cfg.trainer.score_precision != "fp32":
        raise UserError(f"trainer.score_precision must be fp32 for {source}, whose export fixed it: leave it out")
    if model.about.input == "frames":
        raise UserError(f"{source} holds its preprocessing and takes whole frames: test an export without --preprocess")
    return test
