"""Define videos of lists, and read list files with errors that name file and line.

Line ends may be LF or CRLF, a byte order mark is skipped, blank lines and blanks around fields do not count.
"""

import csv
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from videores.errors import UserError, format_suggestion
from videores.runtime.files import check_type

VIDEO_SUFFIXES = {
    *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"),
    *(".mts", ".m2ts", ".ogv", ".vob", ".asf", ".f4v", ".3g2"),
}
# of a part of a video
PART_COLUMN = re.compile(r"(^|[^a-z])(start|begin|onset|end|stop|offset|from|to|t0|t1)([^a-z]|$)")
SPELLING_REMEDY = "Unicode writes accents in two ways; use one, e.g. by convmv -f utf8 -t utf8 --nfc"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
NIFTI_SUFFIXES = (".nii", ".nii.gz")
ARCHIVED_VOLUME = re.compile(r"(.*\.npz)/(train|val|test)/(\d+)", re.DOTALL)
ARCHIVED_PICTURE = re.compile(
    r"(.*cifar-10-batches-(?:bin|py)/(?:data_batch_[1-5]|test_batch)(?:\.bin)?)/(\d+)", re.DOTALL
)


@dataclass(frozen=True)
class Video:
    """Name a video of a list."""

    path: str  # relative to the data set's root; of a part of a video with #t=start,end
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
    """List all files under a folder, sorted, without hidden ones; [] without a folder.

    Hidden are also unfinished files of a killed program. Links are followed last, so that every folder is listed once
    and under its own name, wherever they lead. Raises UserError for a folder that cannot be listed.
    """
    paths: list[Path] = []
    pending = [folder] if read_identity(folder) else []
    seen = {read_identity(parent) for parent in folder.resolve().parents}
    while pending:
        start = pending.pop(0)
        for name, folders, files in os.walk(start, onerror=_raise_unreadable):
            identity = read_identity(Path(name))
            if identity in seen:
                warn(f"{name} leads to a folder above, or one that is listed already: left out")
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            pending += [Path(name, f) for f in folders if Path(name, f).is_symlink()]
            paths += [Path(name, file) for file in files if not file.startswith(".")]
    return sorted(paths)


def _raise_unreadable(error: OSError) -> NoReturn:
    what = f"{error.filename}: {error.strerror}"
    raise UserError(f"{what}; make it readable, or move it out of the data set") from None


def read_identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file or folder, the same under all its names.

    Returns None where there is none. Raises UserError where that cannot be found out.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        _raise_unreadable(error)
    return status.st_dev, status.st_ino


def format_segment(path: str, start: str, end: str, where: str) -> str:
    """Return the name of a part of a video, a media fragment: `path#t=start,end`.

    `start` and `end` are seconds from the first frame, "" for those of the video.
    """
    texts = [start, end]
    for number, text in enumerate(texts):
        if text and not re.fullmatch(r"\d+\.?\d*|\.\d+", text):
            raise UserError(f"{where}: start and end must be seconds, e.g. 12.5, got {start!r} and {end!r}")
        texts[number] = f"{Decimal(text).normalize():f}" if text else ""
    if end and Decimal(end) <= Decimal(start or 0):
        raise UserError(f"{where}: start must be before end, got {start} and {end}")
    return f"{path}#t={','.join(texts)}" if any(texts) else path


def split_segment(path: Path | str) -> tuple[str, tuple[Fraction, Fraction | None] | None]:
    """Return the file of a video, and the seconds [start, end) of it; None: all."""
    match = re.fullmatch(r"(.*)#t=([\d.]*),([\d.]*)", str(path), re.DOTALL)
    if match is None:
        return str(path), None
    return match[1], (Fraction(match[2] or 0), Fraction(match[3]) if match[3] else None)


def split_volume(path: Path | str) -> tuple[str, tuple[str, int] | None]:
    """Return the file of a video, and (part, number) of a volume in an archive.

    The part of a picture in a batch of CIFAR-10 is "".
    """
    if match := ARCHIVED_PICTURE.fullmatch(str(path)):
        return match[1], ("", int(match[2]))
    match = ARCHIVED_VOLUME.fullmatch(str(path))
    return (match[1], (match[2], int(match[3]))) if match else (str(path), None)


def is_nifti_file(path: Path | str) -> bool:
    """Return whether a file is a volume by its suffix."""
    return str(path).lower().endswith(NIFTI_SUFFIXES)


def find_first_file(folder, *names):
    """Return the first of some names, under which a list goes, that exists."""
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with the line ends that it has."""
    if not path.is_file():
        raise MissingList(f"there is no file {path}; data.splits must be the folder of the lists")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text; convert it ({error})") from None


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Read the lines that are not blank, with `path:number` of each."""
    numbered = enumerate(re.split(r"\r\n|\r|\n", read_text(path)), 1)  # splitlines() ends lines at other characters too
    return [(f"{path}:{number}", line.strip()) for number, line in numbered if line.strip()]


def read_csv_rows(
    path: Path, header: str, needs: Sequence[str], known: Sequence[str] | None = None
) -> list[tuple[str, dict[str, str]]]:
    """Read the rows as dicts, with `path:number` of each.

    `header` shows how the first line should be; each row must have the columns of `needs`. Columns that are not in
    `known`, if given, are refused where their names speak of a part of a video, and warned about otherwise.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True, skipinitialspace=True)
    try:
        columns = next(([name.strip() for name in row] for row in reader if row), [])
        if not set(needs) <= set(columns):
            raise UserError(f"{path}: the first line must name the columns {header}, found {columns}")
        rows = [
            (f"{path}:{reader.line_num}", fields)
            for fields in ([field.strip() for field in row] for row in reader)
            if any(fields)
        ]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: must be valid CSV: {error}") from None
    if known:
        _check_known_columns(path, columns, known)
    for where, fields in rows:
        if any(fields[len(columns) :]):
            more = fields[len(columns) :]
            raise UserError(f"{where}: more fields than the {len(columns)} that the first line names: {more}")
    named = [(where, dict(zip(columns, fields, strict=False))) for where, fields in rows]
    for where, row in named:
        if not all(row.get(name) for name in needs):
            raise UserError(f"{where}: a row needs a {' and a '.join(needs)}, found {row}")
    if not named:
        raise UserError(f"{path}: the {path.stem} list must name at least one video")
    return named


def _check_known_columns(path, columns, known):
    unknown = [name for name in columns if name and name not in known]
    parts = [name for name in unknown if PART_COLUMN.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())]
    if parts:
        how = "a part of a video is given by start and end, in seconds"
        raise UserError(f"{path}: columns {', '.join(parts)} are not read; {how}: rename or remove them")
    if unknown:
        warn(f"{path}: columns {', '.join(unknown)} are not read; known are {', '.join(known)}")


def read_json_list(path: Path, kind: Any) -> Any:
    """Read a list in JSON that holds a type. Raises UserError, as `check_type` does."""
    return check_type(read_text(path).encode(), kind, path, "mend it, or get it again where data.source says")


def find_label(name: str, classes: Sequence[str], where: str) -> int:
    """Return the place of a class. Raises UserError, which names `where`."""
    try:
        return classes.index(name)
    except ValueError:
        likely = format_suggestion(name, classes) or f" ({', '.join(classes[:5])}, ...)"
        hint = _hint_at_likeness(name, classes) or likely
        raise UserError(f"{where}: class {name!r} is not in the class list{hint}") from None


def _hint_at_likeness(name, others):
    """Return a hint where a name looks like one of others and is spelled otherwise."""
    alike = [other for other in others if other != name and normalize_name(other) == normalize_name(name)]
    return f"; {alike[0]!a} looks the same as {name!a}: {SPELLING_REMEDY}" if alike else ""


def find_other_spelling(root: Any, path: str) -> str | None:
    """Return the name under which a missing file is there in another normal form."""
    others = {unicodedata.normalize(form, path) for form in ("NFC", "NFD")} - {path}
    return next((other for other in sorted(others) if (root / other).exists()), None)


def normalize_name(name: str) -> str:
    """Return a name as it looks: without blanks around it, in one normal form."""
    return unicodedata.normalize("NFC", name.strip())


def check_names(names: Iterable[str]) -> None:
    """Check that names are Unicode, as results, lists and pages hold them."""
    bad = sorted({name for name in names if not name.isascii() and name != name.encode(errors="ignore").decode()})
    if bad:
        shown = preview([ascii(os.fsencode(name))[1:] for name in bad])
        raise UserError(f"{len(bad)} names must be UTF-8 and are not; rename them, e.g. by convmv:\n  {shown}")


def warn(message: str) -> None:
    """Print a warning about the data on the standard error output."""
    print(f"warning: {message}", file=sys.stderr)


def preview(names: Sequence[str], most: int = 20) -> str:
    """Format the first of many names for a message, a line each."""
    more = [f"... and {len(names) - most} more"] if len(names) > most else []
    return "\n  ".join([*names[:most], *more])
