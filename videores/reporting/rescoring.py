"""`tools/evaluate.py --scores`: reads saved predictions, and writes and prints what they say.

The three tasks take run folders, test folders or files, and return the exit code: 1 where videos did not decode.
"""

import csv
from operator import itemgetter
from pathlib import Path

import numpy as np

from videores.errors import UserError
from videores.evaluation import offline, view_subset
from videores.evaluation import predictions as scores
from videores.evaluation import protocol as protocol_module
from videores.reporting import plots, results
from videores.runtime.files import write_atomically

COMPARED_FOLDER = Path("results", "scores")  # where results of several runs are written


def rescore_runs(source, *, clips=None, crops=None, fusion=None, sweep=False, out=None):
    """Scores one run's predictions, with fewer views or another fusion, or sweeps the number of clips."""
    whole = scores.read_predictions(source)
    p, fusion = view_subset.select_views(whole, clips, crops), offline.select_fusion([whole], fusion)
    found = {**offline.rescore(p, fusion), "predictions": str(whole.path)}
    folder = Path(out or whole.path.parent / "offline" / protocol_module.slugify(found["protocol"]))
    write_metrics(folder, found, whole.classes)
    print_metrics(found)
    if sweep:
        write_sweep(folder, offline.sweep_views(p, fusion), found["protocol"])
    print(f"wrote   {folder}")
    return 1 if found["videos"]["unreadable"] else 0


def write_sweep(folder, rows, protocol):
    write_rows(folder / "sweep.csv", rows)
    plots.plot_sweep(folder / "sweep.png", rows, protocol)
    print("clips x crops   clip    video   95 % interval")
    for row in rows:
        count = f"{row['clips']}x{row['crops']}" + ("" if row["a_protocol"] else " *")
        print(f"{count:14s} {row['clip_top1']:6.2f}  {row['video_top1']:6.2f}   {row['low']:.2f} to {row['high']:.2f}")
    if not all(row["a_protocol"] for row in rows):
        print("* evenly chosen from the clips there are; testing with so few would show others")


def fuse_runs(sources, *, clips=None, crops=None, fusion=None, weights=None, out=None):
    """An ensemble of several runs. `weights`: one a run, ["val"] to choose them on validation, None for equal ones."""
    choose = lambda p: view_subset.select_views(p, clips, crops)
    whole = read_all_predictions(sources)
    runs, fusion = [choose(p) for p in whole], offline.select_fusion(whole, fusion)
    weights, chosen_on = parse_weights(whole, weights, fusion, choose)
    found, logits_VKN = offline.fuse_runs(runs, weights, fusion)
    alone = [offline.rescore(p, fusion) for p in runs]
    found["weights_from"] = chosen_on
    found["runs"] = [
        {"predictions": str(p.path), "weight": weight, "protocol": one["protocol"], "video_top1": one["video_top1"]}
        for p, weight, one in zip(runs, weights, alone, strict=True)
    ]
    folder = Path(out or COMPARED_FOLDER / "+".join(name_runs(runs)))
    write_metrics(folder, found, runs[0].classes)
    write_predictions(folder / scores.FILE_NAME, runs[0], logits_VKN)
    for p, weight, one in zip(runs, weights, alone, strict=True):
        print(f"alone   {one['video_top1']:6.2f} video top-1, weight {weight:.3f}: {p.path.parent} {one['protocol']}")
    print(f"weights {chosen_on}")
    print_metrics(found)
    print(f"wrote   {folder}")
    return 1 if found["videos"]["unreadable"] else 0


def compare_runs(sources, *, clips=None, crops=None, fusion=None, out=None):
    """Two runs on the same videos: McNemar's test, the difference's interval, and the classes that gain and lose."""
    if len(sources) != 2:
        raise UserError(f"--compare takes two runs, {len(sources)} were given")
    runs = [view_subset.select_views(p, clips, crops) for p in read_all_predictions(sources)]
    found, per_class = offline.compare_runs(*runs, offline.select_fusion(runs, fusion))
    folder = Path(out or COMPARED_FOLDER / "-against-".join(name_runs(runs)))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", {**found, "classes": per_class})
    write_rows(folder / "classes.csv", per_class)
    plots.plot_differences(folder / "classes.png", per_class, "{} minus {}".format(*reversed(name_runs(runs))))
    print_difference(found, per_class)
    print(f"wrote   {folder}")
    return 1 if found["unreadable"] else 0


# Reading


def read_all_predictions(sources):
    """Predictions of several runs, with the videos in the order of the first."""
    return align_all([scores.read_predictions(source) for source in sources])


def align_all(predictions):
    first, *others = predictions
    return [first, *(scores.align_videos(first, other) for other in others)]


def name_runs(runs):
    return [p.run.resolve().name for p in runs]


def parse_weights(runs, weights, fusion, choose):
    """weights_R with sum 1, and where they come from. They are never chosen on the scores that they are tested on."""
    if weights is None:
        return [1 / len(runs)] * len(runs), "equal"
    if weights == ["val"]:
        held_out = align_all([choose(find_validation_scores(p)) for p in runs])
        return offline.fit_ensemble_weights(held_out, fusion), f"chosen on {len(held_out[0].video)} validation videos"
    try:
        given = np.array([float(weight) for weight in weights])
    except ValueError:
        raise UserError(f"--weights {' '.join(weights)}: give a number for each run, or val") from None
    if len(given) != len(runs) or not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
        raise UserError(f"--weights {' '.join(weights)}: give {len(runs)} numbers, none negative and not all 0, or val")
    return (given / given.sum()).tolist(), "given"


def find_validation_scores(p):
    """A run's validation predictions with the views of its test predictions. Raises UserError where there are none."""
    views = itemgetter("frames", "clips", "crops")
    there = [scores.read_predictions(path) for path in sorted(p.run.glob(f"val/*/{scores.FILE_NAME}"))]
    alike = [found for found in there if views(found.words) == views(p.words)]
    if not alike:
        keys = f"val.clips={p.words['clips']} val.crops={p.words['crops']}"
        raise UserError(
            f"{p.run} has no validation predictions with the views of {p.protocol}: write them with\n"
            f"  python tools/evaluate.py --run {p.run} --part val {keys}"
        )
    shared = sorted(set(alike[0].video.tolist()) & set(p.video.tolist()))
    if shared:
        raise UserError(
            f"{alike[0].path} has test videos, on which no weights may be chosen: {scores.preview_names(shared)}"
        )
    return alike[0]


# Writing


def write_metrics(folder, found, classes):
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", found)
    plots.plot_confusion(folder / "confusion.png", np.array(found["confusion"]), classes.tolist(), found["protocol"])


def write_json(path, values):
    with write_atomically(path) as temporary:
        temporary.write_text(results.format_json(values))


def write_rows(path, rows):
    with write_atomically(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_predictions(path, first, logits_VKN):
    """Scores of an ensemble as one view of each video, so that it can be compared and fused like a run."""
    same = {name: getattr(first, name) for name in ("video", "label", "group", "classes")}
    with write_atomically(path) as temporary:
        np.savez_compressed(temporary, clip=np.array([0]), crop=np.array([0]), logits=logits_VKN, **same)


# Printing


def print_metrics(found):
    videos = found["videos"]
    bad = f", {len(videos['unreadable'])} unreadable count as wrong" if videos["unreadable"] else ""
    print(f"scored  {found['protocol']}: {videos['scored']} of {videos['expected']} videos{bad}")
    results.print_accuracies(found)


def print_difference(found, per_class):
    (first, second), (low, high), right = found["runs"], found["ci95_difference"], found["right"]
    for which, one in (("first", first), ("second", second)):
        print(f"{which:7s} {one['video_top1']:6.2f} video top-1: {one['run']} {one['protocol']}")
    over = " over groups" if found["ci95_over"] == "groups" else ""
    print(f"differ  second - first = {found['difference']:+.2f} points (95 % interval{over} {low:+.2f} to {high:+.2f})")
    alone = f"{right['first']} videos only the first gets right, {right['second']} only the second"
    print(f"McNemar p = {found['mcnemar_p']:.2g}: {alone}, {right['both']} both, of {found['videos']}")
    for what, rows in (("gains", per_class[:5]), ("losses", per_class[:-6:-1])):
        named = [
            f"{row['class']} {row['difference']:+.1f}"
            for row in rows
            if (row["difference"] > 0) == (what == "gains") and row["difference"]
        ]
        print(f"{what:7s} {', '.join(named) or 'none'}")
