"""Read the run whose network is made smaller."""

from pathlib import Path
from typing import Any

from videores.config.schema import Config
from videores.errors import UserError
from videores.inference.export import describe_run
from videores.inference.exported import load_exported
from videores.training.run_files import find_best_checkpoint


def read_run(source: Path) -> tuple[Path, Config, dict[str, Any]]:
    """Return the checkpoint of a run, its configuration, and what exported files say of it.

    `source` is a run folder, of which it is the best checkpoint, a checkpoint, or a safetensors file. Raises UserError
    for an exported or quantised file, and one that does not say its configuration.
    """
    if source.suffix in (".onnx", ".pt2") and source.is_file():
        kind = "a quantised file" if load_exported(source).about.quantised else "an exported graph"
        raise UserError(f"{source} must be a run folder or a checkpoint, got {kind}: give the run that it was made of")
    checkpoint = find_best_checkpoint(source) if source.is_dir() else source
    cfg, about = describe_run(checkpoint)
    if cfg is None:
        raise UserError(f"{checkpoint} must say the configuration of its run: export it again, or give the run")
    if cfg.model.streams:
        raise UserError(
            f"{checkpoint} has a network for each of several streams, which is not made smaller: give one of one"
        )
    return checkpoint, cfg, about
