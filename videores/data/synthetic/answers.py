"""Say what is known of embedded videos beside their class: the class backwards, and where the sprite is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from videores.data.synthetic import datasets, sprites, writing
from videores.errors import UserError


def find_embedded(root: Path | str) -> writing.Spec | None:
    """Return the specification of the embedded data set in a folder, or None."""
    try:
        return writing.read_spec(Path(root) / "spec.json")
    except UserError:  # a file of that name which is not ours
        return None


def find_partners(root: Path | str) -> dict[str, str]:
    """Return {class: the class of its videos backwards}.

    It is empty where classes do not differ by the order of frames, and for other data sets.
    """
    spec = find_embedded(root)
    if spec is None or spec["name"] == "appear8":
        return {}
    classes = datasets.SETS[spec["name"]].classes
    if spec["name"] == "order8":
        return {name: "_".join(reversed(name.split("_"))) for name in classes}
    look = lambda name: name[: name.rfind("_") + 1]  # mixed16 has the shape before the motion
    return {name: look(name) + datasets.REVERSED_MOTIONS[name.removeprefix(look(name))] for name in classes}


class SpriteMasks:
    """Stand in for a cache of frames: white where the sprite is, else black.

    A `VideoDataset` that reads from it cuts and scales the masks exactly like the frames.
    """

    def __init__(self, spec: writing.Spec, paths: list[str]):
        self.spec, self.paths = spec, paths

    def read(self, number: int, decode: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return uint8 frames_THWC of a video's masks; nothing is decoded."""
        embedded = datasets.SETS[self.spec["name"]]
        split, name = self.paths[number].split("/")
        scene = int(name.split("_")[0])
        rendered = datasets.render_scene(embedded, self.spec["seed"], split, scene, sprites.paint_cover)
        paths = [path for path, _ in datasets.list_scene_files(embedded, split, scene)]
        return rendered[paths.index(self.paths[number])]
