"""Collect a cell's files as one JSON object, enough to rebuild every table without the runs.

V videos, G groups of videos that are right or wrong together, N classes.
"""

import hashlib
import json
import statistics
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field
from typing_extensions import NotRequired, TypedDict

from videores.ablation import cells
from videores.ablation.columns import COLUMNS
from videores.data import mirroring
from videores.errors import UserError
from videores.evaluation import fusion, metrics, offline, view_subset
from videores.evaluation.predictions import read_predictions
from videores.evaluation.protocol import format_protocol
from videores.runtime.code_hash import hash_code
from videores.runtime.files import check_type, read_json
from videores.training.callbacks.metrics_log import read_metrics_log

CURVE_POINTS = 40
NUM_SAMPLE_VIDEOS = 8  # videos whose scores are kept, so that two cells can be compared number by number


def _check_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


class _Answers(TypedDict):
    list: str
    right: Annotated[str, Field(pattern="^[01]+$")]
    floor: NotRequired[Annotated[str, Field(pattern="^[01]+$")]]  # not of older cells
    groups: list[int] | None


class _Hardware(TypedDict):
    machine: str
    cpu: str
    cores: int
    threads: int
    gpus: list[str]


class _Versions(TypedDict):
    torch: str
    lightning: str


class _Cell(TypedDict):
    """The content of cells/*.json, as far as tables and pages read it."""

    row: str
    kind: Literal["train", "test", "probe", "measure", "decode", "compress", "fuse"]
    seed: int
    key: str
    code: str | None
    commit: str | None
    dirty: bool | None
    status: Literal["done", "failed", "pending"]
    error: str | None
    protocol: str | None
    values: dict[str, int | float | None]
    place: int
    answers: NotRequired[_Answers]
    scores: NotRequired[list[list[float]]]
    curves: NotRequired[dict[str, list[tuple[int, float]]]]
    start: NotRequired[Annotated[str, AfterValidator(_check_time)]]
    end: NotRequired[Annotated[str, AfterValidator(_check_time)]]
    hardware: NotRequired[_Hardware]
    versions: NotRequired[_Versions]
    precision: NotRequired[str]


_TESTED_KEYS = ("answers", "scores", "protocol")
_MACHINE_KEYS = ("start", "hardware", "versions", "precision")
_TRAINED_KEYS = ("curves", "end", *_MACHINE_KEYS)


def read_saved_cell(path: Path) -> dict[str, Any]:
    """Read one of cells/*.json of a table. Raises UserError where it is damaged."""
    remedy = "restore it, or remove it and run the table again"
    cell = read_json(path, _Cell, remedy)
    is_done, is_decoded = cell["status"] == "done", cell["kind"] == "decode"
    wanted = _TESTED_KEYS * (is_done and cell["kind"] not in ("measure", "decode"))
    wanted += _MACHINE_KEYS * (is_done and is_decoded)
    wanted += _TRAINED_KEYS * (not is_decoded and any(key in cell for key in _TRAINED_KEYS))
    missing = [key for key in wanted if cell.get(key) is None]
    answers = cell.get("answers") or {"groups": None}
    if answers["groups"] and len(answers["groups"]) != len(answers["right"]):
        missing.append("a group for each of its answers")
    if missing:
        raise UserError(f"{path} must have {', '.join(missing)}; {remedy}")
    return cell


class _TestMetrics(TypedDict):
    """What a cell's metrics.json must have."""

    clip_top1: float | None
    video_top1: float
    video_top5: float | None
    videos: dict[str, Any]
    per_class_top1: dict[str, float | None]


def collect_cell(cell, costs):
    """Return the cell as JSON.

    `costs`: its counted and measured costs, or why it has none.
    """
    uncounted, costs = costs.get("error"), {name: value for name, value in costs.items() if name != "error"}
    about = {"row": cell.row, "kind": cell.kind, "seed": cell.seed, "key": cell.key, "base": cell.base}
    about |= {"overrides": list(cell.overrides), "needs": cell.needs.key if cell.needs else None}
    about |= {"fuses": [member.key for member in cell.members]} if cell.members else {}
    origin = cell.origin
    if cell.kind == "measure":
        now = {"code": hash_code(), **cells.read_commit()}
        status = "failed" if uncounted else "done"
        return {**about, **now, "status": status, "error": uncounted, "protocol": None, "values": costs}
    about |= {name: (cells.read_record(origin) or {}).get(name) for name in ("code", "commit", "dirty")}
    if not cells.is_done(origin):
        failed = cells.read_error(origin) or _describe_missing_need(origin)
        return {
            **about,
            "status": "failed" if failed else "pending",
            "error": failed,
            "protocol": None,
            "values": costs,
        }
    if cell.kind == "decode":
        read = json.loads(cells.decode_path(cell).read_text())
        machine = {name: read[name] for name in ("start", "hardware", "versions")} | {"precision": "no network"}
        return {**about, "status": "done", "error": None, "protocol": None, "values": read["values"], **machine}
    found, predictions = read_result(cell)
    values = {**costs, **_read_accuracies(found), **_read_training(cell), **_read_probes(cell)}
    if "params" in costs:
        values["nonzero"] = costs["params"] - cells.count_zeros(cell)
    more = {"answers": read_answers(predictions), "scores": sample_videos(predictions)}
    done = {"status": "done", "error": None, "protocol": found["protocol"]}
    return {**about, **done, "values": values, **more, **_read_curves(cell)}


def _describe_missing_need(cell):
    """Say why a cell was not begun, or return None."""
    missing = [need.row for need in cell.parents if not cells.is_done(need)]
    return f"it needs {', '.join(missing)}, which has no result" if missing else None


def read_result(cell):
    """Read metrics.json and predictions of a cell.

    Those of a test of saved scores are selected from the other's.
    """
    p = read_predictions(cells.test_folder(cell.origin))
    if not cell.rescored:
        remedy = "--fresh computes the cell again"
        found = check_type(p.metrics, _TestMetrics, p.path.with_name("metrics.json"), remedy)
        return found, replace(p, protocol="? 1x1 softmax-mean ?") if cell.members else p
    views = cell.config.test
    p = view_subset.select_views(p, views.clips, views.crops)
    found = offline.rescore(p, views.fusion)
    if found["protocol"] != format_protocol(cell.config):
        raise UserError(
            f"the row {cell.row}: its views must be among those of {p.path.parent.name}, got "
            f"{format_protocol(cell.config)}: let it need the training"
        )
    return found, replace(p, protocol=found["protocol"])  # with the fusion of now


def _read_accuracies(found):
    """Return the columns that a test gives: metrics of a column's name, and others.

    The gap is of the tested weights, on training and validation videos.
    """
    gap = found.get("gap") or {}
    return {
        **{name: found[name] for name in COLUMNS if name in found},
        "clip": found["clip_top1"],
        "video": found["video_top1"],
        "video5": found["video_top5"],
        "videos": found["videos"]["scored"],
        "mirrored": _compute_mirrored_accuracy(found["per_class_top1"]),
        "train": gap.get("train_video_top1"),
        "train_videos": gap.get("train_videos"),
        "gap": gap.get("video_top1"),
        "correlation": _average_correlation(found.get("error_correlation")),
    }


def _average_correlation(correlation_RR):
    """Return the mean over each two runs of an ensemble, None without any."""
    known = [value for i, row in enumerate(correlation_RR or ()) for value in row[:i] if value is not None]
    return statistics.fmean(known) if known else None


def _compute_mirrored_accuracy(per_class):
    """Return the mean accuracy of the classes that a horizontal flip changes, or None."""
    changed = mirroring.find_changed_classes(tuple(per_class))
    return statistics.fmean(per_class[name] for name in changed) if changed else None


def _read_training(cell):
    """Return the columns that a training's log gives.

    The loss is the mean over the rows of the last epoch, each of the steps since the row before.
    """
    if not cell.trains:
        return {}
    rows = [row for row in read_metrics_log(cells.cell_folder(cell) / "metrics.jsonl") if "train/loss" in row]
    last = [row for row in rows if row["epoch"] == rows[-1]["epoch"] and row["train/loss"] is not None]
    steps = [row.get("train/steps", 1) for row in last]  # rows of older runs are of one step
    losses = [row["train/loss"] for row in last]
    speeds = [row["clips_per_s"] for row in rows[1:] or rows if row.get("clips_per_s") is not None]
    gradients = [row["grad_norm/stem"] for row in rows if row.get("grad_norm/stem") is not None]
    return {
        "train_loss": float(np.average(losses, weights=steps)) if last else None,
        "loss_steps": sum(steps) if all("train/steps" in row for row in rows) else None,
        "clips_per_s": statistics.median(speeds) if speeds else None,
        "grad_stem": statistics.median(gradients) if gradients else None,
    }


def _read_probes(cell):
    """Return the columns that a probe gives."""
    if cell.kind != "probe":
        return {}
    try:
        parts = {part: json.loads(path.read_text()) for part, path in cells.probe_paths(cell).items()}
        return _flatten_probes(parts)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{cells.cell_folder(cell)} has a damaged probe ({error}); --fresh computes it again") from None


def _flatten_probes(parts):
    orders = {row["order"]: row for row in parts["orders"]["orders"]}
    ratios = [block["ratio"] for block in parts["responses"]["blocks"] if block["ratio"] is not None]
    values = {order: row["difference"] for order, row in orders.items()}
    values |= {
        "shuffled_scores": orders["shuffled"]["largest_change"],
        "partner": (parts["orders"]["partner"] or {}).get("share"),
        "mce": parts["corruptions"]["mean_error"],
        "mce_rise": parts["corruptions"]["relative"],
        "response": statistics.fmean(ratios) if ratios else None,
    }
    for method, checks in parts["maps"]["methods"].items():
        values |= {f"{name}_{method}": value for name, value in _read_checks(checks).items()}
    return values


def _read_checks(checks):
    pointing = checks["pointing"] or {}
    return {
        "deletion": checks["deletion"]["above_random"],
        "insertion": checks["insertion"]["above_random"],
        "cascade": checks["cascade"]["steps"][-1]["spearman"],
        "pointing": pointing.get("hit_above_random"),
        "pointing_difference": pointing.get("hit_above_difference"),
    }


def _read_curves(cell):
    """Return {"curves": {name: [[step, value], ...]}}, day and machine of a training.

    A curve has at most CURVE_POINTS.
    """
    if not cell.trains:
        return {}
    rows, environment = read_metrics_log(cells.cell_folder(cell) / "metrics.jsonl"), cells.read_environment(cell)
    curves = {}
    for name in ("train/loss", "val/loss", "val/video_top1"):
        points = [[row["step"], round(row[name], 4)] for row in rows if row.get(name) is not None]
        curves[name] = points[:: max(1, -(-len(points) // CURVE_POINTS))]
    about = {name: environment.get(name) for name in ("start", "end", "hardware", "versions", "precision")}
    return {"curves": curves, **about}


# Single videos


def read_answers(p):
    """Return which videos are right: {"list", "right", "groups", "floor"}, by name.

    `list` is a hash of their names, `right` has a digit for each, 1 or 0, and so has `floor`, of the best floor, where
    it is known. `groups` has a number from 1 on for each video, equal within a group; null where each video is its own.
    """
    order = np.argsort(p.video)
    right_V = metrics.is_in_top_k(_fuse_predictions(p), p.label)[order]
    group_V = metrics.group_indices(p.group[order], len(order))
    named = hashlib.sha256("\n".join(p.video[order].tolist()).encode()).hexdigest()[:16]
    alone = group_V.max() + 1 == len(group_V)
    if len(set(p.group.tolist())) == 1 and p.group[0]:
        alone, group_V = False, np.zeros_like(group_V)  # one group for all
    groups = None if alone else (group_V + 1).tolist()
    answers = {"list": named, "right": "".join(map(str, right_V.astype(int))), "groups": groups}
    floors = p.metrics.get("floors") or {}
    floor = floors.get("right", {}).get(floors.get("best"), "")
    known = len(floor) == len(order)  # not of older tests, and not where videos could not be read
    return answers | ({"floor": "".join(floor[i] for i in order)} if known else {})


def sample_videos(p):
    """Return fused scores of the first videos by name, rounded to what float32 holds."""
    order = np.argsort(p.video)[:NUM_SAMPLE_VIDEOS]
    return np.round(np.nan_to_num(_fuse_predictions(p)[order], nan=-1), 7).tolist()


def _fuse_predictions(p):
    return fusion.fuse_views(p.logits, p.words["fusion"], p.views_V)
