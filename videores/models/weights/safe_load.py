"""Read a checkpoint without executing code in it, and verify its checksums."""

import pickle
import re
import zipfile

import torch

from videores.errors import UserError


def read_checkpoint(path):
    """What torch.load reads, every byte checked: torch does not look at the checksums that its files have."""
    check_local_path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give a file in it, such as checkpoints/best.ckpt of a run") from None
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        raise UserError(f"{path} is not a checkpoint that loads safely: {format_reason(error)}") from None
    wrong = find_corrupt_entry(path)
    if wrong:
        raise UserError(f"{path} is damaged: a checksum is wrong ({wrong})")
    return content


def find_corrupt_entry(path):
    """What in the file has a wrong one, or None; files from before torch 1.6 have none at all."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:  # a flipped bit may say how it is packed
        return str(error)


def check_local_path(path):
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", str(path)):  # a Path has lost one of the two slashes
        raise UserError(f"{path} is an address: download it, check its hash, and give the file")


def format_reason(error):
    """Why torch.load refused, in a line. torch's own words on unpickling advise to load without the check; of a text
    file it says a number, of an empty one nothing."""
    if isinstance(error, (pickle.UnpicklingError, LookupError, EOFError)):
        return "it is damaged, of another kind, or holds objects or code, not only tensors"
    return (str(error) or type(error).__name__).splitlines()[0]


def extract_config(stored):
    """The configuration in what was read, or None where that is no checkpoint of a run: those of other projects that
    use Lightning have "hyper_parameters" too."""
    known = stored.get("hyper_parameters") if isinstance(stored, dict) and "state_dict" in stored else None
    config = known.get("config") if isinstance(known, dict) and "classes" in known else None
    return config if isinstance(config, dict) and {"data", "model"} <= config.keys() else None


def list_differences(theirs, ours):
    """`key: shape there / shape here` of the tensors that only one state dict has, or that differ in shape."""
    shape = lambda state, key: list(state[key].shape) if key in state else "absent"
    pairs = {key: (shape(theirs, key), shape(ours, key)) for key in {**ours, **theirs}}
    return [f"{key}: {there} / {here}" for key, (there, here) in pairs.items() if there != here]
