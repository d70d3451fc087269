"""Define pretext tasks: the frames of a clip are changed, and which change it was is the label.

The classes of the videos are not used. A run with `data.pretext` is an ordinary one with other frames and labels, so
its checkpoints are ordinary weights. The change of a training clip is drawn; that of a validation or test video is
always the same.
    transformations   speed and order of time as one class, after Jenni et al. 2020, arXiv:2007.10730
    order             the order of three parts of a clip, after Xu et al. 2019, "Self-supervised spatiotemporal learning
                      via video clip order prediction"
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np

from videores.config.schema import ClipConfig
from videores.data.lists import Index, Video
from videores.errors import UserError


class Change(NamedTuple):
    """Say how a clip is changed: which longer or faster one is read, and what is shown of it."""

    arrange: Callable[[np.ndarray, np.random.Generator], np.ndarray]  # index_T that is read -> index_T that is shown
    speed: int = 1  # distance of its frames / the usual
    length: float = 1  # number of its frames / the usual


def _keep(index_T, rng):
    return index_T


def _reverse(index_T, rng):
    return index_T[::-1]


def _shuffle(index_T, rng):
    return rng.permutation(index_T)


def _turn_back(index_T, rng):
    """Show the first half, and then its frames backwards, without the last one twice in a row."""
    half_T = index_T[: len(index_T) // 2 + 1]
    return np.concatenate([half_T, half_T[-2::-1]])[: len(index_T)]


def _permute_parts(index_T, rng, order):
    """Show the first, third and fifth of five parts; the gaps keep every order from being continuous."""
    return index_T.reshape(5, -1)[::2][list(order)].reshape(-1)


UNCHANGED = Change(_keep)
TASKS: dict[str, dict[str, Change]] = {
    "transformations": {
        "forward": UNCHANGED,
        "forward twice as fast": Change(_keep, speed=2),
        "reversed": Change(_reverse),
        "reversed twice as fast": Change(_reverse, speed=2),
        "there and back": Change(_turn_back),
        "shuffled": Change(_shuffle),
    },
    "order": {
        "parts " + " ".join(str(part + 1) for part in order): Change(partial(_permute_parts, order=order), length=5 / 3)
        for order in permutations(range(3))
    },
}


def list_classes(task: str) -> tuple[str, ...]:
    """Return the names of the changes of a task, which are its classes."""
    return tuple(TASKS[task])


def list_changes(task: str | None) -> list[Change]:
    """Return the changes of a task in the order of its classes, [] without a task."""
    return list(TASKS[task].values()) if task else []


def widen_clip(clip: ClipConfig, change: Change) -> ClipConfig:
    """Return the clip that is read for a change."""
    rate = {"fps": clip.fps / change.speed} if clip.fps else {"stride": clip.stride * change.speed}
    return clip.model_copy(update={"frames": round(clip.frames * change.length), **rate})


def relabel_videos(index: Index, task: str | None) -> Index:
    """Return an index whose classes are the changes of a task; without a task the same.

    Each list has every change equally often. Which a video has hangs on the names in its list alone. Raises UserError
    where no validation videos are held out, without which the accuracy of a pretext says nothing.
    """
    if not task:
        return index
    if not index.val:
        raise UserError(
            f"data.pretext={task} needs validation videos of other groups, and there are none (no groups, or "
            "data.val=none): its accuracy on scenes that it was trained on says nothing"
        )
    count = len(TASKS[task])

    def relabel(videos: Sequence[Video]) -> tuple[Video, ...]:
        order = sorted(range(len(videos)), key=lambda n: hashlib.sha256(videos[n].path.encode()).digest())
        labels = {number: place % count for place, number in enumerate(order)}
        return tuple(replace(video, label=labels[number]) for number, video in enumerate(videos))

    train, val, test = map(relabel, (index.train, index.val, index.test))
    return replace(index, classes=list_classes(task), train=train, val=val, test=test)
