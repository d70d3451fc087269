"""Read data sets of emotions, whose file names say actor and emotion; the groups are actors.

ravdess   root/**/01-01-05-01-02-01-12.mp4: modality, channel, emotion, intensity, statement, repetition, actor
crema-d   root/**/1001_DFA_ANG_XX.flv: actor, sentence, emotion, intensity
afew      root/Train*/<emotion>/ and root/Val*/<emotion>/; its Val is the test list. Groups are those of
          splits/subjects.csv (`path,group`) or, without it, the film of `<film>_<number>.avi`

The first two have five folds of actors, of which data.split is the test list.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from videores.data.lists import (
    VIDEO_SUFFIXES,
    Index,
    MissingList,
    Video,
    find_label,
    list_files,
    preview,
    read_csv_rows,
    warn,
)
from videores.errors import UserError

# of Luna-Jimenez et al. 2021, PMC8618559: women and men in each
RAVDESS_FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
RAVDESS_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(\d\d-\d\d-\d\d)-(0[1-9]|1\d|2[0-4])")
RAVDESS_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
CREMA_D_NAME = re.compile(r"(10\d\d)_[A-Z]{3}_([A-Z]{3})_[A-Z]{1,2}")
CREMA_D_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
CREMA_D_FOLDS = 5


def read_ravdess(root: Path, splits: Path, split: int) -> Index:
    """Read the spoken recordings of RAVDESS, each once.

    It distributes each with sound (modality 01), without (02) and as sound alone (03): pictures are taken from the
    first that is there, never from two. Songs are left out, as in the published protocols.
    """
    found, left_out = dict[tuple[str, ...], Video](), Counter[str]()
    for path, name in _list_named(root, RAVDESS_NAME, "01-01-05-01-02-01-12.mp4"):
        modality, channel, emotion, *_, actor = recording = name.groups()
        reason = "of sound alone" if modality == "03" else "of songs" if channel == "02" else None
        if reason := reason or ("with the same pictures" if recording[1:] in found else None):
            left_out[reason] += 1
        else:
            found[recording[1:]] = Video(path, int(emotion) - 1, f"actor {actor}")
    if left_out:
        warn(f"{root}: left out {', '.join(f'{count} files {what}' for what, count in sorted(left_out.items()))}")
    tested = {f"actor {actor:02}" for actor in RAVDESS_FOLDS[split - 1]}
    return _split_groups(RAVDESS_EMOTIONS, found.values(), tested)


def read_crema_d(root: Path, splits: Path, split: int) -> Index:
    """Read CREMA-D, whose actors take turns over the folds."""
    classes, found = tuple(CREMA_D_EMOTIONS.values()), dict[str, Video]()
    for path, name in _list_named(root, CREMA_D_NAME, "1001_DFA_ANG_XX.flv"):
        label = find_label(CREMA_D_EMOTIONS.get(name[2], name[2]), classes, path)
        found.setdefault(name[0], Video(path, label, f"actor {name[1]}"))  # another copy has the same pictures
    tested = {f"actor {actor}" for actor in range(1000 + split, 1092, CREMA_D_FOLDS)}
    return _split_groups(classes, found.values(), tested)


def _list_named(root: Path, pattern: re.Pattern[str], example: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield (path, match) of the videos whose names without suffix match, in the order of the names."""
    files = [path for path in list_files(root) if path.suffix.lower() in VIDEO_SUFFIXES]
    named = [(path, match) for path in files if (match := pattern.fullmatch(path.stem))]
    if not named:
        raise MissingList(f"data.root={root} has no video with a name like {example}")
    if others := [str(path.relative_to(root)) for path in files if not pattern.fullmatch(path.stem)]:
        warn(f"{root}: left out {len(others)} videos without a name like {example}:\n  {preview(others, 5)}")
    yield from (
        (path.relative_to(root).as_posix(), match) for path, match in sorted(named, key=lambda one: one[0].name)
    )


def _split_groups(classes, videos, tested):
    """Make the list of the tested groups, and that of the others."""
    return Index(
        classes,
        train=tuple(video for video in videos if video.group not in tested),
        test=tuple(video for video in videos if video.group in tested),
    )


def read_afew(root: Path, splits: Path, split: int) -> Index:
    """Read films in class folders, as AFEW's: the labels of its test set are not public."""
    folders = [_find_part(root, part) for part in ("Train", "Val")]
    classes = tuple(sorted(path.name for path in folders[0].iterdir() if path.is_dir() and path.name[0] != "."))
    subjects = splits / "subjects.csv"
    rows = read_csv_rows(subjects, "path,group", ("path", "group")) if subjects.exists() else None
    groups = {row["path"]: row["group"] for _, row in rows} if rows else None
    train, test = (tuple(_make_afew_videos(root, folder, classes, groups)) for folder in folders)
    unknown = [video.path for video in (*train, *test) if groups and video.path not in groups]
    if unknown:
        raise UserError(
            f"{subjects} must name the group of every video, {len(unknown)} are not there:\n  {preview(unknown)}"
        )
    return Index(classes, train, test)


def _find_part(root, part):
    found = sorted(path for path in root.glob(f"{part}*") if path.is_dir())
    if len(found) != 1:
        raise MissingList(f"data.root={root} must have one folder {part}*, found {[path.name for path in found]}")
    return found[0]


def _make_afew_videos(root, folder, classes, groups):
    for path in list_files(folder):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.parent != folder:
            name = path.relative_to(root).as_posix()
            film = re.fullmatch(r"(.+)[_-]\d+", path.stem)
            group = groups.get(name) if groups else film[1] if film else None
            yield Video(name, find_label(path.relative_to(folder).parts[0], classes, path), group)
