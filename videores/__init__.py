"""videores: residual networks on video, how they overfit and what they cost."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videores.inference.load import load

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import `load` on first use, so that helper processes, which import videores, need not import torch."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from videores.inference.load import load

    return load
