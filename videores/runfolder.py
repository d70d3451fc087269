"""The run folder: where a run writes, what it refuses to overwrite, and the record of how it came about."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only

from videores import config
from videores.errors import UserError

PACKAGES = (
    "videores",
    "torch",
    "torchvision",
    "lightning",
    "decord",
    "decord2",
    "av",
    "pytorchvideo",
    "numpy",
    "pydantic",
)
RESUMABLE = {"run.resume", "run.overwrite", "data.workers", "data.root", "data.splits"}  # may differ on resuming


def is_main():
    return rank_zero_only.rank == 0


def path_of(cfg, config_name):
    """runs/<config>[-<name>], or run.dir; no time in it, so that every process of a run finds the same folder."""
    return Path(cfg.run.dir or Path("runs", "-".join(filter(None, (Path(config_name).stem, cfg.run.name)))))


def refuse_taken(cfg, folder):
    """Raises UserError where this run may not write into the folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give another run.dir")
    if not is_main() or not folder.exists() or not any(folder.iterdir()):
        return
    is_run = (folder / "config.yaml").exists()
    if cfg.run.resume == "auto" and is_run:
        refuse_other_config(folder, cfg)
    elif not is_run:
        raise UserError(f"{folder} is not a run folder (it has no config.yaml) and not empty: give another run.dir")
    elif not cfg.run.overwrite:
        raise UserError(f"{folder} holds a run: give another run.name, run.resume=auto, or run.overwrite=true")


def create(cfg, folder):
    """Makes the folder and writes config.yaml. Returns the checkpoint to continue from, if any."""
    resume = cfg.run.resume == "auto"
    if not is_main():
        return last_checkpoint(folder) if resume else None
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config.to_yaml(cfg))
    return last_checkpoint(folder)


def last_checkpoint(folder):
    path = folder / "checkpoints" / "last.ckpt"
    return path if path.exists() else None


def refuse_other_config(folder, cfg):
    before, now = flat(yaml.safe_load((folder / "config.yaml").read_text())), flat(config.dump(cfg))
    differing = sorted(
        key for key in before.keys() | now.keys() if before.get(key) != now.get(key) and key not in RESUMABLE
    )
    if differing:
        lines = [f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in differing]
        raise UserError(f"{folder} holds a run of another configuration:\n  " + "\n  ".join(lines))


def flat(tree, prefix=""):
    """{"a": {"b": 1}} as {"a.b": 1}."""
    leaves = {f"{prefix}{key}": value for key, value in tree.items() if not isinstance(value, dict)}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
    return leaves


class Record:
    """env.json, rewritten as a run goes on; only the first process writes."""

    def __init__(self, folder, cfg):
        self.path = folder / "env.json"
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.values = {"starts": before.get("starts", []), **environment(), "seed": cfg.run.seed, "start": now()}

    def update(self, **values):
        self.values.update(values)
        if is_main():
            self.path.write_text(json.dumps(self.values, indent=1) + "\n")

    def started(self, step):
        self.update(starts=[*self.values["starts"], {"step": step, "time": now()}])

    def finished(self, exit_status):
        self.update(end=now(), exit_status=exit_status)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def environment():
    return {"command": shlex.join(sys.argv), "git": git_state(), "versions": versions(), "hardware": hardware()}


def git_state():
    """None where videores was installed without its repository."""
    if not (Path(__file__).parent.parent / ".git").exists():
        return None
    run = lambda *args: subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True)
    return {
        "commit": run("rev-parse", "HEAD").stdout.strip(),
        "dirty": bool(run("status", "--porcelain", "--untracked-files=no").stdout),
    }


def versions():
    found = {"python": platform.python_version(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # decord or decord2: one of the two is there
    return found


def hardware():
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "gpus": gpus,
    }
