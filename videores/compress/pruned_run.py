"""Prune the network of a run: into a file, and into the configuration of the run that fine-tunes it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from videores.compress import structured, unstructured
from videores.compress.pruning import Pruning, Target, check_pruning, plan_targets
from videores.compress.source import read_run
from videores.config import parse
from videores.config.schema import Config, ModelConfig
from videores.errors import UserError
from videores.inference.source import resolve_source
from videores.models import create_model
from videores.models.parts import split_into_parts
from videores.models.registry import find_clip_shape
from videores.models.weights import preprocessing, safetensors
from videores.models.widths import read_shape, read_widths


class Step(NamedTuple):
    """One pruning: of a run, into a file and the folder of a run."""

    source: Path
    path: Path
    folder: Path
    pruning: Pruning
    target: Target
    overwrites: bool  # the file of another pruning


class PruneReport(NamedTuple):
    """What a step has written."""

    path: Path
    widths: dict[str, int]  # the plan of the network
    params: tuple[int, int]  # before and after
    zeros: int  # weights that were set to zero
    whole: list[str]  # layers that keep their width, since something else needs it


# Plan


def plan_run(
    source: Path, out: Path | None, pruning: Pruning, overrides: Sequence[str] = (), trains: bool = True
) -> list[Step]:
    """Plan the steps that prune a run, each of which continues the one before.

    Raises UserError where the network cannot be pruned so.
    """
    if pruning.steps > 1 and not trains:
        raise UserError(f"--steps {pruning.steps} needs a training after each step: drop --no-train or --steps")
    checkpoint, cfg, _ = read_run(source)
    model = resolve_source(checkpoint).model
    changed = _override(parse.dump_config(cfg), overrides, source)
    check_pruning(changed, pruning, model)
    out = out or _name_result(source, pruning)
    folders = [out.with_name(f"{out.name}-step{n}") for n in range(1, pruning.steps)] + [out]
    targets = plan_targets(model, pruning)
    return [
        Step(before, folder.with_name(f"{folder.name}.safetensors"), folder, pruning, target, changed.run.overwrite)
        for before, folder, target in zip([source, *folders[:-1]], folders, targets, strict=True)
    ]


def _name_result(source, pruning):
    run = source.resolve() if source.name in ("", "..") else source
    if run.is_file():
        run = run.parents[1] if run.parent.name == "checkpoints" else run.with_suffix("")
    ratio = pruning.ratio
    words = [f"{part}-{100 * r:g}" for part, r in ratio.items()] if isinstance(ratio, Mapping) else [f"{100 * ratio:g}"]
    words += [word for word in (pruning.scope, pruning.importance) if word not in ("layer", "magnitude")]
    return run.with_name("-".join([run.name, "pruned", *words]))


# Prune


def write_pruned(step: Step) -> PruneReport:
    """Prune the best weights of a run, and write them as safetensors.

    The file says its network, with its plan of widths, and where it came from. Raises UserError where the network
    cannot be followed, and for a file of another pruning that a run started from; then nothing is written.
    """
    checkpoint, cfg, about = read_run(step.source)
    trained = resolve_source(checkpoint)
    model = trained.model
    before, network, zeros, whole = _count(model), cfg.model, 0, list[str]()
    if step.pruning.scope == "weights":
        zeros = unstructured.zero_weights(model, cast("float", step.target))
    else:
        pruned, whole = _prune_layers(model, step.pruning, step.target)
        network = network.model_copy(update={"widths": _make_plan(network, pruned)})
        model = _rebuild(network, pruned)
    config = about["config"] | {"model": network.model_dump(mode="json")}
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    about |= {"config": config, "model": config["model"], "classes": list(trained.classes)}
    about |= {"preprocessing": preprocessing.extract_preprocessing(config["data"])}
    about |= {"pruning": {"source": str(step.source), "sha256": digest, **step.pruning._asdict(), "zeros": zeros}}
    _check_same_pruning(step, about["pruning"])
    safetensors.write_safetensors(step.path, model.state_dict(), about)
    return PruneReport(step.path, config["model"]["widths"] or {}, (before, _count(model)), zeros, whole)


def _check_same_pruning(step, about):
    """Raise UserError where a run started from another pruning of the same name."""
    if step.overwrites or not (step.path.exists() and (step.folder / "config.yaml").exists()):
        return
    known = safetensors.read_safetensors(step.path)[1].get("pruning", {})
    if known | {"source": ""} != json.loads(json.dumps(about | {"source": ""})):  # however its path was given
        raise UserError(
            f"{step.path} must stay as it is, the pruning that {step.folder} started from, which is another: give "
            "another --out, or run.overwrite=true"
        )


def _count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def _prune_layers(model: nn.Module, pruning: Pruning, target: Target) -> tuple[nn.Module, list[str]]:
    """Return the pruned network, and the layers that keep their width though they should be narrower."""
    widths, ratio = read_widths(model), cast("Mapping[str, float] | float", target)
    if isinstance(target, Mapping):
        shares = {name: 1 - (width + 1e-6) / widths[name] for name, width in target.items()}
        ratio = {name: share for name, share in shares.items() if target[name] < widths[name]}
    if not ratio:
        return model, []
    pruned = structured.prune_channels(model, find_clip_shape(model), ratio, pruning.importance)
    return pruned, structured.find_whole_layers(pruned, widths, target) if isinstance(target, Mapping) else []


def _make_plan(network: ModelConfig, pruned: nn.Module) -> dict[str, int] | None:
    """Return the widths that the design of a network does not say, or None."""
    classes = split_into_parts(pruned)["fc"]
    outputs = {id(layer) for part in classes for layer in part.modules()}
    with torch.device("meta"):
        design = read_widths(create_model(network.name, 2, **network.overrides() | {"widths": None}))
    free = [name for name in design if id(pruned.get_submodule(name)) not in outputs]
    widths = {name: read_shape(pruned.get_submodule(name))[1] for name in free}
    return {name: width for name, width in widths.items() if width != design[name]} or None


def _rebuild(network: ModelConfig, pruned: nn.Module) -> nn.Module:
    """Return the network of a plan with the weights of the pruned one.

    Raises UserError where they answer otherwise: a step between layers was not followed.
    """
    with torch.random.fork_rng(devices=[]):
        clips = torch.randn(find_clip_shape(pruned))
        with torch.no_grad():
            theirs = pruned(clips)
            model = create_model(network.name, theirs.shape[1], **network.overrides()).eval()
            model.load_state_dict(pruned.state_dict())
            ours = model(clips)
    if not torch.allclose(theirs, ours, rtol=1e-3, atol=1e-4):
        raise UserError(f"model {network.name} must answer the same from its model.widths: Torch-Pruning missed a step")
    return model


def format_report(report: PruneReport) -> str:
    """Format what a step has written, with layers that kept their width."""
    before, after = report.params
    what = f"{report.zeros:,} weights are 0" if report.zeros else f"{len(report.widths)} layers are narrower"
    lines = [f"pruned  {report.path}: {after:,} of {before:,} parameters, {what}"]
    return "\n        ".join(lines + [f"whole: {', '.join(report.whole)}, as others need it"] * bool(report.whole))


# Train


def make_finetuning(step: Step, report: PruneReport, overrides: Sequence[str]) -> Config:
    """Return the configuration that trains a pruned network: its source's, changed."""
    _, cfg, _ = read_run(step.source)
    values = parse.dump_config(cfg)
    weights = {"widths": report.widths or None, "weights": str(report.path), "head": "auto", "inflate": None}
    values["model"] |= weights
    values["run"] |= {"name": None, "dir": str(step.folder), "resume": "none", "overwrite": False}
    values["train"] |= {"keep_zeros": report.zeros > 0}
    return _override(values, overrides, step.source)


def _override(values: dict[str, Any], overrides: Sequence[str], source: Path) -> Config:
    for override in overrides:
        parse.apply_override(values, override, Config)
    return parse.build_section(Config, values, source, overrides)
