"""Which videos exist: the lists of a data set read and checked, and validation videos held out by group.

A group is what must not be split between training and test (UCF101: the clips cut from one source video). The list
formats are in `videores.data.formats`.
"""

import hashlib
import math
import os
import re
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from videores.data import formats, motion
from videores.data.lists import VIDEO_SUFFIXES as VIDEO_SUFFIXES
from videores.data.lists import Index as Index
from videores.data.lists import NoList, head
from videores.data.lists import Video as Video
from videores.errors import UserError

PARTS = ("train", "val", "test")
INCOMPLETE = ("kinetics",)  # formats whose videos vanish from the web: nobody has all that are listed


def read(data):
    """The videos of a data set (config.DataConfig), training videos split into train and val. Raises UserError.

    Videos of a format in INCOMPLETE that are not there are left out of train and val; test keeps all that are listed,
    so that a missing one counts as wrong. `counts` has, for each part, how many are listed and how many of them found.
    """
    root = Path(data.root)
    if data.format in motion.SETS:
        motion.prepare(root, name=data.format)
    refuse_absent(data)
    index = read_lists(data)
    refuse_wrong(index, root)
    if not index.val and data.val != "none":
        index = carve(index, data.val)
    index = replace(index, train=thin(index.train, data.share))
    there = {video.path for part in PARTS for video in getattr(index, part) if (root / video.path).is_file()}
    index = replace(index, counts=count(index, there))
    if data.format in INCOMPLETE:
        return without_missing(index, there, root)
    if data.on_unreadable != "skip":
        refuse_missing(index, there, root)
    return index


def refuse_absent(data):
    """Raises UserError with the data set's source where its folders are not there."""
    for key, folder in (("data.root", data.root), ("data.splits", data.splits or data.root)):
        if data.format not in motion.SETS and not Path(folder).is_dir():
            raise UserError(f"{key}: there is no folder {folder}" + source(data))


def source(data):
    return f"\n{data.source.strip()}" if data.source else ""


def read_lists(data):
    try:
        return formats.READERS[data.format](Path(data.root), Path(data.splits or data.root), data.split)
    except NoList as error:
        raise UserError(f"{error}{source(data)}") from None


def refuse_wrong(index, root):
    """Refuses an empty split, a video listed twice, and a group or video on both sides."""
    for name in ("train", "test"):
        if not getattr(index, name):
            raise UserError(f"the {name} list of {root} has no videos")
    # a/../b.mp4 and ./b.mp4 are b.mp4
    paths = {name: [os.path.normpath(os.path.join(root, v.path)) for v in getattr(index, name)] for name in PARTS}
    groups = {name: [v.group for v in getattr(index, name)] for name in PARTS}
    for name in PARTS:
        refuse_repeats(name, paths[name])
    for name, other in (("train", "test"), ("train", "val"), ("val", "test")):
        refuse_overlap("group", groups, name, other)
        refuse_overlap("path", paths, name, other)


def refuse_repeats(name, paths):
    if len(set(paths)) != len(paths):
        raise UserError(
            f"the {name} list names a video twice:\n  {head([p for p, n in Counter(paths).items() if n > 1])}"
        )


def refuse_overlap(what, values, name, other):
    shared = set(values[name]) & set(values[other]) - {None}
    if shared:
        raise UserError(
            f"{name} and {other} share {len(shared)} {what}(s), so the score would be too high:\n  "
            + head(sorted(shared))
        )


def count(index, there):
    listed = {part: [video.path for video in getattr(index, part)] for part in PARTS}
    return {part: {"expected": len(paths), "found": len(there.intersection(paths))} for part, paths in listed.items()}


def without_missing(index, there, root):
    """Leaves missing videos out of train and val, and says how many there are in each part."""
    if not there:
        raise UserError(f"none of the listed videos is under data.root={root}, e.g. {index.train[0].path}")
    counts = [
        f"{n['found']} of {n['expected']} {part}" for part, n in index.counts.items() if n["found"] < n["expected"]
    ]
    if counts:
        print(f"warning: found {', '.join(counts)} videos; missing test videos count as wrong", file=sys.stderr)
    kept = {part: tuple(v for v in getattr(index, part) if v.path in there) for part in ("train", "val")}
    return replace(index, **kept)


def refuse_missing(index, there, root):
    missing = [video.path for part in PARTS for video in getattr(index, part) if video.path not in there]
    if missing:
        raise UserError(f"{len(missing)} listed videos are not under data.root={root}:\n  " + head(missing))


def carve(index, share):
    """Moves `share` of the training groups, at least one, to validation; without groups nothing is held out.

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


def thin(videos, share):
    """The videos of `share` of the groups, at least one, of each class, or of each set of classes that a group has.

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


def flip_labels(classes):
    """The label that a horizontally flipped video of each class has; -1 where it would belong to none of the classes.

    Names that differ by left and right, or clockwise and counterclockwise, are each other's mirror image.
    """
    keys = [spelled_alike(name) for name in classes]
    numbers = {key: number for number, key in enumerate(keys)}
    return tuple(flipped(number, key, numbers) for number, key in enumerate(keys))


def mirrored(classes, flips=None):
    """The classes whose videos a flip makes another class's, or nobody's; `flips` are those of their names."""
    flips = flip_labels(classes) if flips is None else flips
    return [name for number, name in enumerate(classes) if flips[number] != number]


def flipped(number, key, numbers):
    mirrored = re.sub(HANDED, lambda word: MIRROR[word[0]], key)
    if mirrored == key:
        return number
    return numbers.get(mirrored, -1 if re.search(rf"\b({HANDED})", key) else number)  # a bright light is no direction


MIRROR = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
HANDED = "|".join(sorted(MIRROR, key=len, reverse=True))


def spelled_alike(name):
    """`Turn left`, `turn_left` and `TurnLeft` as `turn left`; anticlockwise as counterclockwise."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s_-]+", " ", name).lower()
    return re.sub(r"(counter|anti) ?clock ?wise", "counterclockwise", name)
