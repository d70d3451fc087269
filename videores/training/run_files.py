"""Name the checkpoints of a run folder. Imports nothing heavy, so that a network is loaded without Lightning."""

from pathlib import Path

LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, BEST_CHECKPOINT = "last.ckpt", "last-previous.ckpt", "best.ckpt"


def find_best_checkpoint(folder: Path) -> Path:
    """Return the path of best.ckpt, or of last.ckpt where nothing was validated."""
    best, last = (folder / "checkpoints" / name for name in (BEST_CHECKPOINT, LAST_CHECKPOINT))
    return best if best.exists() else last
