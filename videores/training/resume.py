"""Find the checkpoint to resume from, and edit Lightning's loop progress in it.

What else makes a resumed run exact: checkpoint_io.py finds the newest whole file, callbacks/checkpointing.py decides
when one is written, data/datamodule.py goes on within the epoch, module.py seeds each step, callbacks/metrics_log.py
cuts rows of steps that are trained again, callbacks/inexact_resume.py begins an epoch again.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videores.config import parse
from videores.config.schema import Config
from videores.errors import UserError
from videores.training import checkpoint_io, optim

CHANGEABLE_KEYS = {  # keys that may differ when a run resumes: they do not change what it computes
    *("run.dir", "run.name", "run.resume", "run.overwrite", "run.checkpoint_steps", "run.checkpoint_minutes"),
    *("data.root", "data.splits", "data.flow", "data.source", "data.workers", "data.cache"),
    *("train.gap_videos", "watch.gradients", "watch.activations", "watch.tensorboard", "watch.wandb"),
    *("trainer.log_every", "trainer.timeout"),
    *("trainer.devices", "trainer.num_nodes"),  # what counts is the number of ranks, which is in the signature
}
# keys that begin so change what it computes a little
INEXACT_KEY_PREFIXES = ("trainer.", "data.batch_size", "train.accumulate")


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to continue from; `inexact` lists what is different now."""

    path: Path
    step: int
    inexact: list[str]


def find_resume_point(
    cfg: Config, folder: Path, signature: dict[str, Any], classes: Sequence[str]
) -> ResumePoint | None:
    """Return the point from which a run continues, or None.

    `signature` is what trainer.make_resume_signature returns now, and the hashes of the lists of videos. Raises
    UserError where the run cannot continue, or cannot continue bit-exactly and run.resume is not inexact.
    """
    newest = checkpoint_io.read_newest_checkpoint(folder / "checkpoints") if cfg.run.resume != "none" else None
    if newest is None:
        return None
    path, stored, errors = newest
    if errors:
        print(
            f"warning: {errors[0]}\n         continuing from {path}, of step {stored['global_step']} in epoch "
            f"{stored['epoch']}: the steps between the two are trained again",
            file=sys.stderr,
        )
    exact, inexact = _compare_configs(stored["hyper_parameters"]["config"], cfg, str(path))
    _check_no_differences(path, exact, f", or train on from its weights in another run, model.weights={path}")
    checkpoint_io.check_same_classes(path, stored["hyper_parameters"]["classes"], classes)
    _check_schedule_count(path, len(stored["lr_schedulers"]), optim.count_schedules(cfg.train))
    before = signature | stored.get("made_with", {})  # an older version did not store all of it
    inexact += [f"{key}: {before[key]} there, {now} now" for key, now in signature.items() if before[key] != now]
    if inexact and cfg.run.resume != "inexact":
        raise UserError(
            f"{path} does not resume bit-exactly: change these back, or continue with run.resume=inexact, which "
            "begins the interrupted epoch again and is recorded in env.json\n  " + "\n  ".join(inexact)
        )
    if inexact and _count_full_epochs(stored["loops"]["fit_loop"]) >= cfg.train.epochs:
        raise UserError(
            f"{path} has trained all of its train.epochs={cfg.train.epochs}, and none is left to train with other "
            f"settings: test it with tools/evaluate.py, or train on in another run, run.name=... model.weights={path}"
        )
    return ResumePoint(path, stored["global_step"], inexact)


def check_same_config(folder: Path, cfg: Config) -> None:
    """Raise UserError where a run without a checkpoint had another configuration."""
    path = folder / "config.yaml"
    _check_no_differences(folder, _compare_configs(parse.read_yaml(path, Config), cfg, str(path))[0])


def _check_no_differences(source, lines, more=""):
    if lines:
        raise UserError(
            f"{source} is of a run of another configuration: change these back, or give another run.name{more}\n  "
            + "\n  ".join(lines)
        )


def _check_schedule_count(path, before, now):
    if before != now:  # Lightning hands out states in turn, and would lose some
        raise UserError(
            f"{path} is of another version of videores: the learning rate had {before} schedules and now has {now}. "
            f"End the run with that version (its commit is in env.json), or begin anew with model.weights={path}"
        )


def _compare_configs(stored: dict[str, Any], cfg: Config, source: str) -> tuple[list[str], list[str]]:
    """Return the lines "key: value there, value now" of keys that must not change.

    The first list is of those that never may, the second of those that run.resume=inexact may change. A key that did
    not exist yet had its default.
    """
    before = flatten_config(parse.dump_config(parse.build_config(stored, source)))
    now = flatten_config(parse.dump_config(cfg))
    lines: tuple[list[str], list[str]] = ([], [])
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in CHANGEABLE_KEYS:
            line = f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
            lines[key.startswith(INEXACT_KEY_PREFIXES)].append(line)
    return lines


def flatten_config(tree: dict[str, Any]) -> dict[str, Any]:
    """Return {"a": {"b": 1}} as {"a.b": 1}."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        inner = flatten_config(value) if isinstance(value, dict) else None
        leaves |= {key: value} if inner is None else {f"{key}.{name}": leaf for name, leaf in inner.items()}
    return leaves


EPOCH_PROGRESS = "epoch_progress"
BATCH_PROGRESS = "epoch_loop.batch_progress"
VALIDATION_PROGRESS = "epoch_loop.val_loop.batch_progress"


def rewind_to_validation_start(loops: dict[str, Any]) -> None:
    """Turn a loop state from within a validation into one from its beginning.

    Lightning counts the batches that were scored, but the scores are not in the checkpoint. It takes up a validation
    whose first batch was begun.
    """
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loops[VALIDATION_PROGRESS] |= {"total": begun, "current": begun, "is_last_batch": False}


def _count_full_epochs(loops: dict[str, Any]) -> int:
    """Return the number of epochs that were trained to their ends."""
    return loops[EPOCH_PROGRESS]["current"]["processed"]


def rewind_to_epoch_start(loops: dict[str, Any]) -> int:
    """Turn a loop state within an epoch into one from its start; return the epoch."""
    epoch, total = _count_full_epochs(loops), loops[BATCH_PROGRESS]["total"]["processed"]
    count_all = lambda number: dict.fromkeys(("ready", "started", "processed", "completed"), number)
    loops[EPOCH_PROGRESS] |= {"total": count_all(epoch), "current": count_all(epoch)}
    loops[BATCH_PROGRESS] |= {"total": count_all(total), "current": count_all(0), "is_last_batch": False}
    return epoch
