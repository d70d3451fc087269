"""Files that are written whole or not at all."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well, and is removed when it fails."""
    path = Path(path)
    # the suffix stays last because FFmpeg takes the container from it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary_files(paths: Iterable[Path]) -> None:
    """Removes the temporary files for `paths` of processes that were killed; lists each folder once."""
    paths = set(paths)
    for folder in {path.parent for path in paths if path.parent.is_dir()}:
        for other in folder.iterdir():
            name = re.fullmatch(r"\.(.+)\.\d+\.tmp(\.[^.]*)?", other.name)
            if name and folder / f"{name[1]}{name[2] or ''}" in paths:
                other.unlink(missing_ok=True)


def write_text(path, text):
    """A killed run leaves the old file or the new one."""
    with write_atomically(path) as temporary:
        temporary.write_text(text)
