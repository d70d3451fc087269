"""Keep the list of what was explained into a folder: explanations.json, to which every command adds its videos.

A folder holds the maps of one method and one network. What a command explains again is replaced, and nothing else is.
"""

import re
from pathlib import Path

from typing_extensions import TypedDict

from videores.errors import UserError
from videores.runtime.files import read_json, write_json

FILE_NAME = "explanations.json"
CHECK_PICTURE = "check.png"
_ABOUT = ("source", "weights", "protocol", "method", "layer")  # which all maps of a folder share


class Entry(TypedDict):
    """What was written of a video; files are relative to the record's folder."""

    file: str  # where the video is, with the root
    video: str
    truth: str | None
    predicted: str
    label: str  # the class that is explained
    probability: float
    map: list[int]  # steps in time, height and width
    zero: bool
    picture: str
    arrays: str
    overlay: str | None


class Record(TypedDict):
    """The content of explanations.json; the videos of the latest command come first."""

    source: str
    weights: str  # a hash
    protocol: str
    method: str
    layer: str | None
    videos: list[Entry]
    check: list[str] | None  # lines of what the latest check found


def open_record(folder: Path, new: Record) -> Record:
    """Return the record of a folder, or the new one where it has none.

    Raises UserError where the folder has maps of another network or method, which it would mix up.
    """
    if not (folder / FILE_NAME).exists():
        return new
    old = read_record(folder / FILE_NAME)
    for key in _ABOUT:
        if old[key] != new[key]:  # type: ignore[literal-required]
            was, now = old[key], new[key]  # type: ignore[literal-required]
            raise UserError(
                f"{folder} must have maps of one network and method, and those in it have {key} {was}, not {now}: "
                "give another --out, or delete the folder"
            )
    return old


def read_record(path: Path) -> Record:
    """Read explanations.json. Raises UserError for a damaged file."""
    return read_json(path, Record, "delete it, and explain the videos again")


def write_record(folder: Path, record: Record) -> None:
    """Write explanations.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE_NAME, record)


def name_folder(record: Record, file: str, label: str) -> str:
    """Return the folder of a video and a class: the one it had, else one that no other video has."""
    for entry in record["videos"]:
        if (entry["file"], entry["label"]) == (file, label):
            return _get_folder(entry)
    used = set(map(_get_folder, record["videos"]))
    stem = re.sub(r"[^\w.@-]+", "-", Path(file).stem) or "video"
    return next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, len(used) + 3))) if name not in used)


def add_entries(record: Record, entries: list[Entry]) -> Record:
    """Return the record with entries before those that it had, of which the same folders are replaced."""
    replaced = set(map(_get_folder, entries))
    kept = [entry for entry in record["videos"] if _get_folder(entry) not in replaced]
    return {**record, "videos": [*entries, *kept]}


def _get_folder(entry):
    return Path(entry["picture"]).parent.name
