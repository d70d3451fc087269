"""The run folder: its name, its checks, its lock, and the record in env.json."""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from typing_extensions import NotRequired, TypedDict

from videores.config import parse
from videores.config.schema import Config
from videores.errors import UserError
from videores.runtime.environment import collect_environment, format_utc_now
from videores.runtime.files import read_json, write_json, write_text
from videores.runtime.launch import is_rank_zero
from videores.runtime.own_parts import OwnPart
from videores.training.checkpoint_io import remove_partial_checkpoints
from videores.training.resume import check_same_config
from videores.training.run_files import BEST_CHECKPOINT, LAST_CHECKPOINT, PREVIOUS_CHECKPOINT
from videores.training.run_files import find_best_checkpoint as find_best_checkpoint


class _Start(TypedDict):
    step: int
    time: str
    inexact: NotRequired[list[str]]


class _Setting(TypedDict):
    precision: str
    channels_last: bool
    compiled: bool


class _Tuning(TypedDict):
    chosen: _Setting


class Environment(TypedDict, total=False):
    """The content of env.json, as far as anything but a page reads it."""

    starts: list[_Start]
    exit_status: int | str
    error: str
    autotune: _Tuning
    manifest: dict[str, str]
    lists: dict[str, str]
    own_parts: dict[str, OwnPart]


LOCK_NAME = "run.lock"
# deleted by run.overwrite
RUN_FILES = (
    *("config.yaml", "env.json", "metrics.jsonl", "metrics.csv", "curves.png", "curves.svg", "checkpoints", "test"),
    *("val", "probe", "explain", "report.html", "hub", "tensorboard", "wandb"),
    *(name + end for name in ("weights.safetensors", "network.pt2", "network.onnx") for end in ("", ".results")),
)


def resolve_run_folder(cfg: Config, config_name: str) -> Path:
    """Return runs/<config>[-<name>], or run.dir.

    There is no time in it, so that every rank finds the same folder.
    """
    name = re.sub(r"\.ya?ml$", "", Path(config_name).name)
    return Path(cfg.run.dir or Path("runs", "-".join(filter(None, (name, cfg.run.name)))))


def check_run_folder(cfg: Config, folder: Path) -> None:
    """Raise UserError where this run may not write; only rank 0 looks into it."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give another run.dir")
    if not is_rank_zero() or not folder.exists() or all(path.name == LOCK_NAME for path in folder.iterdir()):
        return
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is not a run folder (it has no config.yaml) and not empty: give another run.dir")
    if cfg.run.resume != "none":
        if not any((folder / "checkpoints" / name).exists() for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT)):
            check_same_config(folder, cfg)
    elif not cfg.run.overwrite:
        raise UserError(f"{folder} holds a run: give another run.name, run.resume=auto, or run.overwrite=true")
    elif not (folder / "env.json").exists():
        raise UserError(f"{folder} has no env.json, so it may be something else than a run: remove it yourself")


class RunLock:
    """The lock of a run folder, held by rank 0 within `with`: only one run may write.

    It is gone with the process however that ends. A folder that does not exist yet is locked by `acquire`, which makes
    it. Raises UserError where another run has the lock.
    """

    def __init__(self, cfg: Config, folder: Path):
        self.cfg, self.folder, self.lock = cfg, folder, FileLock(folder / LOCK_NAME)

    def __enter__(self):
        if self.folder.exists():
            self.acquire()
        return self

    def __exit__(self, *_):
        self.lock.release()

    def acquire(self):
        if not is_rank_zero() or self.lock.is_locked:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process writes to {self.folder}: wait for its end, or give another run.name"
            ) from None
        except NotImplementedError:
            print(f"warning: {self.folder}: this file system has no locks: start one run at a time", file=sys.stderr)
        check_run_folder(self.cfg, self.folder)  # again: it may have become a run a moment ago


def prepare_run_folder(cfg: Config, folder: Path) -> None:
    """Fill a locked run folder with config.yaml and checkpoints/.

    Without run.resume the files of an earlier run are removed.
    """
    if not is_rank_zero():
        return
    if cfg.run.resume == "none":
        _delete_run_files(folder)
    (folder / "checkpoints").mkdir(exist_ok=True)
    remove_partial_checkpoints(folder / "checkpoints")
    write_text(folder / "config.yaml", parse.to_yaml(cfg))


def _delete_run_files(folder):
    """Delete what a run wrote; of what a link leads to only checkpoints, and `checkpoints` stays such a link."""
    checkpoints = folder / "checkpoints"
    for path in (folder / name for name in RUN_FILES):
        if path == checkpoints and path.is_symlink():
            for name in (BEST_CHECKPOINT, LAST_CHECKPOINT, PREVIOUS_CHECKPOINT):
                (path / name).unlink(missing_ok=True)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def format_unfinished_note(folder: Path) -> str | None:
    """Return a note on a run that was started and has not ended, or None."""
    record = read_record(folder)
    if record is None or record.get("exit_status") in (0, 1):
        return None
    return "the run has not ended (run.resume=auto continues it)"


def read_environment(folder: Path) -> Environment:
    """Read env.json. Raises FileNotFoundError, and UserError where it is damaged."""
    return read_json(folder / "env.json", Environment, "remove it: the run only loses the record of its environment")


def read_record(folder: Path) -> Environment | None:
    """Read env.json; None where it is not there or damaged, which stops no run."""
    try:
        return read_environment(folder)
    except (FileNotFoundError, UserError):
        return None


class RunRecord:
    """env.json, rewritten as a run goes on; only rank 0 writes."""

    def __init__(self, folder: Path, cfg: Config):
        self.path = folder / "env.json"
        before: Mapping[str, Any] = (read_record(folder) if is_rank_zero() else None) or {}
        self.values: dict[str, Any] = {
            "starts": before.get("starts", []),
            # a resumed run measures nothing again, and a list that became another is none of its own
            **{name: before[name] for name in ("autotune", "lists") if name in before},
            **collect_environment(),
            "seed": cfg.run.seed,
            "start": format_utc_now(),
        }

    def update(self, **values: Any) -> None:
        """Set values and write them."""
        self.values.update(values)
        if is_rank_zero():
            write_json(self.path, self.values)

    def add_start(self, step: int, inexact: Sequence[str] = ()) -> None:
        """Add a start at a step; `inexact` lists why it does not resume bit-exactly."""
        start = {"step": step, "time": format_utc_now(), "command": self.values["command"]}
        starts = [*self.values["starts"], start | ({"inexact": list(inexact)} if inexact else {})]
        self.update(starts=starts, exact=not any("inexact" in start for start in starts))

    def add_end(self, exit_status: int, **reason: str) -> None:
        """Add the time and exit status of the end, and its error."""
        self.update(end=format_utc_now(), exit_status=exit_status, **reason)
