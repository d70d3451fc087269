"""The run folder: where a run writes, what it refuses to overwrite, and the record of how it came about."""

import json
import shutil
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from videores.config import parse
from videores.errors import UserError
from videores.runtime.environment import collect_environment, format_utc_now
from videores.runtime.files import write_text
from videores.runtime.launch import is_rank_zero as is_main
from videores.training import checkpoint_io, resume
from videores.training.checkpoint_io import BEST_CHECKPOINT, LAST_CHECKPOINT, PREVIOUS_CHECKPOINT

LOCK_NAME = "run.lock"
# what run.overwrite deletes
RUN_FILES = (
    *("config.yaml", "env.json", "metrics.jsonl", "metrics.csv", "curves.png", "checkpoints", "test", "val"),
    *("report.html", "tensorboard", "wandb", "weights.safetensors"),
)


def resolve_run_folder(cfg, config_name):
    """runs/<config>[-<name>], or run.dir; no time in it, so that every process of a run finds the same folder."""
    return Path(cfg.run.dir or Path("runs", "-".join(filter(None, (Path(config_name).stem, cfg.run.name)))))


def check_run_folder(cfg, folder):
    """Raises UserError where this run may not write into the folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give another run.dir")
    if not is_main() or not folder.exists() or not has_files(folder):
        return
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is not a run folder (it has no config.yaml) and not empty: give another run.dir")
    if cfg.run.resume != "none":
        if not any((folder / "checkpoints" / name).exists() for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT)):
            resume.check_same_config(folder, cfg)
    elif not cfg.run.overwrite:
        raise UserError(f"{folder} holds a run: give another run.name, run.resume=auto, or run.overwrite=true")
    elif not (folder / "env.json").exists():
        raise UserError(f"{folder} has no env.json, so it may be something else than a run: remove it yourself")


def has_files(folder):
    return any(path.name != LOCK_NAME for path in folder.iterdir())


class RunLock:
    """The lock of a run folder, for only one run may write: held within `with`, and gone with the process however it
    ends. A folder that is not there is claimed when it is made. Only the first process of a run has the lock.

    Raises UserError where another run has it.
    """

    def __init__(self, cfg, folder):
        self.cfg, self.folder, self.lock = cfg, folder, FileLock(folder / LOCK_NAME)

    def __enter__(self):
        if self.folder.exists():
            self.make()
        return self

    def __exit__(self, *_):
        self.lock.release()

    def make(self):
        if not is_main() or self.lock.is_locked:
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


def prepare_run_folder(cfg, folder):
    """Fills the folder, which was claimed: config.yaml."""
    if is_main():
        if cfg.run.resume == "none":
            delete_run_files(folder)
        (folder / "checkpoints").mkdir(exist_ok=True)
        checkpoint_io.remove_partial_checkpoints(folder / "checkpoints")
        write_text(folder / "config.yaml", parse.to_yaml(cfg))


def delete_run_files(folder):
    for path in (folder / name for name in RUN_FILES):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def find_best_checkpoint(folder):
    """The checkpoint to test: the one chosen on validation videos, or the last where there were none."""
    best, last = (folder / "checkpoints" / name for name in (BEST_CHECKPOINT, LAST_CHECKPOINT))
    return best if best.exists() else last


def format_unfinished_note(folder):
    """A note on a run that was begun and has not ended, or None."""
    try:
        record = json.loads((folder / "env.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return None if record.get("exit_status") in (0, 1) else "the run has not ended (run.resume=auto continues it)"


class RunRecord:
    """env.json, rewritten as a run goes on; only the first process writes."""

    def __init__(self, folder, cfg):
        self.path = folder / "env.json"
        before = self.before() if is_main() else {}
        kept = {name: before[name] for name in ("autotune",) if name in before}  # a resumed run measures nothing again
        starts = before.get("starts", [])
        self.values = {
            "starts": starts,
            **kept,
            **collect_environment(),
            "seed": cfg.run.seed,
            "start": format_utc_now(),
        }

    def before(self):
        try:
            return json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def update(self, **values):
        self.values.update(values)
        if is_main():
            write_text(self.path, json.dumps(self.values, indent=1) + "\n")

    def started(self, step, inexact=()):
        starts = [
            *self.values["starts"],
            {"step": step, "time": format_utc_now()} | ({"inexact": inexact} if inexact else {}),
        ]
        self.update(starts=starts, exact=not any("inexact" in start for start in starts))

    def finished(self, exit_status, **why):
        self.update(end=format_utc_now(), exit_status=exit_status, **why)
