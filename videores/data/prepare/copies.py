"""Make re-encoded copies of a data set: by helper processes, resumable, in shards.

`out` gets each copy under its source's own name, and in `.prepare/` one ledger a shard, a line a video, appended when
the copy is in its place. A copy counts as made while it and its source have the sizes and times that the line says, and
the settings are those of the line; so nothing depends on how a run ended.
"""

import errno
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic_core import from_json
from tqdm import tqdm
from typing_extensions import TypedDict

import videores
from videores.data.probe import VideoInfo, read_file_stamp
from videores.data.video import readers, sandbox
from videores.data.video.reencode import EncodingSettings, reencode
from videores.errors import UnreadableVideo, UserError
from videores.runtime import files

LEDGER_DIR = ".prepare"
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LIST_SUFFIXES = (".txt", ".csv", ".json")


def check_target(root: Path, out: Path, paths: Sequence[str]) -> None:
    """Check that the folder of copies is outside the data set and empty or ours."""
    root, out = Path(root).resolve(), Path(out).resolve()
    if out == root or root in out.parents:
        raise UserError(f"--out {out} lies in the source folder {root}: give a folder outside of it")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out must be a folder, and {out} is a file: give another")
    if out.exists() and any(out.iterdir()) and not (out / LEDGER_DIR).is_dir():
        raise UserError(f"--out {out} has files that this tool did not write: give a new or an empty folder")
    check_names_inside(root, paths)


def check_names_inside(root: Path, paths: Sequence[str]) -> None:
    """Check that no listed path leads out of the data set."""
    for path in paths:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise UserError(f"{path}: the lists must name files in {root}, for copies get the same names; mend them")


def select_shard(paths: Sequence[str], shard: tuple[int, int]) -> list[str]:
    """Return the paths of shard (i, n), one of n parts of equal size."""
    number, count = shard
    return sorted(paths)[number - 1 :: count]


def format_shard(shard: tuple[int, int]) -> str:
    """Return the name of a shard, `i-of-n`."""
    return "{}-of-{}".format(*shard)


def prepare_copies(
    root: Path,
    out: Path,
    infos: Mapping[str, VideoInfo],
    bad: Mapping[str, str],
    settings: EncodingSettings,
    *,
    shard: tuple[int, int],
    workers: int,
) -> dict[str, str]:
    """Copy the videos of a shard that have no copy yet, and record how each went.

    Returns {path: reason} of those without a copy.

    Raises:
        UserError: if the disk is full, or another process is preparing this shard.
    """
    root, out, failed = Path(root).resolve(), Path(out).resolve(), {}
    ledger = out / LEDGER_DIR / f"{format_shard(shard)}.jsonl"
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with _lock_ledger(ledger), _explain_full_disk(ledger), open(ledger, "a", encoding="utf-8") as file:
        known = _read_ledgers(out)
        todo = [p for p in sorted(infos) if not _is_copied(known.get(p), root, out, settings)]
        if todo:
            (out / "prepared.json").unlink(missing_ok=True)  # it is about other copies
        files.remove_temporary_files(out / path for path in todo)
        lines = [_make_ledger_line(root, path, settings, reason) for path, reason in bad.items()]
        work = partial(make_copy, root, out, infos, settings)
        with closing(sandbox.map_unordered(work, todo, max(1, min(workers, len(todo))))) as copied:
            bar = tqdm(copied, "re-encoding", len(infos), initial=len(infos) - len(todo), disable=not todo)
            for line in chain(lines, bar):
                if line["reason"]:
                    failed[line["path"]] = line["reason"]
                    (out / line["path"]).unlink(missing_ok=True)  # the copy of what the source was before
                file.write(f"\n{json.dumps(line)}")  # a new line first, as a killed run may have left half of one
                file.flush()
    return dict(sorted(failed.items()))


@contextmanager
def _lock_ledger(ledger):
    try:
        with FileLock(f"{ledger}.lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"{ledger}: another process is preparing this shard; wait for its end") from None


@contextmanager
def _explain_full_disk(path):
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        again = "make room and run the same command again, which keeps what is done"
        raise UserError(f"cannot write {path}: {error.strerror}; {free:,.1f} MB are free there; {again}") from None


def make_copy(root, out, infos, settings, helper, path):
    info, copy, reason = infos[path], out / path, None
    try:
        with _explain_full_disk(copy):
            write = partial(reencode, seconds_T=info.seconds_T) if settings.flow != "none" else reencode
            helper.call(write, str(root / path), str(copy), settings, info.num_frames)
    except UnreadableVideo as error:
        reason = error.reason
    except sandbox.HelperFailure as lost:
        files.remove_temporary_files([copy])
        reason = f"the process {lost.reason} ({lost.stage})"
    if not reason and read_file_stamp(root / path) != list(info.stamp):
        reason = "it changed while it was prepared"
    made = {} if reason else {"copy": read_file_stamp(copy), "frames": info.num_frames}
    return _make_ledger_line(root, path, settings, reason, **made)


# -- the ledger -------------------------------------------------------------------------------------------------------


class LedgerLine(TypedDict):
    """A line of a ledger: what became of a video."""

    path: str
    time: float  # of the line
    source: list[int] | None  # the stamp of the file, None where there was none
    settings: dict[str, Any]
    reason: str | None  # why there is no copy
    copy: list[int] | None  # the stamp of the copy
    frames: int


def _make_ledger_line(root, path, settings, reason, copy=None, frames=0):
    now = {"time": time.time(), "source": read_file_stamp(root / path), "settings": asdict(settings)}
    return {"path": path, **now, "reason": reason, "copy": copy, "frames": frames}


def _read_ledgers(out):
    """Return {path: its latest line in the ledgers of all shards}."""
    lines = [line for ledger in sorted((out / LEDGER_DIR).glob("*.jsonl")) for line in read_ledger(ledger)]
    return {line["path"]: line for line in sorted(lines, key=lambda line: line["time"])}


def read_ledger(path: Path) -> Iterator[LedgerLine]:
    """Yield the lines of a ledger, without half lines of killed processes. Raises UserError for a damaged one."""
    for number, text in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line = from_json(text)
        except ValueError:  # blank, or half a line
            continue
        remedy = "remove the line, and its copy is made again"
        yield files.check_type(line, LedgerLine, f"{path}, line {number}", remedy)


def _is_current(line, root, settings):
    if line is None or line["settings"] != asdict(settings):
        return False
    return line["source"] == read_file_stamp(root / line["path"])


def _is_copied(line, root, out, settings):
    there = line is not None and line["copy"] is not None and line["copy"] == read_file_stamp(out / line["path"])
    return there and _is_current(line, root, settings)


# -- when it is done --------------------------------------------------------------------------------------------------


def summarize_copies(root: Path, out: Path, paths: Sequence[str], settings: EncodingSettings) -> dict[str, Any] | None:
    """Summarize the ledgers of all shards; None where videos are left to copy."""
    root, out = Path(root).resolve(), Path(out).resolve()
    known = _read_ledgers(out)
    good = [known[path] for path in paths if _is_copied(known.get(path), root, out, settings)]
    bad = {p: known[p]["reason"] for p in paths if _is_current(known.get(p), root, settings) and known[p]["reason"]}
    if len(good) + len(bad) < len(paths):
        return None
    return {
        "settings": asdict(settings),
        "versions": {"videores": videores.__version__, **readers.READER_VERSIONS},
        "videos": {"prepared": len(good), "bad": len(bad)},
        "frames": sum(line["frames"] for line in good),
        "bytes": {"sources": sum(line["source"][0] for line in good), "copies": sum(line["copy"][0] for line in good)},
        "bad": bad,
    }


def copy_lists(root: Path, splits: Path | None, out: Path) -> None:
    """Copy the list files of a data set beside its copies."""
    root, out, splits = Path(root).resolve(), Path(out).resolve(), Path(splits or root).resolve()
    if splits != root and root not in splits.parents:
        return  # they are where data.splits says, and serve the copies as they are: all names are the same
    for path in splits.iterdir():
        if path.suffix.lower() in LIST_SUFFIXES and path.is_file():
            target = out / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            with files.write_atomically(target) as temporary:
                shutil.copyfile(path, temporary)
