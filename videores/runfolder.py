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

from videores import configfile
from videores.data.encode import replacing
from videores.errors import UserError
from videores.launch import is_first_process as is_main

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
# what run.overwrite deletes
OURS = (
    *("config.yaml", "env.json", "metrics.jsonl", "metrics.csv", "curves.png", "checkpoints", "test", "val"),
    *("report.html", "tensorboard", "wandb"),
)
RESUMABLE = {  # keys that may differ when a run resumes: they do not change what it computes
    *("run.dir", "run.name", "run.resume", "run.overwrite", "trainer.log_every", "trainer.timeout"),
    *("train.gap_videos", "watch.gradients", "watch.activations", "watch.tensorboard", "watch.wandb"),
    *("data.root", "data.splits", "data.source", "data.workers", "data.cache"),
}


def path_of(cfg, config_name):
    """runs/<config>[-<name>], or run.dir; no time in it, so that every process of a run finds the same folder."""
    return Path(cfg.run.dir or Path("runs", "-".join(filter(None, (Path(config_name).stem, cfg.run.name)))))


def refuse_taken(cfg, folder):
    """Raises UserError where this run may not write into the folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give another run.dir")
    if not is_main() or not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is not a run folder (it has no config.yaml) and not empty: give another run.dir")
    if cfg.run.resume == "auto":
        refuse_other_config(folder, cfg)
    elif not cfg.run.overwrite:
        raise UserError(f"{folder} holds a run: give another run.name, run.resume=auto, or run.overwrite=true")
    elif not (folder / "env.json").exists():
        raise UserError(f"{folder} has no env.json, so it may be something else than a run: remove it yourself")


def create(cfg, folder):
    """Makes the folder and writes config.yaml. Returns the checkpoint to continue from, if any."""
    resume = cfg.run.resume == "auto"
    if is_main():
        if not resume:
            clear(folder)
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        write(folder / "config.yaml", configfile.to_yaml(cfg))
    return last_checkpoint(folder) if resume else None


def clear(folder):
    for path in (folder / name for name in OURS):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write(path, text):
    """A killed run leaves the old file or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def last_checkpoint(folder):
    path = folder / "checkpoints" / "last.ckpt"
    return path if path.exists() else None


def best_checkpoint(folder):
    """The checkpoint to test: the one chosen on validation videos, or the last where there were none."""
    best, last = (folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    return best if best.exists() else last


def refuse_other_config(folder, cfg):
    before, now = flat(yaml.safe_load((folder / "config.yaml").read_text())), flat(configfile.dump(cfg))
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
        starts = self.before().get("starts", []) if is_main() else []
        self.values = {"starts": starts, **environment(), "seed": cfg.run.seed, "start": now()}

    def before(self):
        try:
            return json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def update(self, **values):
        self.values.update(values)
        if is_main():
            write(self.path, json.dumps(self.values, indent=1) + "\n")

    def started(self, step):
        self.update(starts=[*self.values["starts"], {"step": step, "time": now()}])

    def finished(self, exit_status, **why):
        self.update(end=now(), exit_status=exit_status, **why)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def environment():
    return {"command": shlex.join(sys.argv), "git": git_state(), "versions": versions(), "hardware": hardware()}


def git_state():
    """None where videores was installed without its repository, or git is not there to ask."""
    run = lambda *args: subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        commit = run("rev-parse", "HEAD") if (Path(__file__).parent.parent / ".git").exists() else None
    except OSError:
        return None
    if commit is None or commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(run("status", "--porcelain", "--untracked-files=no").stdout)}


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
