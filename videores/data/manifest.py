"""Keep the probe's result for each file of a data set in the user's cache."""

import hashlib
import json
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock, Timeout
from pydantic import AfterValidator, BaseModel, ConfigDict
from tqdm import tqdm

from videores.data import shards
from videores.data.probe import VideoInfo, probe_in_helper, probe_sound, read_file_stamp
from videores.data.video import readers, sandbox
from videores.errors import UnreadableVideo
from videores.runtime import machine
from videores.runtime.files import write_atomically
from videores.runtime.machine import find_cache_root

MANIFEST_VERSION = 8
SAVE_INTERVAL = 30  # seconds
MIN_FILES_FOR_POOL = 16  # files; starting helper processes takes as long as probing about so many small ones


def _check_info(info: VideoInfo) -> VideoInfo:
    """Check what types do not say, so that a damaged manifest is found where it is read."""
    numbers = (
        0 < info.num_frames < 2**31,
        0 <= info.first < 2**31,
        0 < info.width < 2**31,
        0 < info.height < 2**31,
        info.fps >= 0,
    )
    names = (info.reader in info.readers, set(info.readers) <= set(readers.READERS))
    packed = (len(info.seek_points) % 16 == 0, len(info.uneven_seconds) in (0, 8 * info.num_frames))
    if not all((*numbers, *names, *packed)):
        raise ValueError("it describes no video")
    for packets in filter(None, (info.packet_order, getattr(info.sound, "packets", b""))):
        try:
            zlib.decompress(packets)
        except zlib.error as error:
            raise ValueError(str(error)) from None
    return info


class Record(BaseModel):
    """Hold what the manifest has of a file: what is in it, or why it does not decode."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    stamp: tuple[int, int] | Literal[False] | None = None  # the file's size and time; None where there is no file
    info: Annotated[VideoInfo, AfterValidator(_check_info)] | None = None
    bad: str | None = None

    def is_of(self, stamp: Sequence[int] | None) -> bool:
        """Return whether the file still has the size and time that it was probed with."""
        return self.stamp == (stamp if stamp is None else tuple(stamp))


def probe_all(
    root: str | shards.Root,
    paths: Sequence[str],
    *,
    progress: bool = True,
    cache: str | Path | None = None,
    workers: int | None = None,
    sound: bool = False,
) -> tuple[dict[str, VideoInfo], dict[str, str]]:
    """Probe `paths` under `root` that the manifest does not have yet.

    With `sound`, also how their sound is read. Returns {path: VideoInfo}, and {path: reason} of the files that do not
    decode.
    """
    root = shards.locate(root)
    manifest_file = find_manifest_path(root, cache)
    with _lock_manifest(f"{manifest_file}.lock"):
        manifest = _read_manifest(manifest_file, root)
        stamps = {path: read_file_stamp(root / path) for path in paths}
        todo = [p for p in stamps if p not in manifest or not manifest[p].is_of(stamps[p])]
        update = partial(_update_manifest, manifest, manifest_file, root)
        update(todo, "videos", partial(probe_one, root), progress, workers or machine.count_cpus())
        if sound:
            unheard = [p for p in stamps if (info := manifest[p].info) and info.has_audio and info.sound is None]
            work = partial(_probe_one_sound, root, manifest)
            update(unheard, "sound", work, progress, workers or machine.count_cpus())
    return _split_results(manifest, stamps, sound)


def find_probed(
    root: str | Path, paths: Sequence[str], cache: str | Path | None = None
) -> tuple[dict[str, VideoInfo], dict[str, str]]:
    """Return what `probe_all` would of the `paths` that are probed already."""
    manifest = _read_manifest(find_manifest_path(root, cache), root)
    known = [p for p in paths if p in manifest and manifest[p].is_of(read_file_stamp(Path(root) / p))]
    return _split_results(manifest, known)


def _split_results(manifest, paths, sound=False):
    infos = {p: info for p in paths if (info := manifest[p].info) is not None}
    bad = {p: bad for p in paths if (bad := manifest[p].bad) is not None}
    if sound:
        bad |= {p: info.sound for p, info in infos.items() if isinstance(info.sound, str)}
    return {p: info for p, info in infos.items() if p not in bad}, bad


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


def _update_manifest(manifest, manifest_file, root, todo, what, work, progress, workers):
    saved = time.monotonic()
    if todo and progress:
        what_of = f"{len(todo)} videos" if what == "videos" else f"the sound of {len(todo)} videos"
        print(f"probing {what_of} under {root}; what is found is kept in {manifest_file}", file=sys.stderr)
    try:
        for path, result in tqdm(
            _probe_files(todo, work, workers), f"probing {what}", len(todo), disable=not (progress and todo)
        ):
            manifest[path] = result
            if time.monotonic() - saved > SAVE_INTERVAL:
                _write_manifest(manifest_file, root, manifest)
                saved = time.monotonic()
    finally:
        if todo:
            _write_manifest(manifest_file, root, manifest)


def _probe_files(paths, work, workers):
    if len(paths) < MIN_FILES_FOR_POOL:
        yield from (work(sandbox.get_process_helper(os.getpid()), path) for path in paths)
    else:
        yield from sandbox.map_unordered(work, paths, workers)


def probe_one(root, helper, path):
    video = shards.locate(root) / path
    before = read_file_stamp(video)
    try:
        return path, Record(stamp=before, info=probe_in_helper(helper, video))
    except UnreadableVideo as error:
        reason = error.reason.encode("utf-8", "backslashreplace").decode()  # it may have names that are not UTF-8
        # no file has the stamp False: it is probed again the next time
        return path, Record(stamp=before if error.lasting else False, bad=reason)


def _probe_one_sound(root, manifest, helper, path):
    record = manifest[path]
    return path, record.model_copy(update={"info": probe_sound(helper, shards.locate(root) / path, record.info)})


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
    """Read the manifest, above what came with shards.

    Where it is damaged or of other versions, say so and leave it out.
    """
    signature = _make_manifest_signature(root)
    packed = shards.read_manifest(root) if isinstance(root, shards.ShardSet) else {}
    records = _parse_records(packed) if packed.get("made_by") == {**signature, "root": None} else {}
    try:
        content = json.loads(path.read_bytes())
        if content["made_by"] == signature:
            return {**records, **_parse_records(content)}
        print(f"{path} is of other versions of videores or the decoders; it is made anew", file=sys.stderr)
    except FileNotFoundError:
        pass
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # whatever else may stand there
        print(f"warning: {path} is damaged, so that what probing found is lost; it is made anew", file=sys.stderr)
    return records


def _parse_records(content):
    return {video: Record.model_validate(record) for video, record in content["videos"].items()}


def merge_parts(root: Path, parts: Path, paths: Sequence[str]) -> Path | None:
    """Join the manifests of all parts of a data set, each in a folder of `parts`.

    Returns the path of the manifest; None where some of `paths` are left to probe.
    """
    target, merged = find_manifest_path(root), {}
    for part in sorted(parts.glob(f"*/manifests/{target.name}")):
        for path, record in _read_manifest(part, root).items():
            if record.stamp is False or record.is_of(read_file_stamp(root / path)):  # no leftover of another time
                merged[path] = record
    if not merged.keys() >= set(paths):
        return None
    with _lock_manifest(f"{target}.lock"):
        _write_manifest(target, root, {**_read_manifest(target, root), **merged})
    return target


def export_manifest(root: str | Path, stamps: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return what the manifest has of some videos, with other stamps: for their shards."""
    known, videos = _read_manifest(find_manifest_path(root), root), {}
    for path, stamp in stamps.items():
        record = known.get(path)
        if record is not None and record.stamp:  # what is not lasting is probed again
            info = record.info and replace(record.info, stamp=tuple(stamp))
            videos[path] = _record_to_json(record.model_copy(update={"stamp": tuple(stamp), "info": info}))
    return {"made_by": {**_make_manifest_signature(root), "root": None}, "videos": videos}


def _write_manifest(path, root, records):
    videos = {video: _record_to_json(record) for video, record in records.items()}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps({"made_by": _make_manifest_signature(root), "videos": videos}, sort_keys=True))


def _record_to_json(record):
    return record.model_dump(mode="json", exclude_none=True)
