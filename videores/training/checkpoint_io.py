"""Writing checkpoints so that a kill, a crash or a full disk leaves a good one, and finding it again.

`last.ckpt` is what a run continues from, `last-previous.ckpt` the one before it, `best.ckpt` what is tested.
"""

import os
import shutil
from pathlib import Path

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from videores.errors import UserError
from videores.models.weights import safe_load
from videores.models.weights.safe_load import extract_config, list_differences, read_checkpoint
from videores.runtime.files import remove_temporary_files, write_atomically

LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, BEST_CHECKPOINT = "last.ckpt", "last-previous.ckpt", "best.ckpt"


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's plugin. A failure to write is kept in `failure`, for all processes must learn of it together."""

    def __init__(self):
        self.failure = None

    def attempt(self, function, *args):
        try:
            function(*args)
        except OSError as error:
            self.failure = error

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.attempt(write_checkpoint, checkpoint, Path(path))

    def load_checkpoint(self, path, map_location=None, weights_only=True):
        return safe_load.read_checkpoint(path)

    def remove_checkpoint(self, path):
        Path(path).unlink(missing_ok=True)


def write_checkpoint(content, path):
    """The file at `path` is the old one, or the new one and on the disk. Raises OSError, then nothing is left over."""
    with write_atomically(path) as temporary:
        with temporary.open("wb") as file:
            serialize_checkpoint(content, file)
            file.flush()
            os.fsync(file.fileno())
        keep_previous(path)
    fsync_folder(path.parent)


def serialize_checkpoint(content, file):
    """torch.save; it turns the reason why a disk took no more into an error of its own, which says nothing."""
    guarded = ErrorRecordingFile(file)
    try:
        torch.save(content, guarded)
    except Exception:
        if guarded.error:
            raise guarded.error from None
        raise


class ErrorRecordingFile:
    """A file to write to that remembers the error it ended with."""

    def __init__(self, file):
        self.file, self.error = file, None

    def write(self, data):
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self):
        self.file.flush()


def keep_previous(path):
    """A second name for the last checkpoint, which is about to be replaced: at no time is there none."""
    if path.name == LAST_CHECKPOINT and path.exists():
        link_or_copy(path, path.with_name(PREVIOUS_CHECKPOINT))


def link_or_copy(path, other):
    """`other` becomes the file at `path`: a link where the file system has them, else a copy."""
    with write_atomically(other) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def copy_as_last(path):
    """Makes a checkpoint that was just written the last one, too."""
    last = path.with_name(LAST_CHECKPOINT)
    keep_previous(last)
    link_or_copy(path, last)
    fsync_folder(path.parent)


def fsync_folder(folder):
    """The names in a folder are on the disk; Windows has no such thing."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def read_newest_checkpoint(folder):
    """(path, content, why not the last one) of the newest checkpoint in a folder that is whole; None without any.

    Raises UserError where there are some, and all are damaged.
    """
    bad = []
    for path in (folder / name for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT)):
        if not path.exists():
            continue
        try:
            return path, safe_load.read_checkpoint(path), bad
        except UserError as error:
            bad.append(str(error))
    if bad:
        raise UserError("no checkpoint to continue from; run.overwrite=true starts afresh:\n  " + "\n  ".join(bad))
    return None


def remove_partial_checkpoints(folder):
    """Removes what a process that was killed while it wrote has left."""
    remove_temporary_files(folder / name for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, BEST_CHECKPOINT))


def load_weights(task, path):
    """Copies a checkpoint's weights into a task of the same architecture and classes, else raises UserError.

    Returns {"epoch", "step"}, at which it was written, "gap", as it was measured of these weights, or None, and the
    "config" that they were trained with.
    """
    stored = read_checkpoint(path)
    config = extract_config(stored)
    if config is None:
        raise UserError(f"{path} was not written by tools/train.py: it has no weights, configuration and classes")
    refuse_other_classes(path, stored["hyper_parameters"]["classes"], task.classes)
    refuse_other_network(path, stored, task)
    task.load_state_dict(stored["state_dict"])
    about = {"epoch": stored["epoch"], "step": stored["global_step"], "gap": gap_of(stored)}
    return {**about, "config": config}


def gap_of(stored):
    """None too where the checkpoint was written after other steps than the last validation."""
    measured = stored.get("measured") or {"step": None}
    return measured["gap"] if measured["step"] == stored["global_step"] else None


def refuse_other_classes(path, theirs, ours):
    if theirs != ours:
        pairs = [f"{i}: {a} / {b}" for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b]
        raise UserError(
            f"{path} knows {len(theirs)} classes, the data has {len(ours)}, and they differ (checkpoint / data):\n  "
            + "\n  ".join(pairs[:10] or [f"from number {min(len(theirs), len(ours))} on"])
        )


def refuse_other_network(path, stored, task):
    theirs, ours = stored["state_dict"], task.state_dict()
    lines = list_differences(theirs, ours)
    if lines:
        name = stored["hyper_parameters"]["config"]["model"]["name"]
        raise UserError(
            f"{path} holds another network ({name}) than the configuration asks for ({task.cfg.model.name}): "
            f"{len(lines)} tensors differ (checkpoint / configuration):\n  " + "\n  ".join(lines[:10])
        )
