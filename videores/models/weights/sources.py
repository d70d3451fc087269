"""Read weights from where they come: runs, exported files, torchvision, other libraries."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import torch

from videores.errors import UserError, format_suggestion
from videores.models.weights import keras_file, key_maps, safe_load, safetensors
from videores.models.weights.channel_order import append_padded_channels
from videores.models.weights.names import find_file
from videores.models.weights.preprocessing import extract_preprocessing
from videores.runtime.own_parts import is_import_path

LAYOUTS = ("torchvision", "vmz", "mmaction2", "pytorchvideo", "akamaster", "keras")
CONTAINERS = ("state_dict", "model_state", "model_state_dict", "model")  # what trainers call weights in checkpoints
WRAPPERS = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile, Lightning, before every name
TORCHVISION_VIDEO = {"frames": 16, "fps": 15.0}  # of its Kinetics-400 ResNets, from their documentation


@dataclass(frozen=True)
class StoredWeights:
    """Weights under our names, and what is known of them: None where the source does not say."""

    state: dict
    classes: list | None = None
    preprocessing: dict | None = None  # mean, std, crop, short_side, frames, stride, fps, as far as known
    eps: float | None = 1e-5  # of the norms that the weights were trained with; None: as the model's
    network: dict | None = None  # what is known of the network that they were trained in: keys of `model`
    usual: str | None = None  # the preprocessing of the library's own weights, where the file has none
    warning: str | None = None  # what nothing in the file can show


# Sources


def read_source(source: str | os.PathLike[str], model: Any) -> StoredWeights:
    """Read the weights of a source, under the names of the model that they are for."""
    source = os.fspath(source)
    name, colon, path = source.partition(":")
    if source.startswith("torchvision/") and not Path(source).exists():
        return _read_torchvision(source)
    if colon and name in LAYOUTS:
        return _read_library(name, path, model)
    safe_load.check_local_path(source)
    source = find_file(source)
    if source.endswith(".safetensors"):
        return _read_exported(source)
    stored = safe_load.read_checkpoint(source)
    if safe_load.is_run_checkpoint(stored):
        safe_load.check_run_checkpoint(source, stored)
        return _read_run(stored)
    _check_named_tensors(source, stored)


def _read_torchvision(source):
    """Read weights of torchvision's list, with its addresses, cache and hash check."""
    from torchvision import models

    model, _, name = source.removeprefix("torchvision/").partition("/")
    if model not in models.list_models():
        hint = format_suggestion(model, models.list_models())
        raise UserError(f"{source}: torchvision has no network {model!r}{hint}")
    known = {w.name: w for w in models.get_model_weights(model)}
    if name not in known:
        raise UserError(f"{source}: torchvision's {model} has the weights {', '.join(known) or '(none)'}")
    weights = known[name]
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise UserError(
            f"{source}: cannot download {weights.url} ({error}): put that file into {torch.hub.get_dir()}/checkpoints"
        ) from None
    except OSError:
        raise  # a full or forbidden disk, which the tools report by themselves
    except Exception as error:
        what = safe_load.format_reason(error)
        file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        raise UserError(f"{source}: {file} does not load safely ({what}): delete it to download it again") from None
    preprocessing = _read_torchvision_preprocessing(weights)
    network = {"stem": "nopool" if "fps" in preprocessing else "pool"}
    return StoredWeights(state, list(weights.meta["categories"]), preprocessing, network=network)


def _read_torchvision_preprocessing(weights):
    preset = weights.transforms()
    sizes = {"crop": preset.crop_size[0], "short_side": min(preset.resize_size)}
    known = {"mean": list(preset.mean), "std": list(preset.std), **sizes}
    return known | (TORCHVISION_VIDEO if len(preset.resize_size) == 2 else {})


def _read_library(name, path, model):
    if name == "keras":
        state, eps = keras_file.read_network(path, model)
        return StoredWeights(state, eps=eps, usual=keras_file.USUAL)
    state = safe_load.read_checkpoint(path)
    if safe_load.is_run_checkpoint(state):
        raise UserError(f"{path} is of a run of tools/train.py: leave out the prefix, model.weights={path}")
    for key in CONTAINERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not _is_state_dict(state):
        keys = f", got the keys {', '.join(map(str, list(state)[:10]))}" if isinstance(state, dict) else ""
        raise UserError(f"{path} must hold names of parameters and their tensors, alone or as state_dict{keys}")
    state = _remove_wrappers(state)
    if name == "torchvision" and key_maps.guess_layout(state) == "akamaster":
        raise UserError(
            f"{path} has linear.weight, as CIFAR networks whose shortcuts may order channels otherwise: "
            f"give akamaster:{path}, which reorders them"
        )
    if name == "akamaster" and "linear.weight" not in state:
        raise UserError(
            f"{path} has no linear.weight, as that project has: whether its channels were reordered is not known. Load "
            f"the original file, or give torchvision:{path} if they were"
        )
    layout = key_maps.detect_layout(name, state, model)
    state, usual = key_maps.rename_keys(state, layout.rules), f"{name}'s own weights use {layout.usual}"
    state = append_padded_channels(state, path) if name == "akamaster" else state
    first = state.get("conv1.weight")  # the 2D networks of these libraries have a max-pool after the 7x7 convolution
    network = {"stem": "pool"} if first is not None and first.ndim == 4 and first.shape[-1] == 7 else None
    network = {"stem": "cifar"} if name == "akamaster" else network
    warning = _warn_padded_channels(model) if name == "torchvision" else None
    return StoredWeights(state, eps=layout.eps, network=network, usual=usual, warning=warning)


def _warn_padded_channels(model):
    """Return what to check where shortcuts without weights add channels, whose order no file shows."""
    if any(getattr(module, "new_channels", 0) for module in model.modules()):
        return (
            "shortcuts without weights append their channels here; a file of akamaster's that was renamed but not "
            "reordered fits and is wrong: check the accuracy on a few pictures"
        )
    return None


def _remove_wrappers(state):
    """Return tensors under their names without the prefixes that all names share."""
    while wrapper := next((name for name in WRAPPERS if all(key.startswith(name) for key in state)), None):
        state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state


def _read_run(stored):
    known = stored["hyper_parameters"]
    state = safe_load.extract_network(stored)
    data, model = known["config"]["data"], known["config"]["model"]
    return StoredWeights(state, known["classes"], extract_preprocessing(data), _find_eps(model), model)


def _read_exported(source):
    state, about = safetensors.read_safetensors(source)
    return StoredWeights(state, about["classes"], about["preprocessing"], _find_eps(about["model"]), about["model"])


def _find_eps(model):
    return None if is_import_path(model["name"]) else model.get("norm_eps") or 1e-5


def _check_named_tensors(source: str, stored: Any) -> NoReturn:
    while isinstance(stored, dict) and not _is_state_dict(stored) and any(key in stored for key in CONTAINERS):
        stored = next(stored[key] for key in CONTAINERS if key in stored)
    looks = key_maps.guess_layout(_remove_wrappers(stored)) if _is_state_dict(stored) else None
    hint = f", and its names look like {looks}'s" if looks else ""
    choice = ", ".join(f"{name}:{source}" for name in LAYOUTS)
    raise UserError(f"{source} was not written by tools/train.py{hint}: say whose file it is, one of {choice}")


def _is_state_dict(value):
    is_entry = lambda name, tensor: isinstance(name, str) and isinstance(tensor, torch.Tensor)
    return isinstance(value, dict) and bool(value) and all(is_entry(*entry) for entry in value.items())
