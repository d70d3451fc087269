"""Write the mp4 files of an embedded data set on first use."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm
from typing_extensions import TypedDict

from videores.data.synthetic import datasets, sprites
from videores.data.video.encode import write_video
from videores.errors import UserError
from videores.runtime.files import read_json, write_json, write_text
from videores.runtime.machine import count_cpus
from videores.runtime.tables import format_csv

# Every frame is a keyframe with the same quantiser, so a frame is coded alike wherever it stands. Constant rate factor
# would adapt to the frames before it: reversed clips then differ by up to 30 grey levels.
CODING: Any = {"options": {"qp": "10", "g": "1", "bf": "0", "preset": "veryfast"}}
LOSSLESS: Any = {"codec": "libx264rgb", "pix_fmt": "rgb24", "options": {**CODING["options"], "qp": "0"}}

REMEDY = "delete the folder or choose another data.root"


class Spec(TypedDict):
    """Everything that determines the files, the content of spec.json."""

    name: str
    version: int
    seed: int
    videos: dict[str, int]
    frames: int
    size: int
    fps: int


def prepare_dataset(
    root: Path | str,
    seed: int = 0,
    progress: bool = True,
    videos: dict[str, int] | None = None,
    *,
    name: str = "motion8",
) -> None:
    """Write an embedded data set into `root` unless it is there, whole.

    Safe to interrupt and to call from several processes at once. `videos` is the size of each split, by default the
    set's own. Raises UserError for sizes that do not balance and where `root` holds anything else.
    """
    root, embedded = Path(root), datasets.SETS[name]
    spec = make_spec(embedded, seed, videos or embedded.videos)
    if _is_complete(root, spec):
        return
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f"{root.name}.lock"):
        if not _is_complete(root, spec):  # another process may have finished while we waited
            _begin_dataset(root, embedded, spec)
            _write_videos(root, embedded, spec, progress)
            _write_lists(root, embedded, spec)
            os.replace(root / "spec.partial.json", root / "spec.json")


def make_spec(embedded, seed, videos):
    """Return everything that determines the files."""
    name, turn = embedded.name, embedded.turn
    if set(videos) != set(embedded.videos) or any(n < turn or n % turn for n in videos.values()):
        splits = " and ".join(embedded.videos)
        raise UserError(f"{name}: videos must give {splits} as multiples of {turn}, got {videos}")
    geometry = {"frames": embedded.frames, "size": sprites.SIZE, "fps": datasets.FPS}
    return {"name": name, "version": embedded.version, "seed": seed, "videos": dict(videos), **geometry}


def _is_complete(root, spec):
    found = read_spec(root / "spec.json")
    if found is not None and found != spec:
        raise UserError(f"{root} holds another data set or seed: {found}, wanted {spec}; {REMEDY}")
    return found is not None


def read_spec(path: Path) -> Spec | None:
    """Read spec.json of an embedded data set, None where there is none. Raises UserError for another file."""
    try:
        return read_json(path, Spec, REMEDY)
    except FileNotFoundError:
        return None


def _begin_dataset(root, embedded, spec):
    """Leave in `root` only an interrupted run's files of this spec, and mark it."""
    mark = root / "spec.partial.json"
    found = read_spec(mark)
    if found is None:
        _check_no_foreign_files(root, embedded)
    for path in _list_own_files(root):
        if found != spec or path.name.startswith("."):  # another set's, seed's or version's, or half a file
            path.unlink()
    if found != spec:  # only now: the mark vouches for every file that is there
        write_json(mark, spec)


def _check_no_foreign_files(root, embedded):
    foreign = [path.name for path in root.iterdir() if not path.name.startswith(".spec.partial.")]
    if foreign:
        raise UserError(
            f"{root} is not empty and was not made by {embedded.name} (it has {foreign[0]}): "
            "choose another data.root, or an empty folder."
        )


def _list_own_files(root):
    """List videos and temporary files by the exact names that this module gives them.

    Nothing else is ever deleted.
    """
    names = "|".join(name for embedded in datasets.SETS.values() for scene in embedded.scenes for name in scene.videos)
    video, temporary = rf"\d{{4,}}_({names})", r"\.[\w.]+\.\d+\.tmp"
    ours = re.compile(rf"({video}|{temporary})\.mp4|{temporary}\.(json|csv|txt)")
    folders = [folder for folder in (root, *(root / split for split in datasets.SPLITS)) if folder.is_dir()]
    return [path for folder in folders for path in folder.iterdir() if ours.fullmatch(path.name)]


def _write_videos(root, embedded, spec, progress):
    with tqdm(total=sum(spec["videos"].values()), desc=embedded.name, unit="video", disable=not progress) as bar:
        for split, count in spec["videos"].items():
            (root / split).mkdir(exist_ok=True)
            write = partial(_write_scene, root, embedded, spec["seed"], split)
            with ThreadPoolExecutor(count_cpus()) as pool:  # the encoder works outside of Python
                for videos in pool.map(write, datasets.list_scenes(embedded, count)):
                    bar.update(videos)


def _write_scene(root, embedded, seed, split, number):
    """Write the videos of a scene, unless they are there; return how many they are."""
    paths = [root / path for path, _ in datasets.list_scene_files(embedded, split, number)]
    if not all(path.exists() for path in paths):
        clips, tracks = (
            render(embedded, seed, split, number) for render in (datasets.render_scene, datasets.render_sounds)
        )
        for path, frames_THWC, sound_S in zip(paths, clips, tracks, strict=True):
            write_video(path, frames_THWC, datasets.FPS, sound_S=sound_S, **(LOSSLESS if embedded.lossless else CODING))
    return len(paths)


def _write_lists(root, embedded, spec):
    for split, count in spec["videos"].items():
        rows = [
            {"path": path, "label": label, "group": f"{split}-{number:04d}"}
            for number in datasets.list_scenes(embedded, count)
            for path, label in datasets.list_scene_files(embedded, split, number)
        ]
        write_text(root / f"{split}.csv", format_csv(rows))
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in embedded.classes))
