"""Resolve a source: what it names, its network with weights, its classes and its preprocessing.

A source is one of
    runs/x                          a run folder: its best checkpoint
    runs/x/checkpoints/last.ckpt    a checkpoint
    net.safetensors, .pt2, .onnx    what tools/export.py wrote
    videores/<name>                 a network that comes with videores, e.g. videores/r2plus1d_motion_w16
    hub:<user>/<name>[@<revision>]  a network on the Hugging Face Hub, or the folder that `save_pretrained` wrote
    torchvision/<model>/<weights>   public weights by name, e.g. torchvision/r2plus1d_18/KINETICS400_V1
    <layout>:<file>                 a file of another library, which says neither network nor classes: give both
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videores.compute.scoring import set_score_layout
from videores.config import parse
from videores.config.schema import Config, ModelConfig, ViewsConfig
from videores.errors import UserError
from videores.inference.preprocessing import Preprocessing
from videores.models import create_model
from videores.models.fusion import FusionNetwork
from videores.models.weights import safe_load
from videores.models.weights.loading import load_weights
from videores.models.weights.names import find_file, find_torchvision_network
from videores.models.weights.safetensors import read_safetensors
from videores.models.weights.sources import LAYOUTS, read_source
from videores.runtime.own_parts import is_import_path
from videores.training.run_files import find_best_checkpoint

TORCHVISION_CLIPS = 5  # of a video, of which torchvision states the accuracy of its video networks


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that is ready to score, and what it takes and answers."""

    source: str
    model: nn.Module  # clips_BCTHW -> logits_BN, on `device`
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    device: str = "cpu"
    number_format: str = "fp32"
    batch_size: int = 16  # clips that are scored at a time
    network: ModelConfig | None = None  # what `model` was created by; None: it is the program of an exported file


def resolve_source(
    source: str | Path,
    device: str = "cpu",
    *,
    network: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> TrainedNetwork:
    """Load what a source names.

    Args:
        device: "cpu", "cuda", ..., or "auto", a GPU where there is one.
        network: keys of `model` of a configuration, for a file that does not say its network.
        classes: their names in order, for a file without them.

    Raises:
        UserError: if the source names nothing that can be loaded, or does not say what it classifies.
    """
    device = select_device(device)
    trained = _read(str(source), device, network, classes)
    if not trained.classes:
        raise UserError(f"{source} must have class names, and its list is empty: export the network again")
    if isinstance(trained.model, nn.Module):
        prepare_for_scores(trained.model, device, trained.number_format)
    return trained


def prepare_for_scores(model: nn.Module, device: str, number_format: str) -> None:
    """Bring a network to a device and into the state in which it scores."""
    model.requires_grad_(False).to(device).eval()
    if hasattr(model, "design") or isinstance(model, FusionNetwork):
        set_score_layout(model, device, number_format)


def select_device(device: str) -> str:
    """Return the device that "auto" means here, or the one named. Raises UserError where it is absent."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device} needs a CUDA device and torch finds none: use cpu")
    return device


def _read(source, device, network, classes):
    prefix, colon, _ = source.partition(":")
    if colon and prefix in LAYOUTS:
        return _read_library(source, device, network, classes)
    if network is not None or classes is not None:
        raise UserError(f"{source} says its network and classes itself: leave out network= and classes=")
    if source.startswith("torchvision/") and not Path(source).exists():
        return _read_torchvision(source, device)
    safe_load.check_local_path(source)
    path = Path(find_file(source))
    if path.is_dir():
        return _read_checkpoint(source, find_checkpoint(path), device)
    if not path.exists():
        raise UserError(
            f"{source}: there is no such run, checkpoint or exported file, and no public weights are called so; those "
            "are torchvision/<model>/<weights> (docs/guide/weights.md), and hub:<user>/<name> on the Hugging Face Hub"
        )
    if path.suffix in (".pt2", ".onnx"):
        from videores.inference.exported import load_exported  # what it imports are extras

        found = load_exported(path)
        return TrainedNetwork(
            source, found, found.classes, found.preprocessing, device, batch_size=found.about.batch_size
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(source, path, device)
    return _read_checkpoint(source, path, device)


def find_checkpoint(folder: Path) -> Path:
    """Return the best checkpoint of a run folder. Raises UserError where there is none."""
    path = find_best_checkpoint(folder)
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder (it has no config.yaml): give one, or a checkpoint")
    if not path.exists():
        raise UserError(f"{folder} has no checkpoint yet: train it to its first one, by run.resume=auto")
    return path


def _read_checkpoint(source, path, device):
    """Read a checkpoint of a run, which has its whole configuration."""
    stored = safe_load.read_checkpoint(path)
    safe_load.check_run_checkpoint(path, stored)
    known = stored["hyper_parameters"]
    cfg = parse.build_config(known["config"], path)
    state = safe_load.extract_network(stored)
    model = _build(path, cfg.model, known["classes"], state)
    return _describe_run(source, model, known["classes"], cfg, device)


def _read_safetensors(source, path, device):
    state, about = read_safetensors(path)
    network = parse.build_section(ModelConfig, about["model"], source)
    model = _build(source, network, about["classes"], state)
    if "config" in about:
        return _describe_run(source, model, about["classes"], parse.build_config(about["config"], source), device)
    # older files lack the views of the test
    return TrainedNetwork(
        source,
        model,
        tuple(about["classes"]),
        Preprocessing.from_weights(about["preprocessing"]),
        device,
        network=network,
    )


def _describe_run(source, model, classes, cfg, device):
    """Return the network of a run, to be scored as its test scores."""
    preprocessing, size = Preprocessing.from_config(cfg), cfg.data.batch_size
    precision = select_number_format(cfg, device)
    return TrainedNetwork(source, model, tuple(classes), preprocessing, device, precision, size, cfg.model)


def select_number_format(cfg: Config, device: str) -> str:
    """Return the number format that a configuration scores in on a device; a CPU has no fp16."""
    return "fp32" if device == "cpu" and cfg.trainer.score_precision == "fp16" else cfg.trainer.score_precision


def _read_torchvision(source, device):
    """Read public weights by name, with torchvision's own classes and preprocessing."""
    name = source.split("/")[1]
    ours = find_torchvision_network(name)
    if ours is None:
        raise UserError(f"{source}: videores has no network {name!r}: docs/guide/weights.md lists those that it has")
    stored = read_source(source, None)
    network = ModelConfig(name=ours)
    model = _build(source, network, stored.classes, stored.state)
    views = ViewsConfig(clips=TORCHVISION_CLIPS if "fps" in stored.preprocessing else 1)
    preprocessing = Preprocessing.from_weights(stored.preprocessing, views)
    return TrainedNetwork(source, model, tuple(stored.classes), preprocessing, device, network=network)


def _read_library(source, device, network, classes):
    if network is None or not classes:
        raise UserError(
            f"{source} does not say its network and classes: give network={{'name': ...}} and classes=[...] to "
            "videores.load, or test it by tools/evaluate.py --weights, which takes them from a configuration"
        )
    section = parse.build_section(ModelConfig, dict(network), f"network of {source}")
    model = create_model(section.name, len(classes), **section.overrides())
    for note in load_weights(model, source, classes, head="keep").notes:
        print(note, file=sys.stderr)
    return TrainedNetwork(source, model, tuple(classes), Preprocessing(), device, network=section)


def _build(source, network, classes, state):
    """Return a network with all tensors of a state dict. Raises UserError where one does not fit."""
    if is_import_path(network.name):
        print(f"importing {network.name}, the network that {source} names", file=sys.stderr)
    with torch.random.fork_rng(devices=[]):  # a script that loads a network draws the same numbers as without
        model = create_model(network.name, len(classes), **network.overrides())
    if lines := safe_load.list_differences(state, model.state_dict()):
        raise UserError(
            f"{source} does not fit {network.name}, the network that it names: {len(lines)} tensors differ; restore "
            "its keys of model, of which model.widths is a pruned network's plan (file / network)\n  "
            + "\n  ".join(lines[:10])
        )
    model.load_state_dict(state)
    return model
