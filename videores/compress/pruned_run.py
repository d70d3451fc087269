"""Prune the network of a run: into a file, and into the configuration of the run that fine-tunes it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import nn

from videores.compress import structured, unstructured
from videores.config import parse
from videores.config.schema import Config, ModelConfig
from videores.errors import UserError
from videores.inference.export import describe_run
from videores.inference.source import resolve_source
from videores.models import create_model
from videores.models.parts import split_into_parts
from videores.models.registry import find_clip_shape
from videores.models.weights import preprocessing, safetensors
from videores.models.widths import read_shape, read_widths
from videores.runtime.own_parts import is_import_path
from videores.training.run_folder import find_best_checkpoint

ANY = object()
# (key of a design, value, why its channels cannot be pruned)
UNFOLLOWED = (
    ("shortcut", "A", "its shortcuts pad channels, which have to keep their order"),
    ("shift", ANY, "which channels are shifted depends on how many there are"),
    ("pool", "lstm", "its gates are not followed"),
    ("norm", "frozen", "its statistics could not adapt to the pruning"),
)
Target = Mapping[str, int] | float  # widths of layers, or the share that goes of what is there


class Pruning(NamedTuple):
    """What is removed from a trained network, and how it is chosen."""

    ratio: Mapping[str, float] | float  # share that goes: of every layer, or of those of a part
    # least important channels of each layer, or of the whole network; or single weights of the network
    scope: Literal["layer", "network", "weights"] = "layer"
    importance: Literal["magnitude", "bn"] = "magnitude"  # of a channel
    steps: int = 1


class Step(NamedTuple):
    """One pruning: of a run, into a file and the folder of a run."""

    source: Path
    path: Path
    folder: Path
    pruning: Pruning
    target: Target


class PruneReport(NamedTuple):
    """What a step has written."""

    path: Path
    widths: dict[str, int]  # the plan of the network
    params: tuple[int, int]  # before and after
    zeros: int  # weights that were set to zero
    whole: list[str]  # layers that keep their width, since something else needs it


def parse_ratio(text: str) -> dict[str, float] | float:
    """Parse "0.5", or "layer1=0.25,layer2=0.5". Raises UserError."""
    try:
        if "=" not in text:
            return _check_ratio(float(text))
        return {part: _check_ratio(float(value)) for part, value in (pair.split("=") for pair in text.split(","))}
    except ValueError:
        raise UserError(f"--ratio must be a number, or part=number,part=number, got {text}: write 0.5") from None


def _check_ratio(value):
    if not 0 <= value < 1:
        raise UserError(f"--ratio must be from 0 to below 1, the share that goes, got {value:g}: lower it")
    return value


# Plan


def plan_run(
    source: Path, out: Path | None, pruning: Pruning, overrides: Sequence[str] = (), trains: bool = True
) -> list[Step]:
    """Plan the steps that prune a run, each of which continues the one before.

    Raises UserError where the network cannot be pruned so.
    """
    if pruning.steps > 1 and not trains:
        raise UserError(f"--steps {pruning.steps} needs a training after each step: drop --no-train or --steps")
    checkpoint = _find_checkpoint(source)
    cfg, _ = _describe(checkpoint)
    model = resolve_source(checkpoint).model
    check_pruning(_override(parse.dump_config(cfg), overrides, source), pruning, model)
    out = out or _name_result(source, pruning)
    folders = [out.with_name(f"{out.name}-step{n}") for n in range(1, pruning.steps)] + [out]
    targets = _plan_targets(model, pruning)
    sources = [source, *folders]
    return [
        Step(before, folder.with_name(f"{folder.name}.safetensors"), folder, pruning, target)
        for before, folder, target in zip(sources, folders, targets, strict=False)
    ]


def _find_checkpoint(source):
    return find_best_checkpoint(source) if source.is_dir() else source


def _describe(checkpoint):
    cfg, about = describe_run(checkpoint)
    if cfg is None:
        raise UserError(f"{checkpoint} must say the configuration of its run: export it again, or give the run")
    return cfg, about


def _name_result(source, pruning):
    run = source if source.is_dir() else source.parents[1]
    ratio = pruning.ratio
    words = [f"{part}-{100 * r:g}" for part, r in ratio.items()] if isinstance(ratio, Mapping) else [f"{100 * ratio:g}"]
    words += [word for word in (pruning.scope, pruning.importance) if word not in ("layer", "magnitude")]
    return run.with_name("-".join([run.name, "pruned", *words]))


def check_pruning(cfg: Config, pruning: Pruning, model: nn.Module) -> None:
    """Raise UserError for a network that cannot be pruned so; `cfg` is of the training that follows."""
    for reason in _find_obstacles(cfg, pruning, getattr(model, "design", None)):
        raise UserError(reason)


def _find_obstacles(cfg: Config, pruning: Pruning, design: Any) -> Iterator[str]:
    train, weights = cfg.train, pruning.scope == "weights"
    if train.freeze or train.freeze_bn:
        key, off = ("train.freeze", "[]") if train.freeze else ("train.freeze_bn", "false")
        yield f"{key} must be off, or what is frozen could not adapt to the pruning: add {key}={off}"
    if pruning.scope != "layer" and isinstance(pruning.ratio, Mapping):
        yield f"--scope {pruning.scope} needs one --ratio, got ratios of parts: give a number"
    if weights and pruning.importance != "magnitude":
        yield "--importance is of channels, and --scope weights removes none: drop one"
    if is_import_path(cfg.model.name) and not weights:
        yield f"model.name={cfg.model.name}: an own network takes no plan of widths: use --scope weights"
    for key, value, reason in UNFOLLOWED if design and not weights else ():
        if getattr(design, key) == value or (value is ANY and getattr(design, key)):
            yield f"model.{key}={getattr(design, key)}: {reason}: train another network, or use --scope weights"
    if pruning.importance == "bn" and design and design.norm in ("group", "none"):
        yield f"--importance bn needs batch norms, got model.norm={design.norm}: use magnitude"


def _plan_targets(model: nn.Module, pruning: Pruning) -> list[Target]:
    """Return what each step leaves, or takes of what is there by then."""
    shares = [step / pruning.steps for step in range(pruning.steps + 1)]
    if isinstance(pruning.ratio, Mapping) or pruning.scope == "layer":
        parts = [part for part in split_into_parts(model) if part not in structured.KEPT_PARTS]
        ratios = pruning.ratio if isinstance(pruning.ratio, Mapping) else dict.fromkeys(parts, pruning.ratio)
        by_step = [{part: ratio * share for part, ratio in ratios.items()} for share in shares[1:]]
        return [structured.plan_widths(model, ratios) for ratios in by_step]
    if pruning.scope == "weights":
        return [pruning.ratio * share for share in shares[1:]]
    left = [1 - pruning.ratio * share for share in shares]
    return [1 - after / before for before, after in pairwise(left)]


# Prune


def write_pruned(step: Step) -> PruneReport:
    """Prune the best weights of a run, and write them as safetensors.

    The file says its network, with its plan of widths, and where it came from. Raises UserError where the network
    cannot be followed; then there is no file.
    """
    checkpoint = _find_checkpoint(step.source)
    trained, (cfg, about) = resolve_source(checkpoint), _describe(checkpoint)
    model = trained.model
    before, network, zeros, whole = _count(model), cfg.model, 0, list[str]()
    if step.pruning.scope == "weights":
        zeros = unstructured.zero_weights(model, float(step.target))  # type: ignore[arg-type]
    else:
        pruned, whole = _prune_layers(model, step.pruning, step.target)
        network = network.model_copy(update={"widths": _make_plan(network, pruned)})
        model = _rebuild(network, pruned)
    config = about["config"] | {"model": network.model_dump(mode="json")}
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    about |= {"config": config, "model": config["model"], "classes": list(trained.classes)}
    about |= {"preprocessing": preprocessing.extract_preprocessing(config["data"])}
    about |= {"pruning": {"source": str(step.source), "sha256": digest, **step.pruning._asdict(), "zeros": zeros}}
    safetensors.write_safetensors(step.path, model.state_dict(), about)
    return PruneReport(step.path, config["model"]["widths"] or {}, (before, _count(model)), zeros, whole)


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
    cfg, _ = _describe(_find_checkpoint(step.source))
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
