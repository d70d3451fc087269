"""Write checkpoints so that a kill or a full disk leaves a good one; read them.

A run continues from `last.ckpt`, else from `last-previous.ckpt`, the one before it; `best.ckpt` is tested.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from videores.errors import UserError
from videores.models.weights.safe_load import check_run_checkpoint, list_differences, read_checkpoint
from videores.runtime.files import remove_temporary_files, write_atomically
from videores.training.module import VideoClassifier
from videores.training.run_files import BEST_CHECKPOINT, LAST_CHECKPOINT, PREVIOUS_CHECKPOINT


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints for Lightning, and keep an OSError in `write_error`.

    It is not raised here: Checkpointing.save tells all ranks, so that they stop together.
    """

    def __init__(self) -> None:
        self.write_error: OSError | None = None

    def try_write(self, write: Callable[..., None], *args: Any) -> None:
        """Call a function that writes, and keep its OSError."""
        try:
            write(*args)
        except OSError as error:
            self.write_error = error

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.try_write(write_checkpoint, checkpoint, Path(path))

    def load_checkpoint(self, path, map_location=None, weights_only=True):
        return read_checkpoint(path)

    def remove_checkpoint(self, path):
        Path(path).unlink(missing_ok=True)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole and to the disk, or leave the old file.

    A last.ckpt that is replaced becomes last-previous.ckpt. Raises OSError, then nothing is left over.
    """
    with write_atomically(path) as temporary:
        with temporary.open("wb") as file:
            recorder: Any = _ErrorRecordingFile(file)
            try:
                torch.save(content, recorder)
            except Exception:  # torch turns a full disk into an error of its own, without the reason
                if recorder.error:
                    raise recorder.error from None
                raise
            file.flush()
            os.fsync(file.fileno())
        _keep_previous(path)
    _fsync_folder(path.parent)


class _ErrorRecordingFile:
    """Write to a file and record the error that this ends with."""

    def __init__(self, file):
        self.file, self.error, self.flush = file, None, file.flush

    def write(self, data):
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise


def copy_as_last(path: Path) -> None:
    """Make a checkpoint that was just written the last one, too."""
    last = path.with_name(LAST_CHECKPOINT)
    _keep_previous(last)
    _link_or_copy(path, last)
    _fsync_folder(path.parent)


def _keep_previous(path):
    """Give last.ckpt a second name before it is replaced: at no time is there none."""
    if path.name == LAST_CHECKPOINT and path.exists():
        _link_or_copy(path, path.with_name(PREVIOUS_CHECKPOINT))


def _link_or_copy(path, other):
    """Replace `other` by a link to `path`, or a copy where there are no links."""
    with write_atomically(other) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def _fsync_folder(folder):
    """Write the names in a folder to the disk; Windows has no such thing."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def read_newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """Return (path, content, errors of newer ones) of the newest whole checkpoint.

    Returns None without any. Raises UserError where there are some, and all are damaged.
    """
    errors: list[str] = []
    for path in (folder / name for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT)):
        if not path.exists():
            continue
        try:
            stored = read_checkpoint(path)
            check_run_checkpoint(path, stored)
            return path, stored, errors
        except UserError as error:
            errors.append(str(error))
    if errors:
        lines = "\n  ".join(errors)
        raise UserError(
            f"{folder} must hold a whole checkpoint, and all are damaged: begin anew, run.overwrite=true\n  {lines}"
        )
    return None


def remove_partial_checkpoints(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    remove_temporary_files(folder / name for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, BEST_CHECKPOINT))


def restore_weights(module: VideoClassifier, path: Path) -> dict[str, Any]:
    """Copy a checkpoint's weights into a module of the same network and classes.

    Returns the "epoch" and "step" of the checkpoint, the "gap" that was measured of these weights, or None, and the
    "config" that they were trained with. Raises UserError for a file that is damaged or does not fit.
    """
    stored = read_checkpoint(path)
    check_run_checkpoint(path, stored)
    config = stored["hyper_parameters"]["config"]
    check_same_classes(path, stored["hyper_parameters"]["classes"], module.classes)
    lines = list_differences(stored["state_dict"], module.state_dict())
    if lines:
        raise UserError(
            f"{path} must hold the configured network ({module.cfg.model.name}), got {config['model']['name']}: "
            f"{len(lines)} tensors differ (checkpoint / configuration)\n  " + "\n  ".join(lines[:10])
        )
    module.load_state_dict(stored["state_dict"])
    gap = extract_gap(stored)
    return {"epoch": stored["epoch"], "step": stored["global_step"], "gap": gap, "config": config}


def extract_gap(stored: dict[str, Any]) -> dict[str, float] | None:
    """Return the gap of a checkpoint's weights, or None if the last validation was before them."""
    measured = stored.get("measured") or {"step": None}
    return measured["gap"] if measured["step"] == stored["global_step"] else None


def check_same_classes(path: Path | str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Raise UserError where the classes of a checkpoint are not those of the data."""
    if theirs != ours:
        pairs = [f"{i}: {a} / {b}" for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b]
        raise UserError(
            f"{path}: its {len(theirs)} classes must be the {len(ours)} of the data, in the same order; model.weights "
            "starts a training with another classifier (checkpoint / data):\n  "
            + "\n  ".join(pairs[:10] or [f"from number {min(len(theirs), len(ours))} on"])
        )
