"""Hold out validation videos, and select stratified subsets of videos."""

import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Literal

import numpy as np

from videores.data.lists import Index
from videores.errors import UserError


def select_gap_videos(wanted: int | Literal["auto"], videos: Index) -> tuple[int, ...]:
    """Return the numbers of the training videos to score beside validation, sorted.

    They are () where nothing is held out. `wanted` is train.gap_videos; auto: as many as are held out.

    Raises:
        UserError: if there are not so many.
    """
    listed, held_out = len(videos.train), len(videos.val)
    if wanted not in ("auto", 0) and not held_out:
        raise UserError(
            f"train.gap_videos={wanted}: the gap is to validation videos, and none are held out (no groups, or "
            "data.val=none); leave it out"
        )
    if wanted != "auto" and wanted > listed:
        raise UserError(f"train.gap_videos={wanted}, but there are {listed} training videos: lower it, or take auto")
    return select_stratified(videos.train, min(held_out, listed) if wanted == "auto" else wanted)


def select_stratified(videos, count):
    """Return sorted numbers of `count` videos, with each class's share of the list.

    Shares are rounded so that the sum is right: to the classes with the largest remainders, Hamilton's apportionment.

    Which of a class hangs on the videos' paths alone, so that runs with different seeds are measured on the same ones.
    """
    numbers = defaultdict(list)
    for number in sorted(range(len(videos)), key=lambda n: hashlib.sha256(videos[n].path.encode()).digest()):
        numbers[videos[number].label].append(number)
    classes = sorted(numbers)
    seats = _apportion([len(numbers[label]) for label in classes], count)
    return tuple(sorted(n for label, some in zip(classes, seats, strict=True) for n in numbers[label][:some]))


def _apportion(sizes, count):
    """Return whole numbers with the sum `count`, each within 1 of its size's share.

    None exceeds its size.
    """
    if not count:
        return [0] * len(sizes)
    exact = np.array(sizes) * count
    seats, rest = exact // sum(sizes), exact % sum(sizes)
    seats[np.argsort(-rest, kind="stable")[: count - seats.sum()]] += 1
    return seats.tolist()


def split_validation(index, share):
    """Move `share` of the training groups, at least one, to validation.

    Without groups nothing is held out.

    The choice depends on the groups' names alone, so that runs with different seeds are validated on the same videos.
    A group without which a class would have no training videos stays.
    """
    labels = defaultdict(Counter)  # of each group, how many videos have which
    for video in index.train:
        labels[video.group][video.label] += 1
    groups = sorted(labels.keys() - {None}, key=lambda g: hashlib.sha256(g.encode()).digest())
    wanted = max(1, math.floor(share * len(groups) + 0.5)) if share else 0
    rest, held = Counter(video.label for video in index.train), set()
    for group in groups:
        if len(held) < wanted and all(rest[label] > n for label, n in labels[group].items()):
            rest.subtract(labels[group])
            held.add(group)
    kept = tuple(video for video in index.train if video.group not in held)
    return replace(index, train=kept, val=tuple(video for video in index.train if video.group in held))


def subsample_groups(videos, share):
    """Return the videos of `share` of the groups of each class, at least one.

    Groups with several classes are sampled for each set of classes.

    The choice depends on names alone, and a smaller share is part of a larger one.
    """
    labels = defaultdict(set)
    for video in videos:
        labels[video.group or video.path].add(video.label)
    alike = defaultdict(list)
    for group in sorted(labels, key=lambda g: hashlib.sha256(g.encode()).digest()):
        alike[frozenset(labels[group])].append(group)
    kept = {group for groups in alike.values() for group in groups[: max(1, round(share * len(groups)))]}
    return tuple(video for video in videos if (video.group or video.path) in kept)
