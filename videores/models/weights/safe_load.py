"""Read a checkpoint without executing code in it, and verify its checksums."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from videores.errors import UserError


def read_checkpoint(path: str | Path) -> Any:
    """Read a file of torch.save, without executing code, and verify its checksums.

    Raises UserError. torch does not look at the checksums that its files have.

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
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:  # a flipped bit may say how it is packed
        return str(error)


def check_local_path(path: str | Path) -> None:
    """Check that a path is not an address."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", str(path)):  # a Path has lost one of the two slashes
        raise UserError(f"{path} is an address: download it, check its hash, and give the file")


def format_reason(error):
    """Format why torch.load refused, in a line."""
    if isinstance(error, (pickle.UnpicklingError, LookupError, EOFError)):
        return "it is damaged, of another kind, or holds objects or code, not only tensors"
    return (str(error) or type(error).__name__).splitlines()[0]


def extract_config(stored: Any) -> dict[str, Any] | None:
    """Return the configuration in a checkpoint of a run, else None."""
    known = stored.get("hyper_parameters") if isinstance(stored, dict) and "state_dict" in stored else None
    config = known.get("config") if isinstance(known, dict) and "classes" in known else None
    return config if isinstance(config, dict) and {"data", "model"} <= config.keys() else None


def list_differences(theirs: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor]) -> list[str]:
    """Return lines `key: shape there / shape here` of tensors that differ.

    They are in only one state dict, or of another shape.
    """
    shape = lambda state, key: list(state[key].shape) if key in state else "absent"
    pairs = {key: (shape(theirs, key), shape(ours, key)) for key in {**ours, **theirs}}
    return [f"{key}: {there} / {here}" for key, (there, here) in pairs.items() if there != here]
