"""Write the result of a test into the run folder and print it."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import TypedDict

from videores.config.schema import Config, ViewsConfig
from videores.data.datamodule import Videos
from videores.data.lists import Video, preview
from videores.data.views import count_crops, count_views
from videores.errors import UserError
from videores.evaluation import floors, fusion, metrics
from videores.evaluation.predictions import read_metrics
from videores.evaluation.protocol import format_protocol, slugify
from videores.reporting import plots
from videores.runtime.files import read_json, write_atomically, write_text
from videores.runtime.own_parts import call_part
from videores.runtime.tables import format_csv

MISTAKE_COLUMNS = ("video", "label", "predicted", "confidence")


class CellRecord(TypedDict):
    """Hold who computed a cell of an ablation table: <key>.json beside its folder."""

    row: str
    seed: int
    code: str  # hash of what can change a result
    commit: str | None
    dirty: bool | None


class TestScores(NamedTuple):
    """The scores of a test."""

    part: str  # "test" or "val"
    videos: Videos  # all that are listed
    scored: Sequence[Video]
    logits_VKN: np.ndarray  # of the videos `scored`, in that order, NaN for one that no longer decoded


def write_test(
    folder: Path,
    cfg: Config,
    scores: TestScores,
    tested: Mapping[str, Any],
    gap: Mapping[str, Any] | None = None,
    digest: str | None = None,
) -> Path:
    """Write the files of one protocol's test, print the result, and return the folder.

    metrics.json, predictions.npz, mistakes.csv, confusion.png and confusion.svg replace what
    <folder>/<part>/<protocol>[+<digest>]/ held.

    Args:
        folder: the run folder.
        tested: which "checkpoint" was tested on which "list", for metrics.json.
        gap: the generalization gap that training measured of these weights.
        digest: of the checkpoint and the list, where they are not those of the folder.

    Raises:
        UserError: if scores of a readable video are not finite.
    """
    part, videos, scored, logits_VKN = scores
    suffix, listed = f"+{digest}" if digest else "", getattr(videos.index, part)
    target = folder / part / (slugify(format_protocol(cfg, part)) + suffix)
    _check_finite(logits_VKN, [v.path for v in scored], videos.unreadable[part], tested["checkpoint"]["file"])
    clip, crop = np.divmod(np.arange(logits_VKN.shape[1]), count_crops(getattr(cfg, part)))
    arrays: dict[str, Any] = {
        "video": [v.path for v in listed],
        "label": np.array([v.label for v in listed]),
        "group": [v.group or "" for v in listed],
        "classes": videos.index.classes,
        "clip": clip,
        "crop": crop,
        "logits": _add_missing_videos(logits_VKN, scored, listed),
    }
    numbers, mistakes = _compute_result(cfg, part, videos, arrays)
    result = {**numbers, **tested, "gap": gap}
    result |= _compare_to_clean(folder / part, suffix, cfg, part, result)
    _write_files(target, result, arrays, mistakes)
    _print_result(result, target)
    return target


def _write_files(target, result, arrays, mistakes):
    """Write the files of a test: scores and metrics replace old ones when all are written."""
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        with write_atomically(target / "predictions.npz") as predictions:
            with predictions.open("wb") as file:
                # Not compressed: of logits that saves a tenth and costs seconds.
                np.savez(file, **arrays)
            counts_NN, path = np.array(result["confusion"]), target / "confusion.png"
            # 13 inches: 90 MB and a second less than a large one
            plots.plot_confusion(path, counts_NN, arrays["classes"], result["protocol"], max_inches=13)
            write_text(target / "mistakes.csv", format_csv(mistakes, MISTAKE_COLUMNS))
            write_text(target / "metrics.json", format_json(result))
            shutil.rmtree(target / "offline", ignore_errors=True)  # what was made of the old predictions
    except BaseException:
        if is_new:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _compute_result(cfg, part, videos, arrays):
    """Compute metrics.json from the arrays of predictions.npz, without the weights, and the rows of mistakes.csv."""
    listed, views, classes = getattr(videos.index, part), getattr(cfg, part), arrays["classes"]
    logits_VKN, label_V = arrays["logits"], arrays["label"]
    infos = {path: info for path, info in videos.infos.items() if path not in videos.unreadable[part]}
    views_V = [count_views(infos.get(v.path), cfg.data.clip, views) for v in listed]
    numbers = metrics.compute_metrics(logits_VKN, label_V, views.fusion, arrays["group"], views_V)
    scores_VN = fusion.fuse_views(logits_VKN, views.fusion, views_V)
    found = metrics.find_worst_mistakes(scores_VN, label_V, views.fusion)
    mistakes = _describe_mistakes(found, listed, classes)
    unread = [v for v in listed if v.path in videos.unreadable[part]]
    result = {
        "protocol": format_protocol(cfg, part),
        "precision": cfg.trainer.score_precision,
        **numbers,
        "per_class_top1": dict(zip(classes, numbers["per_class_top1"], strict=True)),
        "worst": mistakes[: metrics.WORST_MISTAKES],
        "videos": _count_videos(videos, part),
        "floors": floors.compare_with_floors(floors.find_floors(cfg.data, videos, part), numbers["ci95_video_top1"]),
    }
    if views.metrics:
        result["own_metrics"] = {path: measure(path, part, scores_VN, label_V) for path in views.metrics}
    return result, mistakes + [{"video": v.path, "label": classes[v.label]} for v in unread]


def measure(path: str, part: str, scores_VN: np.ndarray, label_V: np.ndarray) -> float | None:
    """Return what the metric of an import path says, None where it fails: scores are kept."""
    try:
        value = call_part(f"{part}.metrics", path, scores_VN=scores_VN, label_V=label_V)
        return float(value) if value is not None and np.isfinite(float(value)) else None  # JSON has no infinity
    except Exception as error:  # of code that is not ours
        print(f"warning: {part}.metrics={path} gave no number: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def _check_finite(logits_VKN, paths, unreadable, weights):
    """Check that readable videos have finite logits, in their first view.

    NaN marks views that are not there.
    """
    finite_V = np.isfinite(logits_VKN[:, 0]).all(-1)
    bad = [path for path, finite in zip(paths, finite_V, strict=True) if not finite and path not in unreadable]
    if bad:
        raise UserError(
            f"{weights}: scores must be finite, those of {len(bad)} of {len(paths)} videos are not: its weights "
            f"diverged (lower train.lr) or trainer.score_precision overflows (use fp32)\n  {preview(bad)}"
        )


def _add_missing_videos(logits_VKN, scored, listed):
    """Add rows of NaN for the listed videos that could not be scored."""
    if len(scored) == len(listed):
        return logits_VKN
    rows = {video.path: number for number, video in enumerate(scored)}
    all_VKN = np.full((len(listed), *logits_VKN.shape[1:]), np.nan, dtype=np.float32)
    is_scored_V = np.array([video.path in rows for video in listed])
    all_VKN[is_scored_V] = logits_VKN[[rows[video.path] for video in listed if video.path in rows]]
    return all_VKN


def _count_videos(videos, part):
    listed, unreadable = getattr(videos.index, part), sorted(videos.unreadable[part])
    counts = {"expected": len(listed), "scored": len(listed) - len(unreadable), "unreadable": unreadable}
    present = videos.index.counts[part]["found"]
    if part == "test" and present < len(listed):
        counts["found"] = present  # the files that are there at all, as of Kinetics nobody has all
    return counts


def _describe_mistakes(mistakes, listed, classes):
    return [
        {"video": listed[v].path, "label": classes[listed[v].label], "predicted": classes[n], "confidence": p}
        for v, n, p in mistakes
    ]


def format_json(result: Mapping[str, Any]) -> str:
    """Format a result as JSON, one line a key, a confusion matrix too."""
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()) + "\n}\n"


def _compare_to_clean(tests, suffix, cfg, part, result):
    """Compare a test on shuffled or corrupted frames with normal ones: {"clean": ...}.

    It has the normal result of the same weights and the loss against it in points, or None without such a test.
    """
    views, usual = getattr(cfg, part), ViewsConfig()
    if views.order == usual.order and views.corruption == usual.corruption:
        return {}
    normal = views.model_copy(update=dict(order=usual.order, corruption=usual.corruption))
    protocol = format_protocol(cfg.model_copy(update={part: normal}), part)
    clean = {"precision": "fp32", **read_metrics(tests / (slugify(protocol) + suffix))}
    if not {"clip_top1", "video_top1"} <= clean.keys() or any(
        clean.get(key) != result[key] for key in ("checkpoint", "videos", "precision")
    ):
        return {"clean": None}
    drop = {f"drop_{name}": clean[name] - result[name] for name in ("clip_top1", "video_top1")}
    return {"clean": {"protocol": protocol, "video_top1": clean["video_top1"], **drop}}


# The screen


def _print_result(result, target):
    videos = result["videos"]
    missing = videos["expected"] - videos.get("found", videos["expected"])
    bad = f", {len(videos['unreadable'])} unreadable count as wrong" if videos["unreadable"] else ""
    bad += f" ({missing} of them are not there)" if missing else ""
    print(f"wrote   {target}")
    epoch = result["checkpoint"].get("epoch")  # public weights do not say it
    print(f"weights {result['checkpoint']['file']}" + (f", after epoch {epoch + 1}" if epoch is not None else ""))
    if "+" in target.name:
        print(
            f"list    {result['list']['source']}: this or the checkpoint is another than usual, hence the folder with +"
        )
    precision = "" if result["precision"] == "fp32" else f", in {result['precision']}"
    print(f"tested  {result['protocol']}{precision}: {videos['scored']} of {videos['expected']} videos{bad}")
    if result["gap"]:
        print(f"gap     {format_gap(result['gap'])}")
    if "clean" in result:
        print(f"probe   {_format_drop(result['clean'])}")
    for name, value in result.get("own_metrics", {}).items():
        print(f"metric  {name} {value}")
    print_accuracies(result)


def print_accuracies(result: Mapping[str, Any]) -> None:
    """Print the floors, and clip and video accuracy, the last lines of a test."""
    if "floors" in result:
        print(f"floors  {format_floors(result['floors'])}")
    top5 = lambda value: "" if value is None else f"  top-5 {value:.2f}"
    over = " over groups" if result["ci95_over"] == "groups" else ""
    if result.get("auc") is not None:
        low, high = result["ci95_auc"]
        print(f"auc     {result['auc']:.3f} (95 % interval{over} {low:.3f} to {high:.3f})")
    if result["clip_top1"] is not None:  # an ensemble has none
        print(f"clip    top-1 {result['clip_top1']:.2f}{top5(result['clip_top5'])}")
    low, high = result["ci95_video_top1"]
    interval = f"95 % interval{over} {low:.2f} to {high:.2f}"
    mean_class = f"mean class {result['mean_class_top1']:.2f}"
    print(f"video   top-1 {result['video_top1']:.2f} ({interval}){top5(result['video_top5'])}  {mean_class}")


def format_run_name(run: Path) -> str:
    """Return the name of a run's folder, or the row and seed of a cell of an ablation table, whose folder is a hash."""
    try:
        record = read_cell_record(run)
    except (OSError, UserError):  # not a cell
        return run.resolve().name
    return f"{record['row']}, seed {record['seed']}"


def read_cell_record(folder: Path) -> CellRecord:
    """Read the record of the cell of an ablation table that is in a folder.

    Raises FileNotFoundError, and UserError where it is damaged.
    """
    folder = folder.resolve()
    return read_json(folder.with_name(f"{folder.name}.json"), CellRecord, "tools/ablate.py --fresh computes it again")


def format_gap(gap: Mapping[str, Any]) -> str:
    """Format the generalization gap of tested weights."""
    train, val = (f"{gap[f'{part}_video_top1']:.2f} on {gap[f'{part}_videos']} {part}" for part in ("train", "val"))
    return f"{gap['video_top1']:.2f} points of video top-1: {train}, {val} videos ({gap['protocol']})"


FLOOR_NAMES = {"majority": "majority class", "size": "size and length", "thumbnail": "thumbnail"}


def format_floors(found: Mapping[str, Any] | None) -> str:
    """Format what the video accuracy must beat, and whether its interval is above that."""
    if found is None:
        return "unknown: the training videos are not probed here (tools/prepare.py does)"
    numbers = ", ".join(f"{name} {found[key]:.2f}" for key, name in FLOOR_NAMES.items())
    best = FLOOR_NAMES[found["best"]]
    mark = "below the interval" if found["above"] else f"NOT BEATEN, the interval is not above {best}"
    return f"{numbers}: {mark}"


def _format_drop(clean):
    if clean is None:
        return "to compare with the normal frames, test these weights without test.order and test.corruption too"
    return f"video top-1 drops by {clean['drop_video_top1']:.2f} from {clean['video_top1']:.2f} with the normal frames"
