"""Videos in lists, and what the readers of list files share: text, CSV and JSON, with errors that name file and line.

Line ends may be LF or CRLF, a byte order mark is skipped, blank lines do not count.
"""

import csv
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from videores.errors import UserError

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


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
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # part -> expected: listed; found: of those, there


class MissingList(UserError):
    """A list that is not there: the configuration's data.source says where to get it."""


def check_file(path):
    if not path.is_file():
        raise MissingList(f"there is no file {path}; data.splits must be the folder of the lists")
    return path


def check_folder(path):
    if not path.is_dir():
        raise MissingList(
            f"there is no folder {path}; format folder reads <root>/train/<class>/ and <root>/test/<class>/"
        )
    return path


def list_files(folder):
    """All files, sorted, through links too; none that is hidden, as unfinished files of a killed program are."""
    paths = []
    for name, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        paths += [Path(name, file) for file in files if not file.startswith(".")]
    return sorted(paths)


def find_first_file(folder, *names):
    """The first of some names that a list goes by."""
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def read_text(path):
    try:
        return check_file(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from None


def read_lines(path):
    """Lines that are not blank, with where they stand."""
    numbered = enumerate(read_text(path).splitlines(), 1)
    return [(f"{path}:{number}", line.strip()) for number, line in numbered if line.strip()]


def read_csv_rows(path, header, needs):
    """The rows as dicts, with where they stand. `header` says how the first line should be; a row `needs` some."""
    reader = csv.DictReader(read_text(path).splitlines(), strict=True)
    try:
        if not set(needs) <= set(reader.fieldnames or ()):
            raise UserError(f"{path}: the first line must name the columns {header}, found {reader.fieldnames}")
        rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.reader.line_num}: not valid CSV: {error}") from None
    for where, row in rows:
        if any(row.get(None, ())):  # where csv puts what no column has
            raise UserError(f"{where}: more fields than the {len(row) - 1} that the first line names: {row[None]}")
        if not all(row[name] for name in needs):
            raise UserError(f"{where}: a row needs a {' and a '.join(needs)}, found {row}")
    if not rows:
        raise UserError(f"the {path.stem} list {path} has no videos")
    return rows


def read_json(path, kind):
    """The content of a JSON file, a dict or a list."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, kind):
        raise UserError(f"{path}: expected a JSON {kind.__name__}, found a {type(content).__name__}")
    return content


def find_label(name, classes, where):
    try:
        return classes.index(name)
    except ValueError:
        raise UserError(f"{where}: class {name!r} is not in the class list ({', '.join(classes[:5])}, ...)") from None


def preview(names, most=20):
    """The first of many names, for a message."""
    more = [f"... and {len(names) - most} more"] if len(names) > most else []
    return "\n  ".join([*names[:most], *more])
