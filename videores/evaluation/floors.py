"""Compute what a test's accuracy must beat: predictions of videos that no network has looked at.

The training videos are all that the test knows: of the majority class, or of the nearest one in the facts of its file
or in a thumbnail. V videos tested, R training videos, D numbers of a video.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from typing_extensions import NotRequired, TypedDict

from videores.config.schema import DataConfig
from videores.data import manifest, thumbnails
from videores.data.datamodule import Videos
from videores.data.lists import Video
from videores.data.probe import VideoInfo
from videores.errors import UserError
from videores.evaluation.fusion import split_into_blocks
from videores.runtime.files import read_json, write_json

VERSION = 3  # of what a cached result is computed by


Name = Literal["majority", "size", "thumbnail"]


class Floors(TypedDict):
    """Accuracies in per cent of the videos of a test, and how many training videos they are from."""

    majority: float
    size: float
    thumbnail: float
    training_videos: int
    right: NotRequired[dict[Name, str]]  # 1 or 0 of each tested video, in the order of its list; not in older results


class ComparedFloors(Floors):
    """Floors beside a result, as "floors" of metrics.json."""

    best: Name  # the highest
    above: bool  # whether the whole interval of the result is above it


def find_floors(data: DataConfig, videos: Videos, part: str) -> Floors | None:
    """Return the floors of a list, computed once and kept in the user's cache.

    They compare the list with the training videos, and a test list with the held-out ones too. None where these were
    not probed: a test does not decode all of them for that.
    """
    known = (*videos.index.train, *(videos.index.val if part == "test" else ()))
    missing = [video.path for video in known if video.path not in videos.infos]
    infos, bad = manifest.find_probed(data.root, missing) if missing else ({}, {})
    infos = {**videos.infos, **infos}
    known = tuple(video for video in known if video.path not in bad)
    if not known or any(video.path not in infos for video in known):
        return None
    tested = getattr(videos.index, part)
    path = _find_cache_path(data.root, [known, tested], infos)
    try:
        return read_json(path, Floors, "it is made again")
    except (OSError, UserError):  # not there, or damaged
        floors = _compute_floors(data.root, known, tested, infos)
        with suppress(OSError):  # a full disk: the result of the test goes before
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, floors)
        return floors


def _find_cache_path(root: str, lists: Sequence[Sequence[Video]], infos: Mapping[str, VideoInfo]) -> Path:
    """Return a path that depends on all that the floors depend on, whatever the videos are called."""
    facts = [[(v.label, *_list_facts(infos.get(v.path))) for v in videos] for videos in lists]
    digest = hashlib.sha256(json.dumps([VERSION, facts]).encode()).hexdigest()[:32]
    return manifest.find_manifest_path(root).parents[1] / "floors" / f"{digest}.json"


def _list_facts(info):
    return (info.digest, info.width, info.height, info.num_frames, info.fps) if info else ()


def _compute_floors(root, known, tested, infos):
    """Compare all tested videos with the known ones; one that does not decode is wrong."""
    both = [video for video in (*known, *tested) if video.path in infos]
    label_X, is_known_X = np.array([video.label for video in both]), np.arange(len(both)) < len(known)
    facts_XD = _standardize([_list_facts(infos[video.path])[1:] for video in both], len(known))
    thumbnails_XHWC, readable_X = thumbnails.read_thumbnails(root, [video.path for video in both], infos)

    def answer(x_XD, there_X):
        ours_X, asked_X = is_known_X & there_X, ~is_known_X & there_X
        return find_right(predict_nearest(x_XD[ours_X], label_X[ours_X], x_XD[asked_X]), asked_X)

    def find_right(predicted, asked_X):
        return {both[i].path for i in np.flatnonzero(asked_X)[predicted == label_X[asked_X]]}

    right: dict[Name, set[str]] = {
        "majority": find_right(np.bincount(label_X[is_known_X]).argmax(), ~is_known_X),
        "size": answer(facts_XD, np.full(len(both), True)),
        "thumbnail": answer(thumbnails_XHWC.reshape(len(both), -1), readable_X),
    }
    share: dict[Name, float] = {name: 100 * len(paths) / len(tested) for name, paths in right.items()}
    return Floors(
        majority=share["majority"],
        size=share["size"],
        thumbnail=share["thumbnail"],
        training_videos=len(known),
        right={name: "".join(str(int(v.path in paths)) for v in tested) for name, paths in right.items()},
    )


def _standardize(rows_XD, known):
    """Return rows with the mean 0 and, so that no unit counts more, the deviation 1 of the known ones."""
    x_XD = np.array(rows_XD, dtype=float)
    mean_D, deviation_D = x_XD[:known].mean(0), x_XD[:known].std(0)
    varies_D = deviation_D > 1e-9 * np.abs(mean_D)  # equal numbers may deviate by rounding
    return (x_XD - mean_D) / np.where(varies_D, deviation_D, 1)


def predict_nearest(known_RD: np.ndarray, label_R: np.ndarray, asked_VD: np.ndarray) -> np.ndarray:
    """Return label_V of the nearest known row, in Euclidean distance.

    Of equal known rows the most frequent label counts, and of equally frequent ones the first.
    """
    if not len(known_RD) or not len(asked_VD):
        return np.full(len(asked_VD), -1)
    unique_UD, row_R = np.unique(known_RD, axis=0, return_inverse=True)
    counts_UN = np.zeros((len(unique_UD), label_R.max() + 1), int)
    np.add.at(counts_UN, (row_R.reshape(-1), label_R), 1)
    unique_UD, asked_VD = unique_UD.astype(float), asked_VD.astype(float)
    square_U = (unique_UD**2).sum(1)
    nearest = [(square_U - 2 * asked_VD[block] @ unique_UD.T).argmin(1) for block in split_into_blocks(len(asked_VD))]
    return counts_UN.argmax(1)[np.concatenate(nearest)]


def compare_with_floors(floors: Floors | None, interval: Sequence[float]) -> ComparedFloors | None:
    """Return floors beside the interval of a result, None without any."""
    if floors is None:
        return None
    floor: dict[Name, float] = {
        "majority": floors["majority"],
        "size": floors["size"],
        "thumbnail": floors["thumbnail"],
    }
    best = max(floor, key=floor.__getitem__)
    return {**floors, "best": best, "above": interval[0] > floor[best]}
