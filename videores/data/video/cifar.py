"""Read the archives of CIFAR-10 as distributed: the binary and the Python one.

A batch is a file of pictures: red, green and blue planes of 32x32 bytes. In binary batches a label comes before each;
Python's batches are pickles, which are parsed, never loaded, for the place of their one block of pictures. A picture's
path is `<batch>/<number>`, as if the batch were a folder.
"""

import gzip
import hashlib
import os
import pickletools
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from videores.errors import UserError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
FOLDERS = {"bin": "cifar-10-batches-bin", "py": "cifar-10-batches-py"}
ARCHIVES = {"bin": "cifar-10-binary.tar.gz", "py": "cifar-10-python.tar.gz"}
RAW_BYTES = ("BINSTRING", "BINBYTES")  # codes of bytes that follow their length of 4 bytes, in Python 2 and 3
COPY_AGAIN = "download or copy it again"


class Batch(NamedTuple):
    """Say where the pictures of a batch are: byte k of picture i is at offset + i * step + k * stride."""

    path: str
    offset: int
    step: int
    labels: tuple[int, ...]
    stride: int = 1

    def cut(self, content: np.ndarray, number: int) -> np.ndarray:
        """Return the bytes of a picture, of the bytes of the batch."""
        start = self.offset + number * self.step
        return content[start : start + (PIXELS - 1) * self.stride + 1 : self.stride]


def list_batches(folder: Path) -> tuple[list[str], dict[str, list[Batch]]]:
    """Return the names of the classes, and the batches of "train" and "test".

    Raises UserError for files that are missing, damaged or cut short.
    """
    suffix = ".bin" if folder.name == FOLDERS["bin"] else ""
    names = {"train": [f"data_batch_{n}{suffix}" for n in range(1, 6)], "test": [f"test_batch{suffix}"]}
    batches = {part: [read_batch(folder / name) for name in some] for part, some in names.items()}
    classes = _read_classes(folder, suffix)
    most = max(len(batch.labels) for some in batches.values() for batch in some)
    for batch in (batch for some in batches.values() for batch in some):
        if len(batch.labels) < most:
            raise UserError(f"{batch.path} has {len(batch.labels)} pictures, other batches {most}; {COPY_AGAIN}")
        if max(batch.labels) >= len(classes):
            raise UserError(f"{batch.path} has the label {max(batch.labels)} of {len(classes)} classes; {COPY_AGAIN}")
    return classes, batches


def read_batch(path: Path) -> Batch:
    """Return where the pictures of a batch are, and their labels. Raises UserError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; CIFAR-10 has data_batch_1 to 5 and test_batch") from None
    if path.suffix != ".bin":
        return _parse_pickle(path, content)
    if not content or len(content) % (1 + PIXELS):
        what = (
            f"is cut short: its {len(content):,} bytes are no multiple of the {1 + PIXELS:,} of a label and a picture"
        )
        raise UserError(f"{path} {what}; {COPY_AGAIN}")
    return Batch(str(path), 1, 1 + PIXELS, tuple(content[:: 1 + PIXELS]))


def _parse_pickle(path, content):
    """Find the pictures and labels of a pickle, {"labels": [6, ...], "data": array, ...}."""
    key, labels, blocks, by_columns = None, [], [], False
    for code, value, at in _iterate_codes(path, content):
        by_columns |= key == "data" and (code == "NEWTRUE" or value is True)  # numpy's Fortran order
        if code in RAW_BYTES and key == "data":
            blocks.append((at + 5, len(value)))
        elif isinstance(value, (str, bytes)):
            text = value.decode("latin1") if isinstance(value, bytes) else value
            key = text if text in ("labels", "data", "filenames", "batch_label") else key
        elif key == "labels" and code in ("BININT1", "BININT", "BININT2", "INT"):
            labels.append(value)
    # beside the pictures, an array has a few bytes of its type
    large = [(offset, size) for offset, size in blocks if labels and size == PIXELS * len(labels)]
    if len(large) != 1:
        raise UserError(
            f"{path} is no batch of CIFAR-10: it must have labels, and one array of {PIXELS} bytes for each"
        )
    step, stride = (1, len(labels)) if by_columns else (PIXELS, 1)
    return Batch(str(path), large[0][0], step, tuple(labels), stride)


def _iterate_codes(path, content) -> Iterator[tuple[str, Any, int]]:
    """Yield (code, argument, position) of a pickle, without executing it."""
    try:
        for code, value, at in pickletools.genops(content):
            if code.name not in ("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "PUT", "GET"):
                yield code.name, value, at or 0
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is cut short or damaged ({error}); {COPY_AGAIN}") from None


def _read_classes(folder, suffix):
    if suffix:
        path = folder / "batches.meta.txt"
        names = path.read_text().split() if path.is_file() else []
    else:
        path = folder / "batches.meta"
        names = _parse_names(path) if path.is_file() else []
    if not names:
        raise UserError(f"{path} must hold the names of the classes; {COPY_AGAIN}")
    return names


def _parse_names(path):
    """Return the strings that follow label_names in a pickle, up to the next key."""
    names, inside = [], False
    for _, value, _ in _iterate_codes(path, path.read_bytes()):
        text = value.decode("latin1") if isinstance(value, bytes) else value
        if text in ("label_names", "num_vis", "num_cases_per_batch"):
            inside = text == "label_names"
        elif inside and isinstance(text, str):
            names.append(text)
    return names


# Pictures


def decode_picture(path: Path | str, indices: Sequence[int] | None = None) -> Iterator[av.VideoFrame]:
    """Yield the one frame of a picture, as often as it is asked for; no other picture is read."""
    file, number = str(Path(path).parent), int(Path(path).name)
    status = os.stat(file)
    batch = _read_batch_once(file, (status.st_size, status.st_mtime_ns))
    picture_CHW = batch.cut(np.memmap(file, np.uint8, "r"), number).reshape(3, SIDE, SIDE)
    for _ in range(1) if indices is None else indices:
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_CHW.transpose(1, 2, 0)), format="rgb24")


@lru_cache(maxsize=12)
def _read_batch_once(file, _stamp):
    return read_batch(Path(file))


def compute_digests(path: Path) -> list[str]:
    """Return a digest of each picture of a batch."""
    batch, content = read_batch(path), np.fromfile(path, np.uint8)
    pictures = (batch.cut(content, number).tobytes() for number in range(len(batch.labels)))
    return [hashlib.blake2b(pixels, digest_size=16).hexdigest() for pixels in pictures]


# Downloads


def find_folder(root: Path) -> Path:
    """Return the folder of batches under a root, or the root where it is one.

    A downloaded archive is unpacked beside it, once. Raises UserError where there is none.
    """
    for kind, name in FOLDERS.items():
        for folder in (root, root / name):
            if folder.name == name and folder.is_dir():
                return folder
        if (root / ARCHIVES[kind]).is_file():
            _unpack(root / ARCHIVES[kind], root / name)
            return root / name
    names = " or ".join(f"{FOLDERS[kind]}/ ({ARCHIVES[kind]})" for kind in FOLDERS)
    raise UserError(f"data.root={root} must have {names}")


def _unpack(archive, folder):
    """Unpack the batches of an archive; nothing else in it is written."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as place,
            tarfile.open(archive) as members,
        ):
            unpacked = Path(place, folder.name)
            unpacked.mkdir()
            for member in members:
                if member.isfile() and Path(member.name).parent.name == folder.name:
                    (unpacked / Path(member.name).name).write_bytes(members.extractfile(member).read())
            if not folder.is_dir():  # another process may have been faster
                unpacked.rename(folder)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{archive} is cut short or damaged ({error}); {COPY_AGAIN}") from None
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked there ({error}); unpack it and give data.root") from None
