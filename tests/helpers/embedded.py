"""Read an embedded data set as it lies on disk, without any code of ours."""

import csv

import av
import numpy as np


def decode(path):
    """All frames_THWC of a sequential decode."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def rows(root, split):
    """The rows of a list as dicts."""
    with open(root / f"{split}.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(root):
    """Relative path -> bytes of every file."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
