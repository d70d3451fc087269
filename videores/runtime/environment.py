"""Record of what a run ran on: versions, hardware, git state."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from videores.runtime import machine

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


def format_utc_now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def collect_environment():
    return {
        "command": shlex.join(sys.argv),
        "git": read_git_state(),
        "versions": collect_versions(),
        "hardware": collect_hardware(),
    }


def read_git_state():
    """None where videores was installed without its repository, or git is not there to ask."""
    run = lambda *args: subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        commit = run("rev-parse", "HEAD") if (Path(__file__).parents[2] / ".git").exists() else None
    except OSError:
        return None
    if commit is None or commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(run("status", "--porcelain", "--untracked-files=no").stdout)}


def collect_versions():
    found = {"python": platform.python_version(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # decord or decord2: one of the two is there
    return found


def collect_hardware():
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "model": machine.read_cpu_model(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),  # of a process; with another number, sums are rounded in another order
        "gpus": gpus,
    }
