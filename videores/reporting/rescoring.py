"""Evaluate saved predictions for `tools/evaluate.py --scores`: read, compute, write and print.

The four tasks take run folders, test folders or files, and return the exit code: 1 where videos did not decode.
"""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from videores.data.lists import preview
from videores.errors import UserError
from videores.evaluation import offline, suspects
from videores.evaluation.predictions import FILE_NAME, Predictions, align_videos, read_predictions
from videores.evaluation.protocol import slugify
from videores.evaluation.view_subset import select_views
from videores.reporting import plots, results
from videores.runtime.files import write_atomically, write_text
from videores.runtime.tables import format_csv

COMPARED_FOLDER = Path("results", "scores")  # where results of several runs are written
MAX_PRINTED_SUSPECTS = 20


def rescore_run(
    source: Path | str,
    *,
    clips: int | None = None,
    crops: int | None = None,
    fusion: str | None = None,
    sweep: bool = False,
    out: Path | str | None = None,
) -> int:
    """Score one run's predictions with other views or fusion, or sweep the clips."""
    whole = read_predictions(source)
    p, fusion = select_views(whole, clips, crops), offline.select_fusion([whole], fusion)
    result = {**offline.rescore(p, fusion), "predictions": str(whole.path)}
    folder = Path(out or whole.path.parent / "offline" / slugify(result["protocol"]))
    _write_metrics(folder, result, whole.classes)
    _print_metrics(result)
    if sweep:
        _write_sweep(folder, offline.sweep_views(p, fusion), result["protocol"])
    print(f"wrote   {folder}")
    return 1 if result["videos"]["unreadable"] else 0


def _write_sweep(folder, rows, protocol):
    write_text(folder / "sweep.csv", format_csv(rows))
    plots.plot_sweep(folder / "sweep.png", rows, protocol)
    print("clips x crops   clip    video   95 % interval")
    for row in rows:
        count = f"{row['clips']}x{row['crops']}" + ("" if row["a_protocol"] else " *")
        print(f"{count:14s} {row['clip_top1']:6.2f}  {row['video_top1']:6.2f}   {row['low']:.2f} to {row['high']:.2f}")
    if not all(row["a_protocol"] for row in rows):
        print("* evenly chosen from the clips there are; testing with so few would show others")


def fuse_runs(
    sources: Sequence[Path | str],
    *,
    clips: int | None = None,
    crops: int | None = None,
    fusion: str | None = None,
    weights: Sequence[str] | None = None,
    out: Path | str | None = None,
) -> int:
    """Score an ensemble of several runs.

    `weights`: one a run, ["val"] to fit them on validation videos, None for equal ones.
    """
    select = lambda p: select_views(p, clips, crops)
    whole = _read_all(sources)
    runs, fusion = [select(p) for p in whole], offline.select_fusion(whole, fusion)
    weights_R, weights_from = _parse_weights(whole, weights, fusion, select)
    result, logits_VKN = offline.fuse_runs(runs, weights_R, fusion)
    alone = [offline.rescore(p, fusion) for p in runs]
    result["weights_from"] = weights_from
    result["runs"] = [
        {"predictions": str(p.path), "weight": weight, "protocol": one["protocol"], "video_top1": one["video_top1"]}
        for p, weight, one in zip(runs, weights_R, alone, strict=True)
    ]
    weighted = f"-weights-{'-'.join(weights)}" if weights else ""
    folder = Path(out or COMPARED_FOLDER / ("+".join(_name_runs(runs)) + weighted))
    _write_metrics(folder, result, runs[0].classes)
    _write_predictions(folder / FILE_NAME, runs[0], logits_VKN)
    for p, weight, one in zip(runs, weights_R, alone, strict=True):
        print(f"alone   {one['video_top1']:6.2f} video top-1, weight {weight:.3f}: {p.path.parent} {one['protocol']}")
    print(f"weights {weights_from}")
    for p, row in zip(runs, result["error_correlation"], strict=True):
        print(f"errors  {'  '.join('     -' if r is None else f'{r:6.2f}' for r in row)}  correlation: {p.run}")
    _print_metrics(result)
    print(f"wrote   {folder}")
    return 1 if result["videos"]["unreadable"] else 0


def compare_runs(
    sources: Sequence[Path | str],
    *,
    clips: int | None = None,
    crops: int | None = None,
    fusion: str | None = None,
    out: Path | str | None = None,
) -> int:
    """Compare two runs on the same videos: McNemar's test, interval, classes."""
    if len(sources) != 2:
        raise UserError(f"--compare must have two runs, got {len(sources)}")
    first, second = (select_views(p, clips, crops) for p in _read_all(sources))
    summary, per_class = offline.compare_runs(first, second, offline.select_fusion([first, second], fusion))
    names = _name_runs([first, second])
    folder = Path(out or COMPARED_FOLDER / "-against-".join(names))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "comparison.json", results.format_json({**summary, "classes": per_class}))
    write_text(folder / "classes.csv", format_csv(per_class))
    title = " minus ".join(results.format_run_name(p.run) for p in (second, first))
    plots.plot_differences(folder / "classes.png", per_class, title)
    _print_difference(summary, per_class)
    print(f"wrote   {folder}")
    return 1 if summary["unreadable"] else 0


def list_suspects(
    sources: Sequence[Path | str],
    *,
    by: str,
    clips: int | None = None,
    crops: int | None = None,
    fusion: str | None = None,
    out: Path | str | None = None,
) -> int:
    """List videos by how little runs that were tested on them believe their labels."""
    runs = [select_views(read_predictions(source), clips, crops) for source in sources]
    rows = suspects.rank_labels(runs, offline.select_fusion(runs, fusion), by)
    folder = Path(out or COMPARED_FOLDER / "+".join(_name_runs(runs)))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "suspects.csv", format_csv([row._asdict() for row in rows]))
    videos = {video for p in runs for video in p.video.tolist()}
    doubted = [row for row in rows if row.margin < 0.5]
    print(f"{len(doubted):,} of {len(rows):,} videos have a likelier class than their label; the first by {by}:")
    print("label is  margin  video, label -> likelier class")
    for row in doubted[:MAX_PRINTED_SUSPECTS]:
        print(f"{row.self_confidence:8.4f}  {row.margin:6.4f}  {row.video}: {row.label} -> {row.other}")
    if len(rows) < len(videos):
        print(f"{len(videos) - len(rows):,} videos did not decode and are not in the list")
    print(f"wrote   {folder / 'suspects.csv'}")
    return 1 if len(rows) < len(videos) else 0


# Reading


def _read_all(sources):
    return _align_all([read_predictions(source) for source in sources])


def _align_all(predictions):
    """Bring the videos of all runs into the order of the first."""
    first, *others = predictions
    return [first, *(align_videos(first, other) for other in others)]


def _name_runs(runs):
    return [p.run.resolve().name for p in runs]


def _parse_weights(runs, weights, fusion, select):
    """Return weights_R with sum 1 and their origin, which is never the test videos."""
    if weights is None:
        return [1 / len(runs)] * len(runs), "equal"
    if weights == ["val"]:
        held_out = _align_all([select(_find_validation_scores(p)) for p in runs])
        found = offline.choose_ensemble_weights(held_out, fusion)
        what = "chosen" if len(set(found)) > 1 else "equal, which are right more often than the likeliest,"
        return found, f"{what} on {len(held_out[0].video)} validation videos"
    try:
        weights_R = np.array([float(weight) for weight in weights])
    except ValueError:
        raise UserError(f"--weights must be a number for each run, or val, got {' '.join(weights)}") from None
    if len(weights_R) != len(runs) or not np.isfinite(weights_R).all() or weights_R.min() < 0 or weights_R.sum() == 0:
        raise UserError(f"--weights must be {len(runs)} numbers >= 0, not all 0, or val, got {' '.join(weights)}")
    return (weights_R / weights_R.sum()).tolist(), "given"


def _find_validation_scores(p: Predictions) -> Predictions:
    """Return a run's validation predictions with the views of its test predictions."""
    views = itemgetter("frames", "clips", "crops")
    held_out = [read_predictions(path) for path in sorted(p.run.glob(f"val/*/{FILE_NAME}"))]
    alike = [other for other in held_out if views(other.words) == views(p.words)]
    if not alike:
        keys = f"val.clips={p.words['clips']} val.crops={p.words['crops']}"
        raise UserError(
            f"{p.run} has no validation predictions with the views of {p.protocol}: write them with\n"
            f"  python tools/evaluate.py --run {p.run} --part val {keys}"
        )
    shared = sorted(set(alike[0].video.tolist()) & set(p.video.tolist()))
    if shared:
        raise UserError(
            f"{alike[0].path}: --weights val must not use test videos, which it has:\n  {preview(shared, 5)}"
        )
    return alike[0]


# Writing


def _write_metrics(folder, result, classes):
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "metrics.json", results.format_json(result))
    plots.plot_confusion(folder / "confusion.png", np.array(result["confusion"]), classes.tolist(), result["protocol"])


def _write_predictions(path, first, logits_VKN):
    """Write the scores of an ensemble as one view a video, to be used like a run's."""
    same = {name: getattr(first, name) for name in ("video", "label", "group", "classes")}
    with write_atomically(path) as temporary:
        np.savez_compressed(temporary, clip=np.array([0]), crop=np.array([0]), logits=logits_VKN, **same)


# Printing


def _print_metrics(result):
    videos = result["videos"]
    bad = f", {len(videos['unreadable'])} unreadable count as wrong" if videos["unreadable"] else ""
    print(f"scored  {result['protocol']}: {videos['scored']} of {videos['expected']} videos{bad}")
    results.print_accuracies(result)


def _print_difference(summary, per_class):
    (first, second), (low, high), right = summary["runs"], summary["ci95_difference"], summary["right"]
    for which, one in (("first", first), ("second", second)):
        print(f"{which:7s} {one['video_top1']:6.2f} video top-1: {one['run']} {one['protocol']}")
    over = " over groups" if summary["ci95_over"] == "groups" else ""
    interval = f"95 % interval{over} {low:+.2f} to {high:+.2f}"
    print(f"differ  second - first = {summary['difference']:+.2f} points ({interval})")
    alone = f"{right['first']} videos only the first gets right, {right['second']} only the second"
    print(f"McNemar p = {summary['mcnemar_p']:.2g}: {alone}, {right['both']} both, of {summary['videos']}")
    for what, rows in (("gains", per_class[:5]), ("losses", per_class[:-6:-1])):
        named = [
            f"{row['class']} {row['difference']:+.1f}"
            for row in rows
            if (row["difference"] > 0) == (what == "gains") and row["difference"]
        ]
        print(f"{what:7s} {', '.join(named) or 'none'}")
