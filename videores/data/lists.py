"""Define videos of lists, and read list files with errors that name file and line.

Line ends may be LF or CRLF, a byte order mark is skipped, blank lines do not count.
"""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from videores.errors import UserError, format_suggestion

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class Video:
    """Name a video of a list."""

    path: str  # relative to the data set's root
    label: int
    group: str | None = None


@dataclass(frozen=True)
class Index:
    """List the classes and videos of a data set."""

    classes: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    val: tuple[Video, ...] = ()
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # part -> expected: listed; found: of those, there


class MissingList(UserError):
    """Raised for a list that is not there; data.source says where to get it."""


def check_folder(path):
    if not path.is_dir():
        raise MissingList(
            f"there is no folder {path}; format folder reads <root>/train/<class>/ and <root>/test/<class>/"
        )
    return path


def list_files(folder: Path) -> list[Path]:
    """List all files under a folder, sorted, through links too, without hidden ones.

    Hidden are also unfinished files of a killed program.
    """
    paths = []
    for name, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        paths += [Path(name, file) for file in files if not file.startswith(".")]
    return sorted(paths)


def find_first_file(folder, *names):
    """Return the first of some names, under which a list goes, that exists."""
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def read_text(path: Path) -> str:
    """Read a UTF-8 text file."""
    if not path.is_file():
        raise MissingList(f"there is no file {path}; data.splits must be the folder of the lists")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text; convert it ({error})") from None


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Read the lines that are not blank, with `path:number` of each."""
    numbered = enumerate(read_text(path).splitlines(), 1)
    return [(f"{path}:{number}", line.strip()) for number, line in numbered if line.strip()]


def read_csv_rows(path, header, needs):
    """Read the rows as dicts, with `path:number` of each.

    `header` shows how the first line should be; each row must have the columns of `needs`.
    """
    reader = csv.DictReader(read_text(path).splitlines(), strict=True)
    try:
        if not set(needs) <= set(reader.fieldnames or ()):
            raise UserError(f"{path}: the first line must name the columns {header}, found {reader.fieldnames}")
        rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.reader.line_num}: must be valid CSV: {error}") from None
    for where, row in rows:
        if any(row.get(None, ())):  # where csv puts what no column has
            raise UserError(f"{where}: more fields than the {len(row) - 1} that the first line names: {row[None]}")
        if not all(row[name] for name in needs):
            raise UserError(f"{where}: a row needs a {' and a '.join(needs)}, found {row}")
    if not rows:
        raise UserError(f"{path}: the {path.stem} list must name at least one video")
    return rows


def read_json(path, kind):
    """Read a JSON file that holds a dict or a list."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: must be valid JSON: {error}") from None
    if not isinstance(content, kind):
        raise UserError(f"{path}: must be a JSON {kind.__name__}, found a {type(content).__name__}")
    return content


def find_label(name, classes, where):
    try:
        return classes.index(name)
    except ValueError:
        hint = format_suggestion(name, classes) or f" ({', '.join(classes[:5])}, ...)"
        raise UserError(f"{where}: class {name!r} is not in the class list{hint}") from None


def preview(names: Sequence[str], most: int = 20) -> str:
    """Format the first of many names for a message, a line each."""
    more = [f"... and {len(names) - most} more"] if len(names) > most else []
    return "\n  ".join([*names[:most], *more])
