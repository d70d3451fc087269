"""Find the checkpoint to resume from, and read and edit Lightning's loop progress in it."""

import sys
from dataclasses import dataclass
from pathlib import Path

from videores.config import parse
from videores.errors import UserError
from videores.training import checkpoint_io, optim

CHANGEABLE_KEYS = {  # keys that may differ when a run resumes: they do not change what it computes
    *("run.dir", "run.name", "run.resume", "run.overwrite", "run.checkpoint_steps", "run.checkpoint_minutes"),
    *("data.root", "data.splits", "data.source", "data.workers", "data.cache"),
    *("train.gap_videos", "watch.gradients", "watch.activations", "watch.tensorboard", "watch.wandb"),
    *("trainer.log_every", "trainer.timeout"),
    *("trainer.devices", "trainer.num_nodes"),  # what counts is how many processes there are: made_with
}
INEXACT_KEY_PREFIXES = (
    "trainer.",
    "data.batch_size",
    "train.accumulate",
)  # keys that begin so change what it computes a little


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to continue from; `inexact` lists what is different now."""

    path: Path
    step: int
    inexact: list


def find_resume_point(cfg, folder, made_with, classes):
    """The Start of a run that continues, or None. Raises UserError where it cannot, or where it would not be exact and
    run.resume is not inexact.

    made_with: {"processes", "device", "precision"} of now (trainer.made_with) and the hashes of the lists of videos.
    """
    found = checkpoint_io.read_newest_checkpoint(folder / "checkpoints") if cfg.run.resume != "none" else None
    if found is None:
        return None
    path, stored, bad = found
    where, step = f"the checkpoint {path}", stored["global_step"]
    warn_lost_steps(path, stored, bad)
    different = compare_configs(stored["hyper_parameters"]["config"], cfg, where)
    check_no_differences(where, [line for key, line in different.items() if not key.startswith(INEXACT_KEY_PREFIXES)])
    checkpoint_io.refuse_other_classes(path, stored["hyper_parameters"]["classes"], classes)
    check_schedule_count(where, len(stored["lr_schedulers"]), optim.count_schedules(cfg.train))
    then = made_with | stored.get("made_with", {})  # an older one did not say all of it
    inexact = [line for key, line in different.items() if key.startswith(INEXACT_KEY_PREFIXES)]
    inexact += [f"{key}: {then[key]} there, {now} now" for key, now in made_with.items() if then[key] != now]
    if inexact and cfg.run.resume != "inexact":
        raise UserError(
            f"{where} would not go on exactly:\n  " + "\n  ".join(inexact) + "\nMake it as it was, or continue "
            "all the same with run.resume=inexact: the interrupted epoch begins again, and env.json says so"
        )
    if inexact and count_full_epochs(stored["loops"]["fit_loop"]) >= cfg.train.epochs:
        raise UserError(
            f"{where} is of a run that has trained its {cfg.train.epochs} epochs: none is left to be continued with "
            "other settings. tools/evaluate.py tests it"
        )
    return ResumePoint(path, step, inexact)


def warn_lost_steps(path, stored, bad):
    if bad:
        print(
            f"warning: {bad[0]}\n         continuing from {path}, of step {stored['global_step']} in epoch "
            f"{stored['epoch']}: the steps between the two are trained again",
            file=sys.stderr,
        )


def check_same_config(folder, cfg):
    """Before there is a checkpoint; afterwards it knows better."""
    path = folder / "config.yaml"
    different = compare_configs(parse.read_yaml(path), cfg, path)
    check_no_differences(folder, [line for key, line in different.items() if not key.startswith(INEXACT_KEY_PREFIXES)])


def check_no_differences(where, lines):
    if lines:
        raise UserError(f"{where} is of a run of another configuration:\n  " + "\n  ".join(lines))


def check_schedule_count(where, then, now):
    """Lightning gives the states to the schedules in turn, and says nothing of what is left over."""
    if then != now:
        raise UserError(
            f"{where} is of another version of videores: the learning rate had {then} schedules and now has {now}. End "
            "the run with that version (its commit is in env.json), or begin anew from its weights with model.weights"
        )


def compare_configs(stored, cfg, where):
    """{key: "key: value there, value now"} of what counts; a key that was not there yet had its default."""
    before, now = (
        flatten_config(parse.dump_config(parse.build_config(stored, where))),
        flatten_config(parse.dump_config(cfg)),
    )
    return {
        key: f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in CHANGEABLE_KEYS
    }


def flatten_config(tree, prefix=""):
    """{"a": {"b": 1}} as {"a.b": 1}."""
    leaves = {f"{prefix}{key}": value for key, value in tree.items() if not isinstance(value, dict)}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flatten_config(value, f"{prefix}{key}.")
    return leaves


EPOCH_PROGRESS, BATCH_PROGRESS, VALIDATION_PROGRESS = (
    "epoch_progress",
    "epoch_loop.batch_progress",
    "epoch_loop.val_loop.batch_progress",
)


def rewind_to_validation_start(loops):
    """Makes a state from within a validation one from its beginning: Lightning counts the batches that were scored, but
    the scores are not kept. It takes up a validation whose first batch was begun."""
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loops[VALIDATION_PROGRESS] |= {"total": begun, "current": begun, "is_last_batch": False}


def count_full_epochs(loops):
    """How many epochs were trained to their ends."""
    return loops[EPOCH_PROGRESS]["current"]["processed"]


def rewind_to_epoch_start(loops):
    """Makes a state from within an epoch one from its beginning. Returns the number of the epoch."""
    epoch, total = count_full_epochs(loops), loops[BATCH_PROGRESS]["total"]["processed"]
    alike = lambda number: dict.fromkeys(("ready", "started", "processed", "completed"), number)
    loops[EPOCH_PROGRESS] |= {"total": alike(epoch), "current": alike(epoch)}
    loops[BATCH_PROGRESS] |= {"total": alike(total), "current": alike(0), "is_last_batch": False}
    return epoch
