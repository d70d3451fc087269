"""videores: residual networks on video, how they overfit and what they cost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videores.inference.load import load
    from videores.models.weights.names import list_models

__version__ = "0.1.0"
__all__ = ["list_models", "load"]

_HOMES = {"load": "videores.inference.load", "list_models": "videores.models.weights.names"}


def __getattr__(name: str) -> Any:
    """Import a function on first use, so that helper processes, which import videores, need not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
