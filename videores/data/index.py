"""Read and check the lists of a data set, and hold validation videos out by group.

A group is what must not be split between training and test (UCF101: the clips cut from one source video). The list
formats are in `videores.data.formats`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from videores.config.schema import SPLIT_COUNTS, DataConfig
from videores.data import formats, pretext, shards
from videores.data.lists import (
    SPELLING_REMEDY,
    Index,
    MissingList,
    Video,
    check_names,
    find_other_spelling,
    normalize_name,
    preview,
    read_identity,
    split_segment,
    split_volume,
    warn,
)
from videores.data.splits import split_validation, subsample_groups
from videores.data.synthetic import datasets, writing
from videores.errors import UserError

PARTS = ("train", "val", "test")
INCOMPLETE_FORMATS = ("kinetics",)  # formats whose videos vanish from the web: nobody has all that are listed


def read_index(data: DataConfig) -> Index:
    """Read the videos of a data set, training videos split into train and val.

    Raises UserError for lists that are wrong or videos that are missing.

    With data.pretext, the classes are the changes of its clips.

    Videos of a format in INCOMPLETE_FORMATS that are not there are left out of train and val; test keeps all that are
    listed, so that a missing one counts as wrong. `counts` has, for each part, how many are listed and how many found.
    """
    root = shards.locate(data.root)
    if isinstance(root, shards.ShardSet):
        shards.check_shards(root)
    elif data.format in datasets.SETS:
        writing.prepare_dataset(root, name=data.format)
    check_folders_exist(data)
    index = read_format(data)
    files = {video.path: _identify_video(root, video) for part in PARTS for video in getattr(index, part)}
    index = _find_frame_folders(index, root, files)
    check_index(index, root, files)
    if not index.val and data.val != "none":
        index = split_validation(index, data.val)
    index = replace(index, train=subsample_groups(index.train, data.share))
    index = pretext.relabel_videos(index, data.pretext)
    _warn_missing_classes(index)
    there = {path for path, identity in files.items() if identity}
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
    if data.pretext:
        return pretext.list_classes(data.pretext)
    if data.format in datasets.SETS:
        return datasets.SETS[data.format].classes
    check_folders_exist(data)
    return read_format(data).classes


def _identify_video(root, video):
    """Return what a video is, whatever it is called: a file and a part of it."""
    path, segment = split_segment(video.path)
    identity = _identify_file(root, path)
    return (identity, segment) if identity else None


def _identify_file(root, path):
    if isinstance(root, shards.ShardSet):
        return path if path in root.extents else None
    file, volume = split_volume(root / path)
    identity = read_identity(Path(file))
    return (identity, volume) if identity else None


def _find_frame_folders(index, root, files):
    """Replace listed files that are not there by folders of their frames that are.

    Those, and copies of them, have the listed name without its suffix. Their identities are added to `files`.
    """
    others = {path: other for path in files if not files[path] and (other := os.path.splitext(path)[0]) != path}
    files |= {other: (i, None) if (i := _identify_file(root, other)) else None for other in others.values()}
    found = {path: other for path, other in others.items() if files[other]}
    rename = lambda video: replace(video, path=found[video.path]) if video.path in found else video
    return replace(index, **{part: tuple(map(rename, getattr(index, part))) for part in PARTS}) if found else index


def check_folders_exist(data: DataConfig) -> None:
    """Check that the folders of a data set exist; else name its source."""
    if isinstance(shards.locate(data.root), shards.ShardSet):
        if data.splits not in (None, data.root):
            raise UserError(f"data.splits must be null where data.root={data.root} has shards: the lists are in them")
        return
    for key, folder in (("data.root", data.root), ("data.splits", data.splits or data.root)):
        check_names([folder])
        kind = "file" if data.format == "npz" and folder == data.root else "folder"
        is_there = Path(folder).is_file() if kind == "file" else Path(folder).is_dir()
        if data.format not in datasets.SETS and not is_there:
            raise UserError(f"{key}: there is no {kind} {folder}" + _format_source(data))


def _format_source(data):
    return f"\n{data.source.strip()}" if data.source else ""


def read_format(data: DataConfig) -> Index:
    """Read the lists of a data set in its format, as distributed, or from its shards."""
    if data.split == "all":
        raise UserError(
            "data.split=all trains the splits one after the other, by tools/train.py alone: give one of them"
        )
    if data.split != 1 and data.format in formats.READERS.keys() - SPLIT_COUNTS.keys():
        raise UserError(f"data.split must be 1 with data.format={data.format}, which has one split, got {data.split}")
    root = shards.locate(data.root)
    if isinstance(root, shards.ShardSet):
        return shards.read_lists(root, data.format, data.split)
    try:
        return formats.read_lists(data.format, Path(data.root), Path(data.splits or data.root), data.split)
    except MissingList as error:
        raise UserError(f"{error}{_format_source(data)}") from None


def check_index(index: Index, root: shards.Root, files: Mapping[str, Hashable] | None = None) -> None:
    """Check names, for empty lists, a video listed twice, and what is on both sides.

    `files` has the identity of each video's file, which is the same under all its names.
    """
    for name in ("train", "test"):
        if not getattr(index, name):
            raise UserError(f"{root}: the {name} list must name at least one video; see data.splits and data.split")
    listed = {name: getattr(index, name) for name in PARTS}
    videos = [video for name in PARTS for video in listed[name]]
    check_names([*index.classes, *(v.path for v in videos), *(v.group for v in videos if v.group)])
    _check_classes_differ(index.classes)
    # a/../b.mp4 and ./b.mp4 are b.mp4
    paths = {name: [os.path.normpath(os.path.join(str(root), v.path)) for v in listed[name]] for name in PARTS}
    groups = {name: {v.group: v.group for v in listed[name] if v.group} for name in PARTS}
    known = files or {}
    names: dict[str, dict[Any, str]] = {name: {path: path for path in paths[name]} for name in PARTS}
    for name in PARTS:
        names[name] |= {known[v.path]: p for v, p in zip(listed[name], paths[name], strict=True) if known.get(v.path)}
    for name in PARTS:
        _check_no_repeats(name, paths[name])
    for name, other in (("train", "test"), ("train", "val"), ("val", "test")):
        _check_no_overlap("group", groups, name, other)
        _check_no_overlap("path", names, name, other)
    if len({video.label for video in index.train}) == 1:
        only = index.classes[index.train[0].label]
        warn(f"all training videos are of one class, {only!r}: any network is right; a class is a folder or a label")


def _check_classes_differ(classes):
    """Check that no two classes look the same."""
    alike = defaultdict(list)
    for name in classes:
        alike[normalize_name(name)].append(ascii(name))
    same = [", ".join(names) for names in alike.values() if len(names) > 1]
    if same:
        rule = "classes must differ by more than blanks and the form of their accents"
        raise UserError(f"{rule}; rename one of each:\n  {preview(same)}")


def _check_no_repeats(name, paths):
    if len(set(paths)) != len(paths):
        repeats = preview([p for p, n in Counter(paths).items() if n > 1])
        raise UserError(f"the {name} list must name each video once; remove the repeats:\n  {repeats}")


def _check_no_overlap(what, names, name, other):
    """Check that no key is in two dicts of `names`, whose values say what it is called."""
    shared = sorted({(names[name][key], names[other][key]) for key in names[name].keys() & names[other].keys()})
    if shared:
        count = f"{name} and {other} share {len(shared)} {what}(s), so the score would be too high"
        shown = preview([one if one == two else f"{one} is {two}" for one, two in shared])
        raise UserError(f"{count}; remove them from one:\n  {shown}")


def _warn_missing_classes(index):
    """Name the classes that validation lacks, on which no checkpoint is chosen."""
    counts = Counter(video.label for video in index.train)
    missing = counts.keys() - {video.label for video in index.val}
    if index.val and missing:
        names = ", ".join(index.classes[label] for label in sorted(missing)[:20])
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        what = f"the validation videos have none of {len(missing)} of {len(counts)} classes"
        warn(f"{what}, so the choice of a checkpoint rests on the others: {names}{more}; raise data.val, or list them")


def find_equal_videos(index: Index, digests: Mapping[str, str]) -> Iterator[tuple[str, Video, str, Video]]:
    """Yield (part, video, part, video) of videos with equal digests.

    Each is paired with the first one of each list alone, as there may be many.
    """
    alike = defaultdict(list)
    for part in PARTS:
        for video in getattr(index, part):
            if video.path in digests:
                alike[digests[video.path]].append((part, video))
    for videos in alike.values():
        firsts = {part: number for number, (part, _) in reversed(list(enumerate(videos)))}.values()
        pairs = {(min(n, first), max(n, first)) for n in range(len(videos)) for first in firsts if n != first}
        yield from ((*videos[one], *videos[two]) for one, two in sorted(pairs))


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
        warn(f"found {', '.join(counts)} videos; missing test videos count as wrong")
    kept = {part: tuple(v for v in getattr(index, part) if v.path in there) for part in ("train", "val")}
    return replace(index, **kept)


def _check_none_missing(index, there, root):
    missing = [video.path for part in PARTS for video in getattr(index, part) if video.path not in there]
    if missing:
        count = f"{len(missing)} listed videos are not under data.root={root}"
        alike = sum(find_other_spelling(root, path) is not None for path in missing)
        hint = f" ({alike} are there under names that look the same: {SPELLING_REMEDY})" if alike else ""
        raise UserError(f"{count}; fetch them, or set data.on_unreadable=skip{hint}:\n  {preview(missing)}")
