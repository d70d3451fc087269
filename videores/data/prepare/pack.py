"""Pack the videos of a data set into tar files with an index of their bytes.

What is packed is what the lists name, byte for byte, bad files too. The result depends on nothing but the files: the
same command writes the same bytes.
"""

import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from videores.data import manifest
from videores.data.lists import Index, preview, split_segment
from videores.data.prepare import copies
from videores.data.probe import read_file_stamp
from videores.data.shards import INDEX_NAME, INDEX_VERSION
from videores.errors import UserError
from videores.runtime import files

SHARD_BYTES = 2**28  # of videos in a tar file, at least: few enough files for any store, many enough for any copy


def check_target(root: Path, out: Path) -> None:
    """Check that the folder of shards is outside the data set, and empty or one of shards."""
    if out.resolve() == root.resolve() or root.resolve() in out.resolve().parents:
        raise UserError(f"--shards {out} lies in the source folder {root}: give a folder outside of it")
    others = [path.name for path in out.iterdir() if not _is_ours(path.name)] if out.is_dir() else []
    if others or out.is_file():
        raise UserError(
            f"--shards must be a new folder, or one of shards; {out} has others' files: {preview(others, 3)}"
        )


def write_shards(root: Path, out: Path, name: str, lists: Mapping[int, Index], paths: Sequence[str]) -> int:
    """Pack the files of `paths` that are there; return the number of tar files.

    The lists, and what the manifest has of the files, go into the index. Raises UserError for folders of frames, for
    names that lead out of the root, and for a file that changes meanwhile.
    """
    there = sorted({split_segment(path)[0] for path in paths if (root / split_segment(path)[0]).exists()})
    _check_packable(root, there)
    out.mkdir(parents=True, exist_ok=True)
    (out / INDEX_NAME).unlink(missing_ok=True)  # until the end there is no set of shards
    shards: dict[str, int] = {}
    extents: dict[str, list[int]] = {}
    for number, some in enumerate(_group_files(root, tqdm(there, "packing"))):
        shard = f"shard-{number:05}.tar"
        extents |= {path: [number, *extent] for path, extent in _write_tar(root, out / shard, some).items()}
        shards[shard] = (out / shard).stat().st_size
    for path in [*out.glob("shard-*.tar"), *out.glob(".sh*.tmp.*")]:
        if path.name not in shards:  # of a larger set before, or of a run that was killed
            path.unlink()
    stamps = {path: extents[file][2:] for path in paths if (file := split_segment(path)[0]) in extents}
    content = {"version": INDEX_VERSION, "format": name, "shards": shards, "videos": extents}
    packed = {str(split): _export_lists(index) for split, index in lists.items()}
    content |= {"lists": packed, "manifest": manifest.export_manifest(root, stamps)}
    files.write_text(out / INDEX_NAME, json.dumps(content))
    return len(shards)


def _is_ours(name):
    return re.fullmatch(rf"{INDEX_NAME}|shard-\d{{5}}\.tar|\.sh.*\.tmp\.\w+", name)  # also unfinished ones


def _check_packable(root, paths):
    copies.check_names_inside(root, paths)
    folders = [path for path in paths if (root / path).is_dir()]
    if folders:
        what = f"{len(folders)} videos are folders of frames; make video files of them by --out, and pack those"
        raise UserError(f"--shards packs files, and {what}:\n  {preview(folders)}")


def _group_files(root, paths) -> Iterator[list[str]]:
    """Yield the paths of one tar file after the other."""
    group, total = [], 0
    for path in paths:
        group.append(path)
        total += (root / path).stat().st_size
        if total >= SHARD_BYTES:
            yield group
            group, total = [], 0
    if group:
        yield group


def _write_tar(root, target, paths) -> dict[str, list[int]]:
    """Write one tar file; return {path: [offset, size, crc32]}."""
    extents = {}
    with files.write_atomically(target) as temporary, tarfile.open(temporary, "w") as tar:
        for path in paths:
            before, content = read_file_stamp(root / path), (root / path).read_bytes()
            if read_file_stamp(root / path) != before or before[0] != len(content):
                raise UserError(f"{root / path}: it changed while it was packed; run the command again")
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            padded = -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            extents[path] = [tar.offset - padded, info.size, zlib.crc32(content)]
    return extents


def _export_lists(index: Index) -> dict[str, Any]:
    videos = {part: [[v.path, v.label, v.group] for v in getattr(index, part)] for part in ("train", "test", "val")}
    return {"classes": index.classes, **videos}
