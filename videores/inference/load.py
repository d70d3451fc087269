"""Load a trained network as a predictor: videores.load."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videores.inference.predictor import Predictor
from videores.inference.source import resolve_source


def load(
    source: str | Path,
    *,
    device: str = "cpu",
    network: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> Predictor:
    """Load a run folder, a checkpoint, an exported file, or weights by name.

    Names are `torchvision/<model>/<weights>`, `videores/<name>` (`videores.list_models(pretrained=True)`), and
    `hub:<user>/<name>` on the Hugging Face Hub.

    The predictor has `.classes`, `.preprocessing`, `.model`, `.predict(video)` and `.stream(frames)`. A file of another
    library, `<layout>:<file>`, needs `network`, keys of `model` of a configuration, and `classes`, their names in
    order. Raises UserError.
    """
    return Predictor(resolve_source(source, device, network=network, classes=classes))
