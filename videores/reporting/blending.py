"""Find the loss weights of Gradient-Blending in the logs of runs, for `tools/evaluate.py --blend`."""

import math
from collections.abc import Sequence
from pathlib import Path

from videores.config.parse import load_config
from videores.config.schema import Config
from videores.config.streams import JOINT, list_streams
from videores.errors import UserError
from videores.evaluation.blending import Losses, compute_blend
from videores.models.weights import safe_load
from videores.training.callbacks.metrics_log import read_metrics_log
from videores.training.run_folder import find_best_checkpoint, read_record


def blend_runs(folders: Sequence[Path]) -> int:
    """Print the loss weights that follow from runs of each stream and of all together.

    They are of the same videos. Raises UserError for runs that lack a classifier, and where nothing was held out.
    """
    if others := [folder for folder in folders if not (folder / "config.yaml").is_file()]:
        raise UserError(f"--blend needs runs of tools/train.py, and {others[0]} is none: it has no config.yaml")
    cfgs = {folder: load_config(folder / "config.yaml") for folder in folders}
    ends, classes = _collect_ends(cfgs)
    names = next((list_streams(cfg.data.stream) for cfg in cfgs.values() if cfg.model.fusion == JOINT), ())
    missing = [name for name in (JOINT, *names) if name not in ends]
    if missing:
        raise UserError(f"--blend needs a run in which the classifier of {missing[0]} trains: add it")
    chance = math.log(classes)  # of a network that has learned nothing, on any videos
    found = compute_blend(Losses(chance, chance), {name: ends[name] for name in (JOINT, *names)})
    print(f"loss     train     val       G       O     O/G  weight  (start: {chance:.3f}, all {classes} classes alike)")
    for name, blend in found.items():
        ratio = "     -" if blend.ratio is None else f"{blend.ratio:6.2f}"
        losses = f"{ends[name].train:7.3f} {ends[name].val:7.3f}"
        learned = f"{blend.generalization:7.3f} {blend.overfitting:7.3f}"
        print(f"       {losses} {learned}  {ratio}  {blend.weight:6.3f}  {name}")
    if not round(found[JOINT].weight, 4):
        raise UserError(
            f"the classifier {JOINT} would have no weight, but it is tested: its loss on validation videos must fall "
            f"below the {chance:.3f} of the start, and it must not overfit far more than others: train its run again"
        )
    weights = ", ".join(f"{name}: {blend.weight:.4f}" for name, blend in found.items())
    print(f"train with 'train.loss_weights={{{weights}}}'")
    return 0


def _collect_ends(cfgs):
    """Return {classifier: its last losses} of all runs, and the number of classes."""
    ends: dict[str, Losses] = {}
    origin: dict[str, Path] = {}
    first, *others = [(folder, _identify_videos(folder)) for folder in cfgs]
    if different := [folder for folder, videos in others if videos != first[1]]:
        raise UserError(f"--blend needs runs of the same videos and classes, and {first[0]} and {different[0]} differ")
    for folder, cfg in cfgs.items():
        for name, losses in _read_ends(folder, cfg).items():
            if name in ends:
                raise UserError(
                    f"--blend needs one run of each classifier, got two of {name}: {origin[name]}, {folder}"
                )
            ends[name], origin[name] = losses, folder
    return ends, len(first[1]["classes"])


def _identify_videos(folder):
    stored = safe_load.read_checkpoint(find_best_checkpoint(folder))
    lists = (read_record(folder) or {}).get("lists", {})
    return {"classes": stored["hyper_parameters"]["classes"], "lists": [lists.get(part) for part in ("train", "val")]}


def _read_ends(folder: Path, cfg: Config) -> dict[str, Losses]:
    """Return the last losses of each classifier that trains in a run."""
    rows = [row for row in read_metrics_log(folder / "metrics.jsonl") if {"val/loss", "train_eval/loss"} <= row.keys()]
    if not rows or None in rows[-1].values():  # of a run that diverged
        raise UserError(
            f"{folder} has no last losses on training and held-out videos: --blend measures overfitting on videos of "
            "other groups, so data.val must be > 0, the lists must have groups, and train.gap_videos must be > 0"
        )
    if isinstance(cfg.data.stream, str):
        return {cfg.data.stream: Losses(rows[-1]["train_eval/loss"], rows[-1]["val/loss"])}
    names = [key.removeprefix("val/loss_") for key in rows[-1] if key.startswith("val/loss_")]
    return {name: Losses(rows[-1][f"train_eval/loss_{name}"], rows[-1][f"val/loss_{name}"]) for name in names}
