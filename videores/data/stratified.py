"""A part of a list of videos with the classes in the list's shares: the training videos that the gap is measured on."""

import hashlib
from collections import defaultdict

import numpy as np

from videores.errors import UserError


def gap_numbers(wanted, videos):
    """Sorted numbers in `videos.train` of the videos to score beside validation; () where nothing is held out.

    `wanted` is train.gap_videos; auto: as many as are held out. Raises UserError for a number that cannot be had.
    """
    listed, held_out = len(videos.train), len(videos.val)
    if wanted not in ("auto", 0) and not held_out:
        raise UserError(
            f"train.gap_videos={wanted}: the gap is to validation videos, and none are held out (no groups, or "
            "data.val=none); leave it out"
        )
    if wanted != "auto" and wanted > listed:
        raise UserError(f"train.gap_videos={wanted}, but there are {listed} training videos: lower it, or take auto")
    return choose(videos.train, min(held_out, listed) if wanted == "auto" else wanted)


def choose(videos, count):
    """Sorted numbers of `count` of the videos. Each class has its share of the list's videos, rounded so that the sum
    is right: to the classes with the largest remainders, Hamilton's apportionment.

    Which of a class hangs on the videos' paths alone, so that runs with different seeds are measured on the same ones.
    """
    numbers = defaultdict(list)
    for number in sorted(range(len(videos)), key=lambda n: hashlib.sha256(videos[n].path.encode()).digest()):
        numbers[videos[number].label].append(number)
    classes = sorted(numbers)
    seats = apportion([len(numbers[label]) for label in classes], count)
    return tuple(sorted(n for label, some in zip(classes, seats, strict=True) for n in numbers[label][:some]))


def apportion(sizes, count):
    """Whole numbers with the sum `count` <= sum(sizes), each within 1 of its size's share and at most its size."""
    if not count:
        return [0] * len(sizes)
    exact = np.array(sizes) * count
    seats, rest = exact // sum(sizes), exact % sum(sizes)
    seats[np.argsort(-rest, kind="stable")[: count - seats.sum()]] += 1
    return seats.tolist()
