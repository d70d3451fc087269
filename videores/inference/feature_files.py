"""Keep features in features.npz, and read them back only for the network and the videos that they are of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videores.errors import UserError
from videores.evaluation.neighbors import VideoSet
from videores.runtime.files import write_atomically

ARRAY_SHAPES = dict(video="V", label="V", group="V", classes="N", features="VD", random="VD")
ARRAY_KINDS = dict(video="U", label="iu", group="U", classes="U", features="f", random="f")  # of NumPy's dtypes
ORIGIN = ("layer", "network", "protocol", "list", "precision", "seed")  # text: what the features depend on
NETWORKS = ("features", "random")  # arrays: of the trained network, and of the same with random weights


@dataclass(frozen=True)
class Features:
    """The content of features.npz: V videos, D features, N classes."""

    video: np.ndarray
    label: np.ndarray
    group: np.ndarray  # "" without one
    classes: np.ndarray
    features: np.ndarray  # (V, D), float32; NaN for a video that does not decode
    random: np.ndarray  # those of the same network with random weights
    origin: Mapping[str, str]  # of ORIGIN

    def select(self, name: str) -> VideoSet:
        """Return the videos with the features called `name`, one of NETWORKS."""
        return VideoSet(self.video.tolist(), self.label, self.group.tolist(), getattr(self, name))


def write_features(path: Path, features: Features) -> None:
    """Write features.npz, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: getattr(features, name) for name in ARRAY_SHAPES} | dict(features.origin)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_features(path: Path, origin: Mapping[str, str]) -> Features:
    """Read features.npz.

    Raises UserError where it is damaged, or of another network, layer, protocol, list, precision or seed.
    """
    remedy = "remove it, or give another folder by --out"
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in (*ARRAY_SHAPES, *ORIGIN)}
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        raise UserError(f"{path} is not a file of features: {error}; {remedy}") from None
    theirs = {name: str(arrays.pop(name)) for name in ORIGIN}
    for name in ORIGIN:
        if theirs[name] != origin[name]:
            raise UserError(
                f"{path} must hold features of the same {name}, {origin[name]}, and has {theirs[name]}: {remedy}"
            )
    _check_arrays(path, arrays, remedy)
    return Features(**arrays, origin=theirs)


def _check_arrays(path, arrays, remedy):
    sizes = dict(V=len(np.atleast_1d(arrays["video"])), N=len(np.atleast_1d(arrays["classes"])))
    for name, axes in ARRAY_SHAPES.items():
        wanted = tuple(sizes.get(axis, arrays[name].shape[-1] if arrays[name].ndim else 1) for axis in axes)
        if arrays[name].shape != wanted or arrays[name].dtype.kind not in ARRAY_KINDS[name]:
            got = f"{arrays[name].dtype} {arrays[name].shape}"
            raise UserError(f"{path}: `{name}` must have the shape ({', '.join(axes)}), got {got}; {remedy}")
    wrong = arrays["label"][(arrays["label"] < 0) | (arrays["label"] >= sizes["N"])]
    if len(wrong):
        raise UserError(f"{path}: `label` must be from 0 to {sizes['N'] - 1}, got {wrong[0]}; {remedy}")
