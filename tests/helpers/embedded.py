"""Read an embedded data set as it lies on disk, without any code of ours."""

import csv
from collections import Counter, defaultdict

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


def best_accuracy(seen, labels):
    """Percent: for each different thing that is seen, the label that it has most often."""
    counts = defaultdict(Counter)
    for what, label in zip(seen, labels, strict=True):
        counts[what][label] += 1
    return 100 * sum(max(count.values()) for count in counts.values()) / len(labels)


def windows(frames_THWC, length):
    """The set of all windows with how often each occurs: what clip scores can be pooled from."""
    texts = [frames_THWC[t : t + length].tobytes() for t in range(len(frames_THWC) - length + 1)]
    return frozenset(Counter(texts).items())
