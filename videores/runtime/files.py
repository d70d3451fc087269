"""Write files atomically: whole or not at all."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_NAME_BYTES = 200  # file systems take 255, of which a temporary name adds up to 22


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well.

    It is removed when the block fails.
    """
    path = Path(path)
    # the suffix stays last because FFmpeg takes the container from it
    temporary = path.with_name(f".{_shorten_stem(path)}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
