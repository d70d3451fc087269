"""The result of a test, as files of the run folder and as the last lines on the screen."""

import json
import shutil

import numpy as np

from videores.config.schema import ViewsConfig
from videores.data import views as viewing
from videores.data.lists import preview
from videores.errors import UserError
from videores.evaluation import fusion, metrics
from videores.evaluation.protocol import format_protocol, slugify
from videores.reporting import plots
from videores.runtime.files import write_atomically


def write_test(folder, cfg, videos, logits_VKN, scored, tested, gap=None, part="test"):
    """metrics.json, predictions.npz and confusion.png of one protocol in <folder>/<part>/, replacing what was there.

    `logits_VKN` are those of the videos `scored`, in that order, NaN for one that no longer decoded; `tested` says
    which weights, `gap` what training measured of them, or None.
    """
    target = folder / part / slugify(format_protocol(cfg, part))
    listed, views = getattr(videos.index, part), getattr(cfg, part)
    check_finite(logits_VKN, [v.path for v in scored], videos.unreadable[part], tested["file"])
    target.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target / "offline", ignore_errors=True)  # what was made of the old predictions
    logits_VKN = add_missing_videos(logits_VKN, scored, listed)
    label_V, group_V = np.array([v.label for v in listed]), [v.group or "" for v in listed]
    classes, counts = videos.index.classes, count_videos(videos, part)
    infos = {path: info for path, info in videos.infos.items() if path not in videos.unreadable[part]}
    views_V = [viewing.count_views(infos.get(v.path), cfg.data.clip, views) for v in listed]
    measured = metrics.compute_metrics(logits_VKN, label_V, views.fusion, group_V, views_V)
    scores_VN = fusion.fuse_views(logits_VKN, views.fusion, views_V)
    found = {
        "protocol": format_protocol(cfg, part),
        "precision": cfg.trainer.score_precision,
        **measured,
        "per_class_top1": dict(zip(classes, measured["per_class_top1"], strict=True)),
        "worst": describe_mistakes(metrics.find_worst_mistakes(scores_VN, label_V, views.fusion), listed, classes),
        "videos": counts,
        "checkpoint": tested,
        "gap": gap,
    }
    found |= compare_to_clean(folder / part, cfg, part, found)
    clip, crop = np.divmod(np.arange(logits_VKN.shape[1]), viewing.count_crops(views))
    names = dict(video=[v.path for v in listed], group=group_V, classes=classes)
    with write_atomically(target / "predictions.npz") as temporary, temporary.open("wb") as file:
        # Not compressed: of logits that saves a tenth and costs seconds.
        np.savez(file, label=label_V, clip=clip, crop=crop, logits=logits_VKN, **names)
    counts_NN = np.array(found["confusion"])
    plots.plot_confusion(
        target / "confusion.png", counts_NN, classes, found["protocol"], largest=13
    )  # 90 MB and a second less than a large one
    with write_atomically(target / "metrics.json") as temporary:
        temporary.write_text(format_json(found))
    print_result(found, target)


def check_finite(logits_VKN, paths, unreadable, weights):
    """NaN stands for what was not there to be scored, which the first view of a video that was read always is."""
    finite_V = np.isfinite(logits_VKN[:, 0]).all(-1)
    bad = [path for path, finite in zip(paths, finite_V, strict=True) if not finite and path not in unreadable]
    if bad:
        raise UserError(
            f"the scores of {len(bad)} of {len(paths)} videos are not finite: training has spoiled the weights of "
            f"{weights} (lower train.lr), or trainer.score_precision is too coarse for them\n  {preview(bad)}"
        )


def add_missing_videos(logits_VKN, scored, listed):
    """Rows of NaN for the listed videos that could not be scored."""
    if len(scored) == len(listed):
        return logits_VKN
    rows = {video.path: number for number, video in enumerate(scored)}
    all_VKN = np.full((len(listed), *logits_VKN.shape[1:]), np.nan, dtype=np.float32)
    there = np.array([video.path in rows for video in listed])
    all_VKN[there] = logits_VKN[[rows[video.path] for video in listed if video.path in rows]]
    return all_VKN


def count_videos(videos, part):
    listed, unreadable = getattr(videos.index, part), sorted(videos.unreadable[part])
    counts = {"expected": len(listed), "scored": len(listed) - len(unreadable), "unreadable": unreadable}
    there = videos.index.counts[part]["found"]
    if part == "test" and there < len(listed):
        counts["found"] = there  # the files that are there at all, as of Kinetics nobody has all
    return counts


def describe_mistakes(mistakes, listed, classes):
    return [
        {"video": listed[v].path, "label": classes[listed[v].label], "predicted": classes[chosen], "confidence": p}
        for v, chosen, p in mistakes
    ]


def format_json(found):
    """One line a key: a confusion matrix has a line a number otherwise."""
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items()) + "\n}\n"


def compare_to_clean(tests, cfg, part, found):
    """{"clean": ...} of a test with other frames than the normal ones: the normal result of the same weights and what
    is lost against it, in points; {} where there is none."""
    views, usual = getattr(cfg, part), ViewsConfig()
    if views.order == usual.order and views.corruption == usual.corruption:
        return {}
    normal = views.model_copy(update=dict(order=usual.order, corruption=usual.corruption))
    protocol = format_protocol(cfg.model_copy(update={part: normal}), part)
    path = tests / slugify(protocol) / "metrics.json"
    clean = {"precision": "fp32", **json.loads(path.read_text())} if path.exists() else None
    if clean is None or any(clean.get(key) != found[key] for key in ("checkpoint", "videos", "precision")):
        return {"clean": None}
    drop = {f"drop_{name}": clean[name] - found[name] for name in ("clip_top1", "video_top1")}
    return {"clean": {"protocol": protocol, "video_top1": clean["video_top1"], **drop}}


# The screen


def print_result(found, target):
    videos = found["videos"]
    missing = videos["expected"] - videos.get("found", videos["expected"])
    bad = f", {len(videos['unreadable'])} unreadable count as wrong" if videos["unreadable"] else ""
    bad += f" ({missing} of them are not there)" if missing else ""
    print(f"wrote   {target}")
    print(f"weights {found['checkpoint']['file']}, after epoch {found['checkpoint']['epoch'] + 1}")
    number_format = "" if found["precision"] == "fp32" else f", in {found['precision']}"
    print(f"tested  {found['protocol']}{number_format}: {videos['scored']} of {videos['expected']} videos{bad}")
    if found["gap"]:
        print(f"gap     {format_gap(found['gap'])}")
    if "clean" in found:
        print(f"probe   {format_corruption(found['clean'])}")
    print_accuracies(found)


def print_accuracies(found):
    if found["clip_top1"] is not None:  # an ensemble has none
        print(f"clip    top-1 {found['clip_top1']:.2f}{format_top5(found['clip_top5'])}")
    low, high = found["ci95_video_top1"]
    over = " over groups" if found["ci95_over"] == "groups" else ""
    interval = f"95 % interval{over} {low:.2f} to {high:.2f}"
    mean_class = f"mean class {found['mean_class_top1']:.2f}"
    print(f"video   top-1 {found['video_top1']:.2f} ({interval}){format_top5(found['video_top5'])}  {mean_class}")


def format_gap(gap):
    train, val = (f"{gap[f'{part}_video_top1']:.2f} on {gap[f'{part}_videos']} {part}" for part in ("train", "val"))
    return f"{gap['video_top1']:.2f} points of video top-1: {train}, {val} videos ({gap['protocol']})"


def format_corruption(clean):
    if clean is None:
        return "no test of these weights with the normal frames to compare with: run it without order and corruption"
    return f"video top-1 drops by {clean['drop_video_top1']:.2f} from {clean['video_top1']:.2f} with the normal frames"


def format_top5(accuracy):
    return "" if accuracy is None else f"  top-5 {accuracy:.2f}"
