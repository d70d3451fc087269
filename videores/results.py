"""The result of a test, as files of the run folder and as the last lines on the screen."""

import json
import re

import numpy as np

from videores import evaluation, reports


def write_test(folder, cfg, videos, logits_VKN, scored, tested):
    """metrics.json, predictions.npz and confusion.png of one protocol, replacing what was there."""
    protocol = protocol_of(cfg)
    target = folder / "test" / slug(protocol)
    target.mkdir(parents=True, exist_ok=True)
    listed = videos.index.test
    logits_VKN = with_missing(logits_VKN, scored, listed)
    label_V = np.array([v.label for v in listed])
    there = videos.index.counts["test"]["found"]
    counts = {"expected": len(listed), "scored": len(scored), "unreadable": sorted(videos.unreadable["test"])}
    if there < len(listed):
        counts["found"] = there  # the files that are there at all, as of Kinetics nobody has all
    found = {
        "protocol": protocol,
        **evaluation.metrics(logits_VKN, label_V, cfg.test.fusion),
        "videos": counts,
        "checkpoint": tested,
    }
    (target / "metrics.json").write_text(json.dumps(found, indent=1) + "\n")
    clip, crop = np.divmod(np.arange(logits_VKN.shape[1]), cfg.test.crops)
    names = dict(video=[v.path for v in listed], group=[v.group or "" for v in listed], classes=videos.index.classes)
    np.savez_compressed(target / "predictions.npz", label=label_V, clip=clip, crop=crop, logits=logits_VKN, **names)
    confusion = evaluation.confusion(evaluation.fuse(logits_VKN, cfg.test.fusion), label_V)
    reports.draw_confusion(target / "confusion.png", confusion, videos.index.classes, protocol)
    print_result(found, target)


def with_missing(logits_VKN, scored, listed):
    """Rows of NaN for the listed videos that could not be scored."""
    rows = {video.path: row for video, row in zip(scored, logits_VKN, strict=True)}
    nothing = np.full(logits_VKN.shape[1:], np.nan, dtype=np.float32)
    return np.stack([rows.get(video.path, nothing) for video in listed])


def protocol_of(cfg):
    """`<frames>x<stride>@<crop>/<short side> <clips>x<crops> <fusion> <data set>-<split>`"""
    clip, t, test = cfg.data.clip, cfg.data.transform, cfg.test
    rate = clip.stride if clip.fps is None else f"{clip.fps:g}fps"
    rate = "segments" if clip.sampling == "segments" else rate
    split = {"ucf101": cfg.data.split, "hmdb51": cfg.data.split, "kinetics": "val", "ssv2": "val"}
    views = f"{clip.frames}x{rate}@{t.crop}/{t.short_side} {test.clips}x{test.crops} {test.fusion}"
    return f"{views} {cfg.data.name}-{split.get(cfg.data.format, 'test')}"


def slug(protocol):
    return re.sub(r"[^A-Za-z0-9.@-]+", "_", protocol)


def print_result(found, target):
    low, high = found["ci95_video_top1"]
    videos = found["videos"]
    missing = videos["expected"] - videos.get("found", videos["expected"])
    bad = f", {len(videos['unreadable'])} unreadable count as wrong" if videos["unreadable"] else ""
    bad += f" ({missing} of them are not there)" if missing else ""
    print(f"wrote   {target}")
    print(f"weights {found['checkpoint']['file']}, after epoch {found['checkpoint']['epoch'] + 1}")
    print(f"tested  {found['protocol']}: {videos['scored']} of {videos['expected']} videos{bad}")
    print(f"clip    top-1 {found['clip_top1']:.2f}{top5(found['clip_top5'])}")
    interval = f"95 % interval {low:.2f} to {high:.2f}"
    mean_class = f"mean class {found['mean_class_top1']:.2f}"
    print(f"video   top-1 {found['video_top1']:.2f} ({interval}){top5(found['video_top5'])}  {mean_class}")


def top5(accuracy):
    return "" if accuracy is None else f"  top-5 {accuracy:.2f}"
