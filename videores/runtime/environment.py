"""Record the environment of a run: command, git state, versions, hardware."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from videores.runtime import machine
from videores.runtime.code_hash import hash_code

READERS = ("decord", "decord2", "av", "pytorchvideo")
PACKAGES = ("videores", "torch", "torchvision", "lightning", *READERS, "numpy", "pydantic")


def format_utc_now() -> str:
    """Format the present time, UTC, to seconds (ISO 8601)."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def collect_environment() -> dict[str, Any]:
    """Return the record of env.json: command, git, code, versions, hardware."""
    return {
        "command": shlex.join(sys.argv),
        "git": read_git_state(),
        "code": hash_code(),
        "versions": _collect_versions(),
        "hardware": _collect_hardware(),
    }


def read_git_state() -> dict[str, Any] | None:
    """Return the commit and whether tracked files differ; None without a repository."""
    run = lambda *args: subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        commit = run("rev-parse", "HEAD") if (Path(__file__).parents[2] / ".git").exists() else None
    except OSError:
        return None
    if commit is None or commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(run("status", "--porcelain", "--untracked-files=no").stdout)}


def _collect_versions() -> dict[str, str | int | None]:
    versions = {
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # decord or decord2: one of the two is there
    return versions


def _collect_hardware() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "model": machine.read_cpu_model(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),  # of a process; with another number, sums are rounded in another order
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
