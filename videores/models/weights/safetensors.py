"""Write a run's network as safetensors, and read it back."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from videores.errors import UserError
from videores.models.weights import preprocessing, safe_load
from videores.runtime.files import check_type, write_atomically


def export_weights(source: Path, path: Path, more: Mapping[str, Any] = MappingProxyType({})) -> int:
    """Write the network of a checkpoint to `path`; return how many tensors it has.

    `more` are further entries of the metadata, those of ADDED_KINDS.
    """
    stored = safe_load.read_checkpoint(source)
    safe_load.check_run_checkpoint(source, stored)
    known, config = stored["hyper_parameters"], stored["hyper_parameters"]["config"]
    about = {
        "classes": known["classes"],
        "model": config["model"],
        "preprocessing": preprocessing.extract_preprocessing(config["data"]),
        "epoch": stored["epoch"],
        "step": stored["global_step"],
        **more,
    }
    network = safe_load.extract_network(stored)
    write_safetensors(path, network, about)
    return len(network)


def write_safetensors(path: Path, state: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write a state dict and its metadata, each as JSON; equal ones make equal files."""
    own = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        # not save_file, whose error is none of the disk's where that is full
        packed = save(own, {"format": "pt", **{key: json.dumps(value) for key, value in about.items()}})
        temporary.write_bytes(_sort_metadata(packed))


def _sort_metadata(packed: bytes) -> bytes:
    """Sort the metadata of a packed file, which the library writes in another order each time."""
    size = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + packed[8 + size :]


# what the metadata holds, each as JSON
METADATA_KINDS = {
    "classes": list[str],
    "model": dict[str, Any],
    "preprocessing": dict[str, Any],
    "epoch": int,
    "step": int,
}
ADDED_KINDS = {  # older files lack them
    "protocol": str | None,
    "commit": str | None,
    "config": dict[str, Any],
    "record": dict[str, Any],  # of the run that trained it: `inference.record.RunRecord`
    "license": str | None,
    "pruning": dict[str, Any],  # of what is pruned: `compress.pruned_run`
}


def read_safetensors(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the state dict and the metadata of a file.

    The metadata are those of METADATA_KINDS and, where they are, of ADDED_KINDS. Raises UserError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about, state = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"there are no weights {path}") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file that can be read: {error}") from None
    if not METADATA_KINDS.keys() <= about.keys():
        raise UserError(f"{path} was not written by tools/export.py: it does not say what its weights are for")
    kinds = {key: kind for key, kind in {**METADATA_KINDS, **ADDED_KINDS}.items() if key in about}
    check = lambda key, kind: check_type(about[key].encode(), kind, f"{path}: {key}", "tools/export.py writes it again")
    return state, {key: check(key, kind) for key, kind in kinds.items()}
