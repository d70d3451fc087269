"""Which videos exist: one reader per list format, each returns an `Index` of classes, training and test videos.

A group is what must not be split between training and test (UCF101: the clips cut from one source video). Formats:

ucf101   splits/classInd.txt, trainlist0N.txt, testlist0N.txt; LF or CRLF; paths `Class/v_Class_gNN_cMM.avi`
folder   root/train/<class>/*, root/test/<class>/* and, if there, root/val/<class>/*
csv      splits/train.csv, splits/test.csv and, if there, splits/val.csv with the header `path,label[,group]`; the class
         list is splits/classes.txt (a name a line) or, without it, the sorted labels of train.csv
motion8  csv, of the embedded set, which is written on first use
"""

import csv
import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from videores.data import motion
from videores.errors import UserError

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"}


@dataclass(frozen=True)
class Video:
    path: str  # relative to the data set's root
    label: int
    group: str | None = None


@dataclass(frozen=True)
class Index:
    classes: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    val: tuple[Video, ...] = ()


def read(data):
    """The videos of a data set (config.DataConfig), training videos split into train and val. Raises UserError."""
    root, splits = Path(data.root), Path(data.splits or data.root)
    if data.format == "motion8":
        motion.prepare(root)
    refuse_absent(data)
    index = FORMATS[data.format](root, splits, data.split)
    check(index, root, missing_allowed=data.on_unreadable == "skip")
    return index if index.val or data.val == "none" else carve(index, data.val)


def refuse_absent(data):
    """Raises UserError with the data set's source where its folders are not there."""
    for key, folder in (("data.root", data.root), ("data.splits", data.splits or data.root)):
        if data.format != "motion8" and not Path(folder).is_dir():
            raise UserError(f"{key}: there is no folder {folder}" + (f"\n{data.source.strip()}" if data.source else ""))


def ucf101(root, splits, split):
    classes = read_classes(splits / "classInd.txt", numbered=True)
    lists = {name: lines(splits / f"{name}list0{split}.txt") for name in ("train", "test")}
    return Index(classes, *(tuple(ucf101_video(line, classes, where) for where, line in lists[n]) for n in lists))


def ucf101_video(line, classes, where):
    """`Class/v_Class_gNN_cMM.avi [label]`; classes may share scenes, so gNN alone is the group."""
    path, *number = line.rsplit(" ", 1) if re.search(r" \d+$", line) else [line]
    name = Path(path).parent.name
    label = label_of(name, classes, where)
    if number and int(number[0]) != label + 1:
        raise UserError(f"{where}: label {number[0]} for class {name}, which classInd.txt numbers {label + 1}")
    group = re.search(r"_(g\d+)_", Path(path).name)
    return Video(path, label, group[1] if group else None)


def folder(root, splits, split):
    classes = tuple(sorted(p.name for p in need_folder(root / "train").iterdir() if p.is_dir()))
    need_folder(root / "test")
    train, test, val = (tuple(folder_videos(root, part, classes)) for part in ("train", "test", "val"))
    return Index(classes, train, test, val)


def folder_videos(root, part, classes):
    for path in sorted((root / part).glob("*/**/*")):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            name = path.relative_to(root / part).parts[0]
            yield Video(path.relative_to(root).as_posix(), label_of(name, classes, path))


def csv_lists(root, splits, split):
    rows = {part: csv_rows(splits / f"{part}.csv") for part in ("train", "test")}
    if (splits / "val.csv").exists():
        rows["val"] = csv_rows(splits / "val.csv")
    listed = splits / "classes.txt"
    classes = read_classes(listed) if listed.exists() else tuple(sorted({row["label"] for _, row in rows["train"]}))
    return Index(classes, **{part: tuple(csv_video(row, classes, where) for where, row in rows[part]) for part in rows})


def csv_rows(path):
    reader = csv.DictReader(read_text(path).splitlines())
    if not {"path", "label"} <= set(reader.fieldnames or ()):
        raise UserError(f"{path}: the first line must name the columns path,label[,group], found {reader.fieldnames}")
    rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    for where, row in rows:
        if not row["path"] or not row["label"]:
            raise UserError(f"{where}: a row needs a path and a label, found {row}")
    if not rows:
        raise UserError(f"the {path.stem} list {path} has no videos")
    return rows


def csv_video(row, classes, where):
    return Video(row["path"], label_of(row["label"], classes, where), row.get("group") or None)


FORMATS = {"ucf101": ucf101, "folder": folder, "csv": csv_lists, "motion8": csv_lists}


def read_classes(path, numbered=False):
    """One name a line, in UCF101's classInd.txt after its number, which gives the order."""
    names = [line for _, line in lines(path)]
    if numbered:
        names = [name for _, name in sorted(numbered_class(line, where) for where, line in lines(path))]
    if len(set(names)) != len(names):
        raise UserError(f"{path}: a class is listed twice")
    return tuple(names)


def numbered_class(line, where):
    number, _, name = line.partition(" ")
    if not number.isdecimal() or not name:
        raise UserError(f"{where}: expected a number and a class name, found {line!r}")
    return int(number), name


def lines(path):
    """Lines that are not blank, with where they stand."""
    numbered = enumerate(read_text(path).splitlines(), 1)
    return [(f"{path}:{number}", line.strip()) for number, line in numbered if line.strip()]


def read_text(path):
    try:
        return need_file(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from None


def label_of(name, classes, where):
    if name not in classes:
        raise UserError(f"{where}: class {name!r} is not in the class list ({', '.join(classes[:5])}, ...)")
    return classes.index(name)


def need_file(path):
    if not path.is_file():
        raise UserError(f"there is no file {path}; data.splits must be the folder of the lists")
    return path


def need_folder(path):
    if not path.is_dir():
        raise UserError(
            f"there is no folder {path}; format folder reads <root>/train/<class>/ and <root>/test/<class>/"
        )
    return path


def check(index, root, missing_allowed=False):
    """Refuses an empty split, a group or video on both sides, and, unless allowed, listed videos that are not there."""
    for name in ("train", "test"):
        if not getattr(index, name):
            raise UserError(f"the {name} list of {root} has no videos")
    for name in ("train", "val", "test"):
        refuse_repeats(name, [v.path for v in getattr(index, name)])
    for name, other in (("train", "test"), ("train", "val"), ("val", "test")):
        refuse_overlap(name, getattr(index, name), other, getattr(index, other))
    missing = [v.path for part in (index.train, index.val, index.test) for v in part if not (root / v.path).is_file()]
    if missing and not missing_allowed:
        raise UserError(f"{len(missing)} listed videos are not under data.root={root}:\n  " + head(missing))


def refuse_repeats(name, paths):
    if len(set(paths)) != len(paths):
        raise UserError(
            f"the {name} list names a video twice:\n  {head([p for p, n in Counter(paths).items() if n > 1])}"
        )


def refuse_overlap(name, videos, other, others):
    for what in ("group", "path"):
        shared = {getattr(v, what) for v in videos} & {getattr(v, what) for v in others} - {None}
        if shared:
            raise UserError(
                f"{name} and {other} share {len(shared)} {what}(s), so the score would be too high:\n  "
                + head(sorted(shared))
            )


def head(names, most=20):
    more = [f"... and {len(names) - most} more"] if len(names) > most else []
    return "\n  ".join([*names[:most], *more])


def carve(index, share):
    """Moves `share` of the training groups, at least one, to validation; without groups nothing is held out.

    The choice depends on the groups' names alone, so that runs with different seeds are validated on the same videos.
    A group without which a class would have no training videos stays.
    """
    groups = sorted({v.group for v in index.train} - {None}, key=lambda g: hashlib.sha256(g.encode()).digest())
    wanted = max(1, math.floor(share * len(groups) + 0.5)) if share else 0
    train, val = index.train, ()
    for group in groups:
        rest = tuple(v for v in train if v.group != group)
        if len({v.group for v in val}) < wanted and {v.label for v in rest} == {v.label for v in train}:
            train, val = rest, val + tuple(v for v in train if v.group == group)
    return replace(index, train=train, val=tuple(v for v in index.train if v in set(val)))
