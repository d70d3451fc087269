"""Networks by name: create_model("r2plus1d_18", num_classes=101), clips_BCTHW -> logits_BN."""

from videores.models.registry import create_model
from videores.models.resnet import MODELS

__all__ = ["MODELS", "create_model"]
