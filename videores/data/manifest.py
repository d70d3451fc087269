"""Keep the probe's result for each file of a data set in the user's cache."""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from videores.data import shards
from videores.data.probe import VideoInfo, pack_keyframes, probe_in_helper, read_file_stamp
from videores.data.video import readers, sandbox
from videores.errors import UnreadableVideo
from videores.runtime import machine
from videores.runtime.files import write_atomically
from videores.runtime.machine import find_cache_root

MANIFEST_VERSION = 6
SAVE_INTERVAL = 30  # seconds
MIN_FILES_FOR_POOL = 16  # files; starting helper processes takes as long as probing about so many small ones


def probe_all(
    root: str | shards.Root,
    paths: Sequence[str],
    *,
    progress: bool = True,
    cache: str | Path | None = None,
    workers: int | None = None,
) -> tuple[dict[str, VideoInfo], dict[str, str]]:
    """Probe `paths` under `root` that the manifest does not have yet.

    Returns {path: VideoInfo}, and {path: reason} of the files that do not decode.
    """
    root = shards.locate(root)
    manifest_file = find_manifest_path(root, cache)
    with _lock_manifest(f"{manifest_file}.lock"):
        manifest = _read_manifest(manifest_file, root)
        stamps = {path: read_file_stamp(root / path) for path in paths}
        todo = [p for p in stamps if p not in manifest or manifest[p]["stamp"] != stamps[p]]
        _update_manifest(manifest, manifest_file, root, todo, progress, workers or machine.count_cpus())
    infos = {p: _info_from_json(manifest[p]["info"]) for p in stamps if "info" in manifest[p]}
    return infos, {p: manifest[p]["bad"] for p in stamps if "bad" in manifest[p]}


@contextmanager
def _lock_manifest(path):
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that probes this data set ({path})", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _update_manifest(manifest, manifest_file, root, todo, progress, workers):
    saved = time.monotonic()
    if todo and progress:
        print(f"probing {len(todo)} videos under {root}; what is found is kept in {manifest_file}", file=sys.stderr)
    try:
        for path, result in tqdm(
            _probe_files(root, todo, workers), "probing videos", len(todo), disable=not (progress and todo)
        ):
            manifest[path] = result
            if time.monotonic() - saved > SAVE_INTERVAL:
                _write_manifest(manifest_file, root, manifest)
                saved = time.monotonic()
    finally:
        if todo:
            _write_manifest(manifest_file, root, manifest)


def _probe_files(root, paths, workers):
    work = partial(probe_one, root)
    if len(paths) < MIN_FILES_FOR_POOL:
        yield from (work(sandbox.get_process_helper(os.getpid()), path) for path in paths)
    else:
        yield from sandbox.map_unordered(work, paths, workers)


def probe_one(root, helper, path):
    video = shards.locate(root) / path
    before = read_file_stamp(video)
    try:
        return path, {"stamp": before, "info": _info_to_json(probe_in_helper(helper, video))}
    except UnreadableVideo as error:
        # no file has the stamp False: it is probed again the next time
        return path, {"stamp": before if error.lasting else False, "bad": error.reason}


def find_manifest_path(root: str | shards.Root, cache: str | Path | None = None) -> Path:
    """Return the path of a data set's manifest in the user's cache.

    It is not beside the videos, whose folder may be read-only or shared.
    """
    cache = cache or os.environ.get("VIDEORES_CACHE") or Path(find_cache_root(), "videores")
    name = shards.resolve(root)
    file = f"{Path(name).name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.json"
    return _find_writable_cache(cache) / "manifests" / file


def _find_writable_cache(cache):
    """Return the cache folder, or warn and return a temporary one."""
    cache = Path(cache)
    try:
        (cache / "manifests").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache / "manifests"):
            return cache
    except OSError as error:
        other = Path(tempfile.gettempdir()) / f"videores-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
        print(
            f"warning: cannot write {cache} ({error.strerror}); what probing finds is kept in {other}", file=sys.stderr
        )
        (other / "manifests").mkdir(parents=True, exist_ok=True)
        return other


def _make_manifest_signature(root):
    """Return what a manifest depends on besides the files."""
    versions = {name: str(version) for name, version in readers.READER_VERSIONS.items()}
    return {"manifest": MANIFEST_VERSION, "root": shards.resolve(root), **versions}


def _read_manifest(path, root):
    """Read the manifest, above what came with shards; {} where none is of this version."""
    signature = _make_manifest_signature(root)
    packed = shards.read_manifest(root) if isinstance(root, shards.ShardSet) else {}
    videos = packed["videos"] if packed.get("made_by") == {**signature, "root": None} else {}
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return videos
    known = isinstance(content, dict) and content.get("made_by") == signature
    return {**videos, **content["videos"]} if known else videos


def merge_parts(root: Path, parts: Path, paths: Sequence[str]) -> Path | None:
    """Join the manifests of all parts of a data set, each in a folder of `parts`.

    Returns the path of the manifest; None where some of `paths` are left to probe.
    """
    target, merged = find_manifest_path(root), {}
    for part in sorted(parts.glob(f"*/manifests/{target.name}")):
        for path, entry in _read_manifest(part, root).items():
            if entry["stamp"] in (False, read_file_stamp(root / path)):  # no leftover of another time
                merged[path] = entry
    if not merged.keys() >= set(paths):
        return None
    with _lock_manifest(f"{target}.lock"):
        _write_manifest(target, root, {**_read_manifest(target, root), **merged})
    return target


def export_manifest(root: str | Path, stamps: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return what the manifest has of some videos, with other stamps: for their shards."""
    known, videos = _read_manifest(find_manifest_path(root), root), {}
    for path, stamp in stamps.items():
        entry = known.get(path, {"stamp": False})
        if entry["stamp"]:  # what is not lasting is probed again
            info = {"info": {**entry["info"], "stamp": stamp}} if "info" in entry else {}
            videos[path] = {**entry, "stamp": stamp, **info}
    return {"made_by": {**_make_manifest_signature(root), "root": None}, "videos": videos}


def _write_manifest(path, root, videos):
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps({"made_by": _make_manifest_signature(root), "videos": videos}, sort_keys=True))


def _info_from_json(info):
    tuples = {key: tuple(info[key]) for key in ("readers", "stamp", "warnings")}
    packed = {"seek_points": pack_keyframes(info["seek_points"])}
    return VideoInfo(**{**info, **tuples, **packed, "uneven_seconds": np.array(info["uneven_seconds"]).tobytes()})


def _info_to_json(info):
    uneven = info.seconds_T.tolist() if info.uneven_seconds else []
    return {**asdict(info), "seek_points": info.keyframes, "uneven_seconds": uneven}
