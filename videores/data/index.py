"""Read and check the lists of a data set, and hold validation videos out by group.

A group is what must not be split between training and test (UCF101: the clips cut from one source video). The list
formats are in `videores.data.formats`.
"""

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from videores.config.schema import DataConfig
from videores.data import formats
from videores.data.lists import Index, MissingList, preview
from videores.data.splits import split_validation, subsample_groups
from videores.data.synthetic import datasets
from videores.errors import UserError

PARTS = ("train", "val", "test")
INCOMPLETE_FORMATS = ("kinetics",)  # formats whose videos vanish from the web: nobody has all that are listed


def read_index(data: DataConfig) -> Index:
    """Read the videos of a data set, training videos split into train and val.

    Raises UserError for lists that are wrong or videos that are missing.

    Videos of a format in INCOMPLETE_FORMATS that are not there are left out of train and val; test keeps all that are
    listed, so that a missing one counts as wrong. `counts` has, for each part, how many are listed and how many found.
    """
    root = Path(data.root)
    if data.format in datasets.SETS:
        datasets.prepare_dataset(root, name=data.format)
    check_folders_exist(data)
    index = read_format(data)
    check_index(index, root)
    if not index.val and data.val != "none":
        index = split_validation(index, data.val)
    index = replace(index, train=subsample_groups(index.train, data.share))
    there = {video.path for part in PARTS for video in getattr(index, part) if (root / video.path).is_file()}
    index = replace(index, counts=count_videos(index, there))
    if data.format in INCOMPLETE_FORMATS:
        return _drop_missing(index, there, root)
    if data.on_unreadable != "skip":
        _check_none_missing(index, there, root)
    return index


def read_classes(data: DataConfig) -> tuple[str, ...]:
    """Return the classes of a data set; an embedded one need not be written for that.

    Raises UserError for folders that are not there and for wrong lists.
    """
    if data.format in datasets.SETS:
        return datasets.SETS[data.format].classes
    check_folders_exist(data)
    return read_format(data).classes


def check_folders_exist(data: DataConfig) -> None:
    """Check that the folders of a data set exist; else name its source."""
    for key, folder in (("data.root", data.root), ("data.splits", data.splits or data.root)):
        if data.format not in datasets.SETS and not Path(folder).is_dir():
            raise UserError(f"{key}: there is no folder {folder}" + _format_source(data))


def _format_source(data):
    return f"\n{data.source.strip()}" if data.source else ""


def read_format(data: DataConfig) -> Index:
    """Read the lists of a data set in its format, as distributed."""
    try:
        return formats.READERS[data.format](Path(data.root), Path(data.splits or data.root), data.split)
    except MissingList as error:
        raise UserError(f"{error}{_format_source(data)}") from None


def check_index(index, root):
    """Check for empty lists, a video listed twice, and a group or video on both sides."""
    for name in ("train", "test"):
        if not getattr(index, name):
            raise UserError(f"{root}: the {name} list must name at least one video; see data.splits and data.split")
    # a/../b.mp4 and ./b.mp4 are b.mp4
    paths = {name: [os.path.normpath(os.path.join(root, v.path)) for v in getattr(index, name)] for name in PARTS}
    groups = {name: [v.group for v in getattr(index, name)] for name in PARTS}
    for name in PARTS:
        _check_no_repeats(name, paths[name])
    for name, other in (("train", "test"), ("train", "val"), ("val", "test")):
        _check_no_overlap("group", groups, name, other)
        _check_no_overlap("path", paths, name, other)


def _check_no_repeats(name, paths):
    if len(set(paths)) != len(paths):
        repeats = preview([p for p, n in Counter(paths).items() if n > 1])
        raise UserError(f"the {name} list must name each video once; remove the repeats:\n  {repeats}")


def _check_no_overlap(what, values, name, other):
    shared = set(values[name]) & set(values[other]) - {None}
    if shared:
        count = f"{name} and {other} share {len(shared)} {what}(s), so the score would be too high"
        raise UserError(f"{count}; remove them from one:\n  {preview(sorted(shared))}")


def count_videos(index, there):
    listed = {part: [video.path for video in getattr(index, part)] for part in PARTS}
    return {part: {"expected": len(paths), "found": len(there.intersection(paths))} for part, paths in listed.items()}


def _drop_missing(index, there, root):
    """Leave missing videos out of train and val, and warn about each part."""
    if not there:
        example = index.train[0].path
        raise UserError(f"data.root={root} must be where the lists' paths begin, and has none of them, e.g. {example}")
    counts = [
        f"{n['found']} of {n['expected']} {part}" for part, n in index.counts.items() if n["found"] < n["expected"]
    ]
    if counts:
        print(f"warning: found {', '.join(counts)} videos; missing test videos count as wrong", file=sys.stderr)
    kept = {part: tuple(v for v in getattr(index, part) if v.path in there) for part in ("train", "val")}
    return replace(index, **kept)


def _check_none_missing(index, there, root):
    missing = [video.path for part in PARTS for video in getattr(index, part) if video.path not in there]
    if missing:
        count = f"{len(missing)} listed videos are not under data.root={root}"
        raise UserError(f"{count}; fetch them, or set data.on_unreadable=skip:\n  {preview(missing)}")
