"""What each file truly holds, found by decoding it once, and which readers return exactly that.

`probe` looks at one file, `probe_all` at a data set: in parallel, with progress, cached in a manifest that keys each
file by path, size and modification time. An interrupted probe goes on where it stopped.
"""

import hashlib
import json
import multiprocessing
import os
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from videores.data import readers
from videores.data.encode import replacing
from videores.errors import UnreadableVideo

MANIFEST_VERSION = 1
SAVE_EVERY = 30  # seconds
WORTH_A_POOL = 64  # files; starting helper processes takes as long as probing about so many small ones


@dataclass(frozen=True)
class VideoInfo:
    num_frames: int
    fps: float
    width: int  # after rotation, as the frames are
    height: int
    rotation: int  # degrees counter-clockwise that turn the coded picture into the displayed one
    has_audio: bool
    readers: tuple[str, ...]  # those that return exactly the sequential decode's frames
    reader: str  # the fastest of them; they return equal bytes, so the choice changes no result
    keyframes: tuple[tuple[int, int], ...]  # (frame, time stamp) where seeking was seen to be exact


def probe(path):
    """Decodes the file once and checks random access against that. Raises UnreadableVideo(path, reason)."""
    refuse_no_file(path)
    found = readers.scan(path)
    refuse_truncated(path, found)
    keyframes = tuple(thin(found.keyframes))
    seconds = {name: trial(name, path, found, keyframes) for name in readers.INSTALLED}
    if seconds["pyav"] is None and keyframes:
        keyframes = ()  # seeking is not exact here: PyAV decodes from the start
        seconds["pyav"] = trial("pyav", path, found, keyframes)
    exact = {name: s for name, s in seconds.items() if s is not None}
    if not exact:
        raise UnreadableVideo(path, "two decodes of it differ")
    return VideoInfo(
        num_frames=len(found.checksums),
        fps=found.fps,
        width=found.size[0],
        height=found.size[1],
        rotation=found.rotation,
        has_audio=found.has_audio,
        readers=tuple(exact),
        reader=min(exact, key=exact.get),
        keyframes=keyframes,
    )


def refuse_no_file(path):
    if not Path(path).is_file():
        raise UnreadableVideo(path, "there is no such file")
    if Path(path).stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")


def refuse_truncated(path, found):
    """AVI headers often promise a few frames more than there are, so a few are forgiven."""
    decoded = len(found.checksums)
    if decoded == 0:
        raise UnreadableVideo(path, "no frame decodes")
    if found.promised - decoded > max(3, 0.02 * found.promised):
        raise UnreadableVideo(path, f"truncated: its header promises {found.promised} frames, {decoded} decode")
    counted = found.promised or not found.duration or not found.end
    if not counted and found.duration - found.end > max(0.5, 0.1 * found.duration):
        raise UnreadableVideo(path, f"truncated: its header promises {found.duration:.2f} s, {found.end:.2f} s decode")


def thin(keyframes, gap=readers.WORTH_A_SEEK):
    """Keyframes at least `gap` frames apart: intra-coded files have one a frame, and the manifest should stay small."""
    last = -gap
    for index, pts in keyframes:
        if index - last >= gap:
            last = index
            yield index, pts


def trial(name, path, found, keyframes):
    """Seconds for the last of the trial reads; None where one of them differs from the sequential decode."""
    seconds = None
    try:
        if not readers.may_seek(name, path, found):
            return None
        for indices in trial_reads(len(found.checksums), [index for index, _ in found.keyframes]):
            start = time.perf_counter()
            frames = readers.READERS[name](path, indices, keyframes)
            seconds = time.perf_counter() - start
            if [zlib.crc32(np.ascontiguousarray(f)) for f in frames] != [found.checksums[i] for i in indices]:
                return None
    except readers.FAILURES:
        return None
    return seconds


def trial_reads(num_frames, keyframes):
    """Frames around up to 16 keyframes in one read; the last frame alone; then clips as training reads them."""
    some = np.array(keyframes or [0])[np.linspace(0, len(keyframes or [0]) - 1, 16).astype(int)]
    around = np.concatenate([some - 1, some, some + 1, [0, num_frames // 2, num_frames - 1]])
    yield np.unique(around[(around >= 0) & (around < num_frames)])
    for start in (num_frames - 1, max(num_frames - 31, num_frames * 3 // 4), num_frames // 2):
        yield np.arange(start, min(start + 31, num_frames), 2)


def probe_all(root, paths, *, progress=True, cache=None):
    """Probes `paths` under `root`. Returns {path: VideoInfo} and {path: reason} of the files that do not decode."""
    manifest_file = manifest_path(root, cache)
    manifest_file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{manifest_file}.lock"):
        manifest = load_manifest(manifest_file)
        stamps = {path: stamp(Path(root) / path) for path in paths}
        todo = [p for p in stamps if p not in manifest or manifest[p]["stamp"] != stamps[p]]
        update(manifest, manifest_file, root, todo, stamps, progress)
    infos = {p: from_json(manifest[p]["info"]) for p in stamps if "info" in manifest[p]}
    return infos, {p: manifest[p]["bad"] for p in stamps if "bad" in manifest[p]}


def update(manifest, manifest_file, root, todo, stamps, progress):
    saved = time.monotonic()
    try:
        for path, result in tqdm(results(root, todo), "probing videos", len(todo), disable=not (progress and todo)):
            manifest[path] = {"stamp": stamps[path], **result}
            if time.monotonic() - saved > SAVE_EVERY:
                save_manifest(manifest_file, manifest)
                saved = time.monotonic()
    finally:
        if todo:
            save_manifest(manifest_file, manifest)


def results(root, paths):
    work = partial(probe_one, str(root))
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if len(paths) < WORTH_A_POOL or workers == 1:
        yield from map(work, paths)
        return
    with ProcessPoolExecutor(workers, mp_context=helper_processes()) as pool:
        yield from pool.map(work, paths, chunksize=16)


def helper_processes():
    """Helpers fork from a clean server that has the imports done; a fork of this process would copy decoders' locks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "videores.data.dataset"])  # the server takes it when it starts
    return context


def probe_one(root, path):
    try:
        return path, {"info": asdict(probe(Path(root) / path))}
    except UnreadableVideo as error:
        return path, {"bad": error.reason}


def manifest_path(root, cache=None):
    """Not beside the videos, whose folder may be read-only or shared: in the user's cache, one file a data set."""
    cache = (
        cache
        or os.environ.get("VIDEORES_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "videores")
    )
    root = Path(root).resolve()
    return Path(cache) / "manifests" / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}.json"


def made_by():
    """What a probe's findings depend on besides the files."""
    return {"manifest": MANIFEST_VERSION, **{name: str(version) for name, version in readers.VERSIONS.items()}}


def load_manifest(path):
    """Nothing where nothing was probed yet, or where another version or program wrote the file: then probe again."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    known = isinstance(content, dict) and content.get("made_by") == made_by()
    return content["videos"] if known else {}


def save_manifest(path, videos):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"made_by": made_by(), "videos": videos}))


def stamp(path):
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def from_json(info):
    tuples = dict(readers=tuple(info["readers"]), keyframes=tuple(map(tuple, info["keyframes"])))
    return VideoInfo(**{**info, **tuples})
