"""Hold out validation videos, and select stratified subsets of videos."""

import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Literal

import numpy as np

from videores.data.lists import Index
from videores.errors import UserError

MAX_PASSES = 20  # over the groups; a few are enough


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


def split_validation(index: Index, share: float) -> Index:
    """Move about `share` of the training videos to validation, by whole groups.

    At least one group is moved; without groups nothing is held out. A group without which a class would have no
    training videos stays. The choice depends on names and labels alone, so that runs with different seeds are validated
    on the same videos: the first groups by the hashes of their names, unless others are nearer to that share or have
    more classes.
    """
    labels: dict[str, Counter[int]] = defaultdict(Counter)  # of each group, how many videos have which
    for video in index.train:
        if video.group is not None:
            labels[video.group][video.label] += 1
    groups = {g: labels[g] for g in sorted(labels, key=lambda g: hashlib.sha256(g.encode()).digest())}
    counts = Counter(video.label for video in index.train)
    held = _select_first_groups(groups, counts, share)
    if share and len({frozenset(labels) for labels in groups.values()}) > 1:  # else no choice has more classes
        held = max(held, _select_balanced_groups(groups, counts, share), key=lambda some: _rate(some, groups, share))
    kept = tuple(video for video in index.train if video.group not in held)
    return replace(index, train=kept, val=tuple(video for video in index.train if video.group in held))


def _select_first_groups(groups, counts, share):
    wanted = max(1, math.floor(share * len(groups) + 0.5)) if share else 0
    rest, held = Counter(counts), set()
    for group, labels in groups.items():
        if len(held) < wanted and _may_hold_out(labels, rest):
            rest.subtract(labels)
            held.add(group)
    return held


def _may_hold_out(labels, rest):
    """Return whether each class would keep training videos."""
    return all(rest[label] > n for label, n in labels.items())


def _rate(held, groups, share):
    """Rate groups by whether they have about the share of videos, then by their classes."""
    total, part = (sum(groups[g].total() for g in some) for some in (groups, held))
    return 0.7 * share <= part / total <= 1.3 * share, len({label for g in held for label in groups[g]})


def _select_balanced_groups(groups, counts, share):
    """Hold out and put back groups one by one, as long as that lowers the cost.

    The cost is that of each class, (sqrt(held / wanted) - 1)^2, which is as high for nothing as for four times as much,
    and four times as much as all of them that of the sum.
    """
    sizes = Counter[int]()
    for labels in groups.values():
        sizes.update(labels)
    held, now, rest, total = set(), Counter[int](), Counter(counts), sizes.total()

    def cost(n, size):
        return (math.sqrt(n / (share * size)) - 1) ** 2

    def change(labels, sign):
        """Return by how much the cost rises."""
        n = now.total()
        each = sum(cost(now[c] + sign * k, sizes[c]) - cost(now[c], sizes[c]) for c, k in labels.items())
        return each + 4 * len(sizes) * (cost(n + sign * labels.total(), total) - cost(n, total))

    for _ in range(MAX_PASSES):
        before = set(held)
        for group, labels in groups.items():
            sign = -1 if group in held else 1
            if (sign < 0 or _may_hold_out(labels, rest)) and change(labels, sign) < 0:
                held ^= {group}
                for label, n in labels.items():
                    now[label] += sign * n
                    rest[label] -= sign * n
        if held == before:
            break
    return held


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
