"""Read the list formats: `reader(root, splits, split)` returns an `Index`, also of an import path.

ucf101    splits/classInd.txt, trainlist0N.txt, testlist0N.txt; paths `Class/v_Class_gNN_cMM.avi`
hmdb51    splits/<class>_test_splitN.txt, one a class, `name flag`: 1 training, 2 test, 0 unused; root/<class>/<name>
kinetics  splits/train.csv and val.csv (or validate.csv), as distributed; its val is the test list. Videos lie under
          root/train and root/val, in class folders or not, as <id>_<start>_<end>.mp4 with six digits for the times
ssv2      splits/something-something-v2-{labels,train,validation}.json or {labels,train,validation}.json; its validation
          is the test list; root/<id>.webm
cifar10   root/cifar-10-batches-bin/ or cifar-10-batches-py/, or the downloaded archive of either, which is unpacked
          there; pictures are videos of one frame
folder    root/train/<class>/**, root/test/<class>/** and, if there, root/val/<class>/**: videos, folders of frames
          below the class folder or, where there is none of these, images, which are videos of one frame
npz       root is the archive: arrays train_images (NDHW), train_labels, test_* and, if there, val_*, as MedMNIST
          distributes its volumes; the classes are the lines of splits/classes.txt or, without it, the labels' numbers
ravdess, crema-d, afew   data sets of emotions: emotion.py
csv       splits/train.csv, test.csv and, if there, val.csv with the header `path,label[,group][,start,end]`, where the
          seconds start and end are those of a part of a longer video; the class list is splits/classes.txt (a name a
          line) or, without it, the sorted labels of train.csv
motion8, appear8, mixed16, order8, small, motiontone, motionhue, subjects4   csv, of the embedded sets

A video may be a volume, a NIfTI file: data/video/volumes.py says how it is read. In every format but npz it may be a
folder of its frames, numbered pictures: lists name the folder, or a file of its name with any suffix
(index.read_index).
"""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from videores.data.emotion import read_afew, read_crema_d, read_ravdess
from videores.data.lists import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Index,
    MissingList,
    Video,
    check_folder,
    find_first_file,
    find_label,
    format_segment,
    is_nifti_file,
    list_files,
    preview,
    read_csv_rows,
    read_json_list,
    read_lines,
    warn,
)
from videores.data.synthetic import datasets
from videores.data.video import cifar
from videores.data.video.pictures import is_frame_folder
from videores.data.video.volumes import check_one_size, read_archived_labels
from videores.errors import UserError
from videores.runtime.own_parts import call_part, is_import_path

# -- UCF101 -----------------------------------------------------------------------------------------------------------


def read_ucf101(root, splits, split):
    classes = _read_classes(splits / "classInd.txt", numbered=True)
    lists = {name: read_lines(splits / f"{name}list0{split}.txt") for name in ("train", "test")}
    return Index(classes, *(tuple(_parse_ucf101_line(line, classes, where) for where, line in lists[n]) for n in lists))


def _parse_ucf101_line(line, classes, where):
    """Parse `Class/v_Class_gNN_cMM.avi [label]`.

    Classes may share scenes, so gNN alone is the group.
    """
    path, *number = re.split(r"\s+(?=\d+$)", line)
    name = Path(path).parent.name
    label = find_label(name, classes, where)
    if number and int(number[0]) != label + 1:
        raise UserError(f"{where}: label {number[0]} for class {name}, which classInd.txt numbers {label + 1}")
    group = re.search(r"_(g\d+)_", Path(path).name)
    return Video(path, label, group[1] if group else None)


def _read_classes(path, numbered=False):
    """Read one class name a line; `numbered` ones follow the number of their place."""
    names = [line for _, line in read_lines(path)]
    if numbered:
        pairs = sorted(_parse_numbered_class(line, where) for where, line in read_lines(path))
        for due, (number, _) in enumerate(pairs, 1):
            if number != due:  # the labels of the lists are these numbers
                raise UserError(f"{path}: classes must be numbered without gaps: expected {due}, found {number}")
        names = [name for _, name in pairs]
    if len(set(names)) != len(names):
        repeats = sorted({name for name in names if names.count(name) > 1})
        raise UserError(f"{path}: each class must be listed once; remove the repeats of {', '.join(repeats)}")
    if not names:
        raise UserError(f"{path}: must list at least one class")
    return tuple(names)


def _parse_numbered_class(line, where):
    number, *name = line.split(maxsplit=1)
    if not number.isdecimal() or not name:
        raise UserError(f"{where}: expected a number and a class name, found {line!r}")
    return int(number), name[0]


# -- HMDB51 -----------------------------------------------------------------------------------------------------------


def read_hmdb51(root, splits, split):
    """Read HMDB51's lists.

    A class is whatever has a file for any of the three splits, so a file that is lost is noticed.
    """
    files = [re.fullmatch(r"(.+)_test_split[123]\.txt", path.name) for path in splits.iterdir()]
    classes = tuple(sorted({match[1] for match in files if match}))
    if not classes:
        raise MissingList(f"data.splits={splits} has no files <class>_test_split{split}.txt")
    flagged = [row for label in range(len(classes)) for row in _read_hmdb51_class(splits, split, classes[label], label)]
    return Index(classes, *(tuple(video for flag, video in flagged if flag == wanted) for wanted in "12"))


def _read_hmdb51_class(splits, split, name, label):
    for where, line in read_lines(splits / f"{name}_test_split{split}.txt"):
        file, _, flag = line.rpartition(" ")
        if flag not in ("0", "1", "2") or not file.strip():
            raise UserError(f"{where}: expected a file and 1 (training), 2 (test) or 0 (unused), found {line!r}")
        yield flag, Video(f"{name}/{file.strip()}", label, derive_hmdb51_group(name, file.strip()))


def derive_hmdb51_group(name, file):
    """Return the source video, with which the name begins, within its class.

    The official splits keep those together.

    `<source>_<class>_<visible body>_<camera motion>_np<people>_<camera view>_<quality>_<number>.avi`. A film that is
    the source of several classes is in training for one and in test for another, so the source alone is no group.
    """
    match = re.fullmatch(rf"(.+)_{re.escape(name)}_[hulf]_[cn]m_np\d+_(fr|ba|le|ri)_(goo|med|bad)_\d+\.avi", file)
    return f"{name}/{match[1]}" if match else None


# -- Kinetics ---------------------------------------------------------------------------------------------------------


def _read_kinetics(root, splits, split):
    """Read Kinetics' CSV lists.

    Classes are the sorted labels of the training list, as in torchvision's weights.
    """
    lists = {"train": splits / "train.csv", "val": find_first_file(splits, "val.csv", "validate.csv")}
    needs = ("label", "youtube_id", "time_start", "time_end")
    rows = {part: read_csv_rows(path, f"{','.join(needs)},split[,is_cc]", needs) for part, path in lists.items()}
    classes = tuple(sorted({row["label"] for _, row in rows["train"]}))
    return Index(classes, *(tuple(_find_kinetics_videos(root, part, rows[part], classes)) for part in rows))


def _find_kinetics_videos(root, part, rows, classes):
    files = _find_video_files(root, part)
    for where, row in rows:
        name = _make_kinetics_name(row, part, where)
        path = files.get(name, f"{part}/{row['label']}/{name}.mp4")
        yield Video(path, find_label(row["label"], classes, where), row["youtube_id"])


def _find_video_files(root, part):
    """Return {name without suffix: path relative to root} of all under root/part.

    They are files, or folders of frames.
    """
    paths = list_files(root / part)[::-1]
    found = {p.parent.name: p.parent for p in paths if p.suffix.lower() in IMAGE_SUFFIXES}
    found |= {p.stem: p for p in paths if is_video_file(p)}
    return {name: path.relative_to(root).as_posix() for name, path in found.items()}


def _make_kinetics_name(row, part, where):
    """Return the file's name without suffix; refuse a row of another split."""
    try:
        name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
    except ValueError:
        raise UserError(f"{where}: time_start and time_end must be whole seconds, found {row}") from None
    if row.get("split") and row["split"] not in {"train": ("train",), "val": ("val", "validate")}[part]:
        raise UserError(f"{where}: split must be that of the {part} list, got {row['split']!r}")
    return name


# -- Something-Something V2 -------------------------------------------------------------------------------------------


class _Ssv2Entry(TypedDict):
    """{"id": "78687", "template": "Holding [something] next to [something]", ...}."""

    id: Annotated[str, Field(min_length=1)] | int
    template: str


def _read_ssv2(root, splits, split):
    labels, *parts = (
        find_first_file(splits, f"something-something-v2-{name}.json", f"{name}.json")
        for name in ("labels", "train", "validation")
    )
    classes = _read_ssv2_classes(read_json_list(labels, dict[str, str | int]), labels)
    lists = [(read_json_list(path, list[_Ssv2Entry]), classes, path) for path in parts]
    return Index(classes, *(tuple(_make_ssv2_videos(*one)) for one in lists))


def _read_ssv2_classes(numbers, path):
    """Return the names in the order of their numbers.

    They come as {"Approaching something with your camera": "0", ...}.
    """
    wanted = [str(number) for number in range(len(numbers))]
    if sorted(map(str, numbers.values())) != sorted(wanted):
        raise UserError(f"{path}: the classes must be numbered 0 to {len(numbers) - 1}, each number once")
    return tuple(sorted(numbers, key=lambda name: int(numbers[name])))


def _make_ssv2_videos(entries, classes, path):
    """Yield the videos of a list's entries, whose class is the template without brackets."""
    for number, entry in enumerate(entries):
        name = entry["template"].replace("[", "").replace("]", "")
        yield Video(f"{entry['id']}.webm", find_label(name, classes, f"{path}: [{number}]"))


# -- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def _read_cifar10(root, splits, split):
    """Read the labels of either archive, unpacked or as downloaded; a picture is `<batch>/<number>`."""
    folder = cifar.find_folder(root)
    classes, batches = cifar.list_batches(folder)
    parts = {part: tuple(v for batch in some for v in _list_pictures(root, batch)) for part, some in batches.items()}
    return Index(tuple(classes), **parts)


def _list_pictures(root, batch):
    name = Path(batch.path).relative_to(root).as_posix()
    return [Video(f"{name}/{number}", label) for number, label in enumerate(batch.labels)]


# -- volumes ----------------------------------------------------------------------------------------------------------


def _read_npz(root, splits, split):
    """Read the labels of an archive of volumes; a volume is `<part>/<number>`."""
    parts = {part: read_archived_labels(root, part) for part in ("train", "test", "val")}
    check_one_size(root, [part for part, label_V in parts.items() if len(label_V)])
    listed, count = splits / "classes.txt", int(parts["train"].max(initial=0)) + 1
    classes = _read_classes(listed) if listed.exists() else tuple(map(str, range(count)))
    missing = [name for label, name in enumerate(classes) if label not in parts["train"]]
    if missing:
        raise UserError(f"{root}: train_labels must have volumes of each class, and has none of {preview(missing, 5)}")
    for part, label_V in parts.items():
        if len(label_V) and label_V.max() >= len(classes):
            what = f"must be below the number of classes ({len(classes)}), got {label_V.max()}"
            raise UserError(f"{root}: {part}_labels {what}: give data.splits a classes.txt with all of them")
    make = lambda part, label_V: tuple(Video(f"{part}/{number}", int(label)) for number, label in enumerate(label_V))
    return Index(classes, **{part: make(part, label_V) for part, label_V in parts.items()})


# -- your own ---------------------------------------------------------------------------------------------------------


def _read_folder(root, splits, split):
    classes = tuple(sorted(p.name for p in check_folder(root / "train").iterdir() if p.is_dir() and p.name[0] != "."))
    check_folder(root / "test")
    parts = ("train", "test", "val")
    files = [path for part in parts for path in list_files(root / part)]
    inside = [path for path in files if len(path.relative_to(root).parts) > 2]
    frames = _find_frame_folders(root, inside)
    single = [path for path in inside if path not in frames]
    has_videos = any(is_video_file(path) for path in single) or frames
    taken = [path for path in single if (is_video_file(path) if has_videos else path.suffix.lower() in IMAGE_SUFFIXES)]
    _warn_left_out(root, taken, set(single) - set(taken), set(files) - set(inside))
    folders = set(frames.values())
    if folders:
        warn(f"{root}: {len(folders)} folders of numbered pictures are read as the frames of one video each")
    taken = sorted({*taken, *folders})
    videos = {part: tuple(_make_folder_videos(root, part, taken, classes)) for part in parts}
    for part in parts:
        _check_class_folders(root / part, classes, {classes[video.label] for video in videos[part]})
    return Index(classes, **videos)


def _find_frame_folders(root, paths):
    """Return {picture: folder} of the folders below class folders that hold the frames of a video."""
    names = defaultdict(list)
    for path in paths:
        if len(path.relative_to(root).parts) > 3 and path.suffix.lower() in IMAGE_SUFFIXES:
            names[path.parent].append(path.name)
    return {folder / name: folder for folder, some in names.items() if is_frame_folder(some) for name in some}


def is_video_file(path: Path) -> bool:
    """Return whether a file is a video or volume, by suffix or content."""
    suffix = path.suffix.lower()
    return (
        suffix in VIDEO_SUFFIXES or is_nifti_file(path) or (not re.fullmatch(r"\.[a-z]\w*", suffix) and _is_mp4(path))
    )


def _is_mp4(path):
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == b"ftyp"


def _make_folder_videos(root, part, paths, classes):
    for path in paths:
        name = path.relative_to(root)
        if name.parts[0] == part:
            yield Video(name.as_posix(), find_label(name.parts[1], classes, path))


def _warn_left_out(root, taken, left, stray):
    """Count the files that are not listed, by suffix, as none is lost without a word."""
    if left:
        counts = [Counter(path.suffix.lower() or "no suffix" for path in some) for some in (left, taken)]
        texts = [", ".join(f"{n} {suffix}" for suffix, n in sorted(count.items())) for count in counts]
        warn(f"{root}: left out {len(left)} files by their suffix ({texts[0]}); read are {texts[1] or 'none'}")
    if stray:
        names = preview(sorted(str(path.relative_to(root)) for path in stray), 5)
        warn(f"{root}: left out {len(stray)} files that lie in no class folder; move videos into one:\n  {names}")


def _check_class_folders(folder, classes, shown):
    """Refuse empty class folders of the training list, and warn about those of others."""
    empty = [name for name in classes if name not in shown and (folder / name).is_dir()]
    if empty:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
        message = f"class folders of {folder} without videos ({suffixes}):\n  {preview(empty)}"
        if folder.name == "train":
            raise UserError(message)
        warn(message)


def _read_csv_lists(root, splits, split):
    parts = ["train", "test", *(["val"] if (splits / "val.csv").exists() else [])]
    needs, known = ("path", "label"), ("path", "label", "group", "start", "end")
    rows = {part: read_csv_rows(splits / f"{part}.csv", "path,label[,group]", needs, known) for part in parts}
    listed = splits / "classes.txt"
    classes = _read_classes(listed) if listed.exists() else tuple(sorted({row["label"] for _, row in rows["train"]}))
    _check_single_labels(classes, splits / "train.csv")
    return Index(classes, **{part: tuple(_make_csv_video(*row, classes) for row in rows[part]) for part in rows})


def _make_csv_video(where, row, classes):
    """Make the video of a row; parts of one file are a group, unless another is given."""
    path = format_segment(row["path"], row.get("start", ""), row.get("end", ""), where)
    group = row.get("group") or (row["path"] if path != row["path"] else None)
    return Video(path, find_label(row["label"], classes, where), group)


def _check_single_labels(classes, path):
    """Refuse classes that are several others, as one field may name for several labels."""
    for name in classes:
        parts = [part.strip() for part in re.split(r"[|;]", name)]
        if len(parts) > 1 and set(parts) <= set(classes):
            raise UserError(f"{path}: label {name!r} names {len(parts)} classes; give a video one label")


def read_lists(name: str, root: Path, splits: Path, split: int) -> Index:
    """Read the lists of a format, one of READERS or an import path."""
    if is_import_path(name):
        return _check_own_index(name, call_part("data.format", name, root=root, splits=splits, split=split))
    return READERS[name](root, splits, split)


def _check_own_index(name, index):
    """Check what the rest relies on and the readers here ensure."""
    if not isinstance(index, Index):
        raise UserError(f"data.format={name} must return a videores.data.lists.Index, got {type(index).__name__}")
    for video in (*index.train, *index.val, *index.test):
        if not isinstance(video, Video) or video.label not in range(len(index.classes)):
            raise UserError(
                f"data.format={name} must list Video(path, label, group) with labels from 0 to "
                f"{len(index.classes) - 1}, got {video!r}"
            )
    return replace(index, **{key: tuple(getattr(index, key)) for key in ("classes", "train", "val", "test")})


READERS = {
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "kinetics": _read_kinetics,
    "ssv2": _read_ssv2,
    "ravdess": read_ravdess,
    "crema-d": read_crema_d,
    "afew": read_afew,
    "cifar10": _read_cifar10,
    "folder": _read_folder,
    "csv": _read_csv_lists,
    "npz": _read_npz,
    **dict.fromkeys(datasets.SETS, _read_csv_lists),
}
