"""Read videos out of uncompressed tar files, from a folder or from any URL that fsspec opens.

A shard set is a folder of tar files with one index, `shards.json`: which bytes of which tar file each video is, their
checksum, the lists of the data set, and what the probe found. `data.root` names the folder or its URL. A video is read
by one request for its bytes, which are checked, so frames are those of the file that was packed.
`videores.data.prepare.pack` writes shard sets.
"""

import io
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from videores.data.lists import Index, Video, split_segment
from videores.errors import UnreadableVideo, UserError

INDEX_NAME = "shards.json"
INDEX_VERSION = 1
RETRY_SECONDS = (1, 5)  # waits after failed requests: a long training meets a broken connection
MAX_REQUESTS = 16  # at a time, while shards are checked


class Extent(NamedTuple):
    """Say where the bytes of a video are."""

    shard: str  # the tar file's name
    offset: int
    size: int
    checksum: int  # crc32


@dataclass(frozen=True, eq=False)
class ShardSet:
    """Stand for the folder of a data set whose videos are in tar files."""

    root: str  # the folder or its URL
    shards: Mapping[str, int]  # name -> bytes
    extents: Mapping[str, Extent]  # path of a video -> where it is

    def __str__(self) -> str:
        return self.root

    def __truediv__(self, path: str) -> "ShardVideo":
        return ShardVideo(self, path)

    def is_dir(self) -> bool:
        """Return True, as a folder does."""
        return True

    def ask(self, method: str, name: str, *arguments: Any) -> Any:
        """Call a method of fsspec for one of the files, again where the connection breaks.

        Raises UserError with the file's name where that fails.
        """
        for seconds in (*RETRY_SECONDS, None):
            try:
                store, folder = fsspec.core.url_to_fs(self.root)
                return getattr(store, method)(f"{folder}/{name}", *arguments)
            except Exception as error:  # each protocol's library has its own
                if seconds is None or isinstance(error, (ImportError, FileNotFoundError, PermissionError)):
                    raise UserError(_describe_failure(self.root, name, error)) from None
                time.sleep(seconds)

    def fetch(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """Read bytes of one of the files; raise UserError as `ask` does."""
        if "://" in self.root:
            return self.ask("cat_file", name, start, end)
        try:
            with open(Path(self.root, name), "rb", buffering=0) as file:  # fsspec takes 0.25 ms more
                file.seek(start)
                return file.read(-1 if end is None else end - start)
        except OSError as error:
            raise UserError(_describe_failure(self.root, name, error)) from None

    def read(self, path: str) -> bytes:
        """Read the bytes of a video.

        Raises UnreadableVideo where they are not those that were packed.
        """
        if path not in self.extents:
            raise UnreadableVideo(f"{self.root}/{path}", "there is no such file")
        shard, offset, size, checksum = self.extents[path]
        content = self.fetch(shard, offset, offset + size)
        if len(content) > size:
            what = "the server ignores byte ranges, which shards need; use one that has them, or a copy of the folder"
            raise UserError(f"{self.root}/{shard}: {what}")
        if len(content) < size or zlib.crc32(content) != checksum:
            what = f"these bytes of {shard} are not what {INDEX_NAME} says; write the shards again, or copy them again"
            raise UnreadableVideo(f"{self.root}/{path}", what, lasting=False)
        return content


@dataclass(frozen=True)
class ShardVideo:
    """Name a video of a shard set, or a part of it, as a Path names a file."""

    shards: ShardSet
    path: str

    def __str__(self) -> str:
        return f"{self.shards.root}/{self.path}"

    @property
    def file(self) -> str:
        """Return the path without the part."""
        return split_segment(self.path)[0]

    @property
    def stamp(self) -> list[int] | None:
        """Return what changes with the content, None where there is no such video."""
        extent = self.shards.extents.get(self.file)
        return extent and [extent.size, extent.checksum]

    def exists(self) -> bool:
        return self.file in self.shards.extents

    def open(self) -> io.BytesIO:
        """Read the video; the open file has its name, as FFmpeg looks at the suffix."""
        content = _NamedBytes(self.shards.read(self.file))
        content.name = self.file
        return content


class _NamedBytes(io.BytesIO):
    name: str


Root = Path | ShardSet
Source = str | Path | ShardVideo


def locate(root: str | Root) -> Root:
    """Return the shard set of a data set's root, or the folder where it is none.

    Raises UserError for a URL without a shard set, and for an index that is damaged or of another version.
    """
    if isinstance(root, ShardSet):
        return root
    if "://" in str(root) or Path(root, INDEX_NAME).is_file():
        return _read_shard_set(str(root).rstrip("/"))[0]
    return Path(root)


def resolve(root: str | Root) -> str:
    """Return the absolute name of a root."""
    return str(root) if "://" in str(root) else str(Path(str(root)).resolve())


def read_lists(shards: ShardSet, format: str, split: int) -> Index:
    """Return the lists that were packed with the videos.

    Raises UserError where the shards are of another format or have no such split.
    """
    content = _read_shard_set(shards.root)[1]
    if content["format"] != format:
        raise UserError(f"data.format must be {content['format']}, as in {shards}/{INDEX_NAME}, got {format}")
    if str(split) not in content["lists"]:
        raise UserError(
            f"data.split must be of {', '.join(content['lists'])}, as in {shards}/{INDEX_NAME}; got {split}"
        )
    lists = content["lists"][str(split)]
    train, test, val = (tuple(Video(*video) for video in lists[part]) for part in ("train", "test", "val"))
    return Index(tuple(lists["classes"]), train, test, val)


def read_manifest(shards: ShardSet) -> dict[str, Any]:
    """Return the manifest that was packed with the videos, whose root is None."""
    return _read_shard_set(shards.root)[1]["manifest"]


def check_shards(shards: ShardSet) -> None:
    """Check that every tar file is there, has its size, and begins with the video that the index says.

    Raises UserError that names those that are not.
    """
    firsts = {extent.shard: path for path, extent in reversed([*shards.extents.items()])}
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        wrong = [text for text in pool.map(lambda name: _find_fault(shards, name, firsts[name]), shards.shards) if text]
    if wrong:
        shown = "\n  ".join(wrong[:20])
        raise UserError(f"{shards}: {len(wrong)} shards are not those of {INDEX_NAME}; copy them again:\n  {shown}")


def _find_fault(shards, name, first):
    try:
        size = shards.ask("size", name)
        if size not in (None, shards.shards[name]):  # some servers do not say
            return f"{name}: it must have {shards.shards[name]:,} bytes, and has {size:,}"
        shards.read(first)
    except UnreadableVideo as error:
        return f"{name}: {error.reason}"
    except UserError as error:
        return str(error)


@lru_cache(maxsize=8)
def _read_shard_set(root):
    """Return the shard set and the content of its index."""
    empty = ShardSet(root, {}, {})
    try:
        content = json.loads(empty.fetch(INDEX_NAME))
        if content["version"] != INDEX_VERSION:
            what = f"version {content['version']} of the index; this videores reads {INDEX_VERSION}: write it again"
            raise UserError(f"{root}/{INDEX_NAME}: {what}")
        names = [*content["shards"]]
        extents = {path: Extent(names[number], *rest) for path, (number, *rest) in content["videos"].items()}
        return ShardSet(root, content["shards"], extents), content
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{root}/{INDEX_NAME}: no index of shards ({type(error).__name__}); copy it again") from None


def _describe_failure(root, name, error):
    if isinstance(error, FileNotFoundError):
        remedy = "there is no such file; data.root must be a folder that tools/prepare.py --shards wrote"
    elif isinstance(error, ImportError):
        remedy = f"{error}: install what this protocol needs"
    else:
        remedy = f"{type(error).__name__}: {error}; look at the connection and at the rights"
    return f"{root}/{name}: {remedy}"


@contextmanager
def as_file(source: Source) -> Iterator[str]:
    """Yield the absolute path of a video; one of a shard set is copied to a temporary folder.

    A part of a video stays a part.
    """
    if not isinstance(source, ShardVideo):
        yield os.path.abspath(source)
        return
    with tempfile.TemporaryDirectory(prefix="videores-shard-") as folder:
        file = Path(folder, Path(source.path).name)
        Path(split_segment(file)[0]).write_bytes(source.shards.read(source.file))
        yield str(file)
