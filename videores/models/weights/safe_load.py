"""Read a checkpoint without executing code in it, and verify its checksums."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from typing_extensions import NotRequired, TypedDict

from videores.errors import UserError
from videores.runtime.files import check_type


def read_checkpoint(path: str | Path) -> Any:
    """Read a file of torch.save, without executing code, and verify its checksums.

    Raises UserError. torch does not look at the checksums that its files have.
    """
    check_local_path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give a file in it, such as checkpoints/best.ckpt of a run") from None
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        raise UserError(f"{path} is not a checkpoint that loads safely: {format_reason(error)}") from None
    wrong = _find_corrupt_entry(path)
    if wrong:
        raise UserError(f"{path} is damaged: a checksum is wrong ({wrong})")
    return content


def _find_corrupt_entry(path):
    """Return the entry of the file with a wrong checksum, or None.

    Files from before torch 1.6 have no checksums.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except Exception as error:  # a flipped bit may say anything of how it is packed or named
        return str(error) or type(error).__name__


def check_local_path(path: str | Path) -> None:
    """Check that a path is not an address."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", str(path)):  # a Path has lost one of the two slashes
        raise UserError(f"{path} is an address: download it, check its hash, and give the file")


def format_reason(error):
    """Format why torch.load refused, in a line, without its advice to load unsafely."""
    text = str(error)
    if held := re.search(r"GLOBAL (\S+)", text):
        return f"it holds {held[1]}, not only tensors: where it was written, save model.state_dict() alone"
    if "TorchScript" in text:
        return "it is a TorchScript program: save torch.jit.load(...).state_dict() by torch.save, and give that file"
    if isinstance(error, (pickle.UnpicklingError, LookupError, EOFError)):
        return "it is damaged, of another kind, or holds objects or code, not only tensors"
    return (str(error) or type(error).__name__).splitlines()[0]


class _Transform(TypedDict):
    mean: list[float]
    std: list[float]


class _Data(TypedDict):
    clip: dict[str, Any]
    transform: _Transform


class _Model(TypedDict):
    name: str
    norm_eps: NotRequired[float | None]


class _Config(TypedDict):
    data: _Data
    model: _Model


class _HyperParameters(TypedDict):
    config: _Config
    classes: list[str]


class _Measured(TypedDict):
    step: int | None
    gap: NotRequired[dict[str, Any] | None]


class _RunCheckpoint(TypedDict):
    """The content of a run's checkpoint, as far as it is read here; the rest is Lightning's."""

    state_dict: dict[str, torch.Tensor]
    hyper_parameters: _HyperParameters
    epoch: int
    global_step: int
    measured: NotRequired[_Measured | None]
    made_with: NotRequired[dict[str, Any]]
    lr_schedulers: NotRequired[list[Any]]


def is_run_checkpoint(stored: Any) -> bool:
    """Return whether tools/train.py wrote a checkpoint."""
    known = stored.get("hyper_parameters") if isinstance(stored, dict) and "state_dict" in stored else None
    config = known.get("config") if isinstance(known, dict) and "classes" in known else None
    return isinstance(config, dict) and {"model", "data"} <= config.keys()


def check_run_checkpoint(path: str | Path, stored: Any) -> None:
    """Raise UserError where tools/train.py has not written a checkpoint as it is."""
    if not is_run_checkpoint(stored):
        raise UserError(f"{path} was not written by tools/train.py: it needs weights, configuration and classes")
    check_type(stored, _RunCheckpoint, path, "take another checkpoint, or train again")


def extract_network(stored: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the network's weights in a checkpoint of a run, without a decoder's."""
    state = stored["state_dict"]
    return {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}


def list_differences(theirs: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor]) -> list[str]:
    """Return lines `key: shape there / shape here` of tensors that differ.

    They are in only one state dict, or of another shape.
    """
    shape = lambda state, key: list(state[key].shape) if key in state else "absent"
    pairs = {key: (shape(theirs, key), shape(ours, key)) for key in {**ours, **theirs}}
    return [f"{key}: {there} / {here}" for key, (there, here) in pairs.items() if there != here]
