"""Find networks and weights by name.

videores/<name>                 weights that come with this package
hub:<user>/<name>[@<revision>]  weights on the Hugging Face Hub, downloaded once into its cache
<folder>                        of `save_pretrained`, which holds model.safetensors
"""

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from videores.errors import UserError, format_suggestion
from videores.models import pytorchvideo
from videores.models.resnet import MODELS

HUB_FILE = "model.safetensors"  # the only file of a hub folder that is read
HUB_ADVICE = 'the hub needs the package huggingface_hub: pip install -e ".[hub]"'
SHIPPED = Path(__file__).parent


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """List networks for `create_model`, or weights for `videores.load`.

    Args:
        pattern: of the name or, of weights, of the network in it, as in "r2plus1d*".
        pretrained: list weights, those that come with videores and those of torchvision.
    """
    if not pretrained:
        return [name for name in (*MODELS, *pytorchvideo.NAMES) if fnmatch(name, pattern)]
    known = {name: name.partition("/")[2] for name in _list_shipped()} | _list_torchvision()
    return [name for name, network in known.items() if fnmatch(name, pattern) or fnmatch(network, pattern)]


def _list_shipped() -> list[str]:
    return [f"videores/{path.stem}" for path in sorted(SHIPPED.glob("*.safetensors"))]


def _list_torchvision() -> dict[str, str]:
    """Return {name of weights: name of the network here}."""
    from torchvision import models

    ours = {name: find_torchvision_network(name) for name in models.list_models()}
    return {
        f"torchvision/{name}/{weights.name}": network
        for name, network in ours.items()
        if network
        for weights in models.get_model_weights(name)
    }


def find_torchvision_network(name: str) -> str | None:
    """Return the name here of a network of torchvision, or None."""
    return next((n for n in (name, name.replace("resnet", "f_r2d_", 1), f"f_{name}") if n in MODELS), None)


def find_file(source: str | os.PathLike[str]) -> str:
    """Return the file that a name stands for, or the source if it is no name.

    Raises UserError for a name that stands for nothing, and where the hub cannot be reached.
    """
    source = os.fspath(source)
    if source.startswith("hub:"):
        repository, _, revision = source.removeprefix("hub:").partition("@")
        return download_file(repository, revision=revision or None)
    path = Path(source)
    if path.is_dir() and (path / HUB_FILE).is_file() and not (path / "config.yaml").exists():
        return str(path / HUB_FILE)
    if path.exists() or not source.startswith("videores/"):
        return source
    if source not in _list_shipped():
        hint = format_suggestion(source, _list_shipped())
        raise UserError(f"{source}: no such network comes with videores{hint}; there are {', '.join(_list_shipped())}")
    return str(SHIPPED / f"{source.partition('/')[2]}.safetensors")


def download_file(repository: str, **options: Any) -> str:
    """Download model.safetensors of a repository on the hub; return its path.

    It is kept in the hub's cache. `options` are of `huggingface_hub.hf_hub_download`. Raises UserError.
    """
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError:
        raise UserError(HUB_ADVICE) from None
    try:
        return hf_hub_download(repository, HUB_FILE, **options)
    except errors.RemoteEntryNotFoundError:
        raise UserError(
            f"hub:{repository} must have {HUB_FILE}, the only file that is read, pickles are not: "
            "give a repository that videores wrote"
        ) from None
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"hub:{repository} cannot be downloaded: {reason}; check the name <user>/<name>, or hf auth login"
        ) from None
