"""Write files atomically, whole or not at all, and check what is read."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import is_typeddict

from videores.errors import UserError

OPEN_FILES_HINT = "raise the limit of open files (ulimit -n 4096), or lower data.workers"
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_NAME_BYTES = 200  # file systems take 255, of which a temporary name adds up to 22


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well.

    It is removed when the block fails. An OSError of a full disk names the file.
    """
    path = Path(path)
    # the suffix stays last because FFmpeg takes the container from it
    temporary = path.with_name(f".{_shorten_stem(path)}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS and error.filename in (None, str(temporary)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@cache
def _make_adapter(kind: Any) -> TypeAdapter[Any]:
    config = ConfigDict(extra="allow", arbitrary_types_allowed=True)  # of inner TypedDicts, too
    return TypeAdapter(with_config(config)(kind)) if is_typeddict(kind) else TypeAdapter(kind, config=config)


def read_json(path: Path | str, kind: Any, remedy: str) -> Any:
    """Read a JSON file that holds a type.

    Raises FileNotFoundError, and UserError as `check_type` does.
    """
    return check_type(Path(path).read_bytes(), kind, path, remedy)


def check_type(value: Any, kind: Any, where: Path | str, remedy: str = "restore it, or make it again") -> Any:
    """Return a value, or that of JSON as bytes, which must be of a type.

    A TypedDict may have further keys. Raises UserError, which names `where`, the first wrong key and the remedy.
    """
    adapter = _make_adapter(kind)
    try:
        return (adapter.validate_json if isinstance(value, bytes) else adapter.validate_python)(value, strict=True)
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in mistake["loc"]).lstrip(".")
        what = ": ".join(filter(None, (place, mistake["msg"])))
        raise UserError(f"{where} is damaged or of another version: {what}; {remedy}") from None


def _shorten_stem(path):
    """Return the name without suffix, or its digest where more would be too long."""
    name = os.fsencode(path.name)
    return path.stem if len(name) <= MAX_NAME_BYTES else hashlib.sha256(name).hexdigest()[:32]


def remove_temporary_files(paths: Iterable[Path]) -> None:
    """Remove the temporary files that killed processes left for `paths`."""
    names = {path.with_name(f"{_shorten_stem(path)}{path.suffix}") for path in paths}
    for folder in {path.parent for path in names if path.parent.is_dir()}:
        for other in folder.iterdir():
            name = re.fullmatch(r"\.(.+)\.\d+\.tmp(\.[^.]*)?", other.name)
            if name and folder / f"{name[1]}{name[2] or ''}" in names:
                other.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file: a killed process leaves the old one or the new one."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")
