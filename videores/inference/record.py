"""Collect what is known of a run that has ended: its results, each with its protocol, and where they are from.

The record is a copy of numbers of config.yaml, env.json and test/*/metrics.json, small enough for the header of a file
of weights and for a repository. Model cards and zoo pages are made from it alone.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from videores.config.parse import load_config
from videores.config.schema import Config
from videores.errors import UserError
from videores.evaluation.floors import ComparedFloors
from videores.evaluation.predictions import read_metrics
from videores.evaluation.protocol import format_protocol, slugify
from videores.models.weights import safe_load
from videores.runtime.files import check_type
from videores.runtime.own_parts import OwnPart
from videores.training.run_folder import find_best_checkpoint, format_unfinished_note, read_environment


class Result(TypedDict):
    """The result of a test under one protocol; accuracies in per cent."""

    protocol: str
    precision: str
    clip_top1: float | None
    video_top1: float
    video_top5: float | None
    mean_class_top1: float
    ci95_video_top1: list[float]  # low, high
    ci95_over: str
    floors: ComparedFloors | None
    expected: int  # videos
    unreadable: int  # of them, which count as wrong
    list_hash: str  # of the test list


class RunRecord(TypedDict):
    """What is known of a run: the first result is that of its own protocol."""

    name: str  # of the run folder
    network: str
    data: str
    config: str | None  # the file that its command names
    results: list[Result]
    epochs: int
    seed: int
    weights: str | None  # that it started from
    command: str
    commit: str | None
    dirty: bool | None
    code: str | None  # hash of what can change a result; None: not recorded
    own_parts: dict[str, OwnPart]
    machine: str
    threads: int
    versions: dict[str, str | int | None]
    started: str
    ended: str


VERSIONS = ("python", "torch", "lightning")


def collect_record(run: Path) -> RunRecord:
    """Collect the record of a run folder.

    Raises UserError where it is none, has not ended, or has not been tested.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} must be a run folder, it has no config.yaml: give runs/<name>")
    if note := format_unfinished_note(run):
        raise UserError(f"{run}: {note}: its results are not final, wait for its end")
    try:
        known: Mapping[str, Any] = read_environment(run)
    except FileNotFoundError:
        raise UserError(f"{run} has no env.json, which says where its weights are from: train it again") from None
    cfg, git = load_config(run / "config.yaml"), known.get("git") or {}
    record = {
        "name": run.resolve().name,
        "network": cfg.model.name,
        "data": cfg.data.name,
        "config": _find_config(known["command"]),
        "results": _list_results(run, cfg),
        "epochs": cfg.train.epochs,
        "seed": cfg.run.seed,
        "weights": cfg.model.weights,
        "command": known["command"],
        "commit": git.get("commit"),
        "dirty": git.get("dirty"),
        "code": known.get("code"),
        "own_parts": known.get("own_parts") or {},
        "machine": ", ".join(known["hardware"]["gpus"]) or known["hardware"]["model"],
        "threads": known["hardware"]["threads"],
        "versions": {name: known["versions"].get(name) for name in VERSIONS},
        "started": known["starts"][0]["time"],
        "ended": known["end"],
    }
    return check_record(record, run / "env.json")


def check_record(record: Any, where: Path | str) -> RunRecord:
    """Return a record that was read. Raises UserError, which names `where`, if it is damaged."""
    return check_type(record, RunRecord, where, "make it again from the run folder")


def _find_config(command):
    """Return the name of the file after --cfg."""
    words = shlex.split(command.replace("--cfg=", "--cfg "))
    return Path(words[words.index("--cfg") + 1]).name if "--cfg" in words[:-1] else None


def _list_results(run, cfg: Config):
    """Return the results of the run's checkpoint on its own list, of its own protocol first.

    Results of former weights, as of a training that went on, are left out with a note.
    """
    path, own = find_best_checkpoint(run), slugify(format_protocol(cfg))
    stored = safe_load.read_checkpoint(path)
    safe_load.check_run_checkpoint(path, stored)
    found = []
    for folder in sorted(run.glob("test/*/"), key=lambda folder: (folder.name != own, folder.name)):
        metrics: Mapping[str, Any] = read_metrics(folder) if "+" not in folder.name else {}
        if metrics and metrics["checkpoint"].get("step") == stored["global_step"]:
            found.append(_pick_result(metrics))
        elif metrics:
            print(f"note    {folder} is left out: it is of other weights than {path.name}", file=sys.stderr)
    if not found:
        raise UserError(f"{run} must have a test of its checkpoint: tools/evaluate.py --run {run} writes one")
    return found


def _pick_result(metrics):
    videos = metrics["videos"]
    picked = {key: metrics.get(key) for key in Result.__annotations__ if key in metrics}
    return {
        "precision": "fp32",  # older files do not say it
        "floors": None,
        **picked,
        "ci95_video_top1": list(metrics["ci95_video_top1"]),
        "expected": videos["expected"],
        "unreadable": len(videos["unreadable"]),
        "list_hash": metrics["list"]["hash"],
    }


def format_interval(result: Result) -> str:
    """Format the 95 % interval of a result."""
    low, high = result["ci95_video_top1"]
    return f"{low:.1f} to {high:.1f}"


def format_commit(record: RunRecord) -> str:
    """Format the commit of a run, marked where files differed from it."""
    return f"{record['commit'][:8]}{' with changes' * bool(record['dirty'])}" if record["commit"] else "unknown"
