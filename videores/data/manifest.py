"""The manifest of a data set: the probe's result for each file, kept in the user's cache."""

import hashlib
import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from videores.data.probe import VideoInfo, guarded, packed, stamp
from videores.data.video import readers, sandbox
from videores.errors import UnreadableVideo
from videores.runtime import machine
from videores.runtime.files import replacing
from videores.runtime.machine import home_cache

MANIFEST_VERSION = 4
SAVE_EVERY = 30  # seconds
WORTH_A_POOL = 16  # files; starting helper processes takes as long as probing about so many small ones


def probe_all(root, paths, *, progress=True, cache=None, workers=None):
    """Probes `paths` under `root`. Returns {path: VideoInfo} and {path: reason} of the files that do not decode."""
    manifest_file = manifest_path(root, cache)
    with locked(f"{manifest_file}.lock"):
        manifest = load_manifest(manifest_file, root)
        stamps = {path: stamp(Path(root) / path) for path in paths}
        todo = [p for p in stamps if p not in manifest or manifest[p]["stamp"] != stamps[p]]
        update(manifest, manifest_file, root, todo, progress, workers or machine.processors())
    infos = {p: from_json(manifest[p]["info"]) for p in stamps if "info" in manifest[p]}
    return infos, {p: manifest[p]["bad"] for p in stamps if "bad" in manifest[p]}


@contextmanager
def locked(path):
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


def update(manifest, manifest_file, root, todo, progress, workers):
    saved = time.monotonic()
    if todo and progress:
        print(f"probing {len(todo)} videos under {root}; what is found is kept in {manifest_file}", file=sys.stderr)
    try:
        for path, result in tqdm(
            results(root, todo, workers), "probing videos", len(todo), disable=not (progress and todo)
        ):
            manifest[path] = result
            if time.monotonic() - saved > SAVE_EVERY:
                save_manifest(manifest_file, root, manifest)
                saved = time.monotonic()
    finally:
        if todo:
            save_manifest(manifest_file, root, manifest)


def results(root, paths, workers):
    work = partial(probe_one, str(root))
    if len(paths) < WORTH_A_POOL:
        yield from (work(sandbox.own_helper(os.getpid()), path) for path in paths)
    else:
        yield from sandbox.each(work, paths, workers)


def probe_one(root, helper, path):
    before = stamp(Path(root) / path)
    try:
        return path, {"stamp": before, "info": to_json(guarded(helper, Path(root) / path))}
    except UnreadableVideo as error:
        # no file has the stamp False: it is probed again the next time
        return path, {"stamp": before if error.lasting else False, "bad": error.reason}


def manifest_path(root, cache=None):
    """Not beside the videos, whose folder may be read-only or shared: in the user's cache, one file a data set."""
    cache = cache or os.environ.get("VIDEORES_CACHE") or Path(home_cache(), "videores")
    root = Path(root).resolve()
    return writable(cache) / "manifests" / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}.json"


def writable(cache):
    """The cache folder, or, where it can't be written, one among the temporary files, which is said."""
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


def made_by(root):
    """What a manifest depends on besides the files."""
    versions = {name: str(version) for name, version in readers.VERSIONS.items()}
    return {"manifest": MANIFEST_VERSION, "root": str(Path(root).resolve()), **versions}


def load_manifest(path, root):
    """Nothing where nothing was probed yet, or where it is of another root, version or program: then probe again."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    known = isinstance(content, dict) and content.get("made_by") == made_by(root)
    return content["videos"] if known else {}


def save_manifest(path, root, videos):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"made_by": made_by(root), "videos": videos}))


def from_json(info):
    tuples = {key: tuple(info[key]) for key in ("readers", "stamp")}
    return VideoInfo(**{**info, **tuples, "seek_points": packed(info["seek_points"])})


def to_json(info):
    return {**asdict(info), "seek_points": info.keyframes}
