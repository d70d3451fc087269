"""Saved predictions: read and checked, and several of the same videos in one order.

V videos, K views of each (clips x crops), N classes. A row of NaN is a video that did not decode. Where all clips of a
video are scored, shorter videos lack the last ones: these views are NaN too.
"""

import json
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from videores.errors import UserError

FILE_NAME = "predictions.npz"
ARRAY_SHAPES = dict(video="V", label="V", group="V", classes="N", clip="K", crop="K", logits="VKN")
PROTOCOL_PATTERN = re.compile(r"(?P<frames>\S+) (?P<clips>[^\sx]+)x(?P<crops>\S+) (?P<fusion>\S+) (?P<data>.+)")


@dataclass(frozen=True)
class Predictions:
    """What predictions.npz holds, its protocol string, and the metrics.json beside it ({} where there is none)."""

    path: Path
    video: np.ndarray
    label: np.ndarray
    group: np.ndarray
    classes: np.ndarray
    clip: np.ndarray
    crop: np.ndarray
    logits: np.ndarray
    metrics: dict
    protocol: str

    @property
    def words(self):
        """{frames, clips, crops, fusion, data} of the protocol string."""
        return PROTOCOL_PATTERN.fullmatch(self.protocol).groupdict()

    @property
    def views_V(self):
        """How many views each video has where not all have K, else None; one that did not decode then has one clip."""
        there_V = (~np.isnan(self.logits).any(2)).sum(1)
        if self.words["clips"] != "all":
            return None
        return np.where(there_V > 0, there_V, len(np.unique(self.crop)))

    @property
    def run(self):
        """The run folder that it lies in, as <run>/test/<slug>/predictions.npz; else the folder of the file."""
        inside = self.path.parent.parent.name in ("test", "val")
        return self.path.parent.parent.parent if inside else self.path.parent


# Reading


def read_predictions(source):
    """Predictions of a run folder, of one of its test folders, or of a predictions.npz. Raises UserError."""
    path = find_predictions(Path(source))
    arrays = load_predictions(path)
    check_shapes(path, arrays)
    metrics = read_metrics(path.parent)
    found = Predictions(path, metrics=metrics, protocol=read_protocol(metrics, arrays), **arrays)
    check_values(found)
    check_views_complete(found)
    return found


def find_predictions(source):
    if source.is_file() or (source / FILE_NAME).is_file():
        return source if source.is_file() else source / FILE_NAME
    tests = sorted(source.glob(f"test/*/{FILE_NAME}"))
    if len(tests) > 1:
        raise UserError(
            f"{source} was tested under several protocols: give one of\n  " + "\n  ".join(find_test_folders(tests))
        )
    if not tests:
        what = "has no test/*/predictions.npz" if source.is_dir() else "is not there"
        raise UserError(f"{source} {what}: give a run folder that was tested, one of its test folders, or {FILE_NAME}")
    return tests[0]


def find_test_folders(paths):
    return [str(path.parent) for path in paths]


def load_predictions(path):
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ARRAY_SHAPES if name in file}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a file of predictions: {error}") from None
    missing = sorted(ARRAY_SHAPES.keys() - arrays.keys())
    if missing:
        raise UserError(f"{path} is not a file of predictions: it has no {', '.join(missing)}")
    return arrays


def read_metrics(folder):
    """metrics.json of a test folder; {} where there is none."""
    path = folder / "metrics.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not the metrics.json of a test")
    return found


def read_protocol(metrics, arrays):
    """The protocol string; `?` for what the arrays do not say where no metrics.json is beside them."""
    said = metrics.get("protocol", "")
    partly = (np.isnan(arrays["logits"]).any(2).sum(1) % len(arrays["clip"])).any()
    clips = "all" if partly else len(set(arrays["clip"].tolist()))
    return said if PROTOCOL_PATTERN.fullmatch(said) else f"? {clips}x{len(set(arrays['crop'].tolist()))} ? ?"


def check_shapes(path, arrays):
    if arrays["logits"].ndim == 3:
        sizes = dict(zip("VKN", arrays["logits"].shape, strict=True))
        wrong = [k for k, axes in ARRAY_SHAPES.items() if arrays[k].shape != tuple(sizes[axis] for axis in axes)]
        if not wrong and all(sizes.values()):
            return
    shapes = ", ".join(f"{name} {arrays[name].shape}" for name in ARRAY_SHAPES)
    raise UserError(f"{path}: the arrays do not fit: {shapes}; V videos, K views and N classes make logits (V, K, N)")


def check_values(p):
    names, counts = np.unique(p.video, return_counts=True)
    if counts.max() > 1:
        raise UserError(f"{p.path}: {names[counts.argmax()]} is there {counts.max()} times")
    whole = np.issubdtype(p.label.dtype, np.integer)
    bad = np.flatnonzero((p.label < 0) | (p.label >= len(p.classes))) if whole else [0]
    if len(bad):
        raise UserError(f"{p.path}: {p.video[bad[0]]} has label {p.label[bad[0]]}, which none of the classes has")
    if len(set(p.classes.tolist())) < len(p.classes):
        raise UserError(f"{p.path}: a class name is there twice")
    if np.isinf(p.logits).any():
        raise UserError(f"{p.path}: a logit is infinite")


def check_views_complete(p):
    """Views are clips x crops, each once; a video has all or none, or lacks its last where all clips are scored."""
    views, grid = sorted(zip(p.clip.tolist(), p.crop.tolist(), strict=True)), find_view_grid(p)
    if views != grid:
        lost = sorted(set(grid) - set(views))
        what = f"(clip, crop) {lost[0]} is missing" if lost else "a view is there twice"
        raise UserError(f"{p.path}: the views are not every clip in every crop: {what}")
    gone_VK = np.isnan(p.logits).any(2)
    partly = gone_VK.any(1) & ~gone_VK.all(1) & (p.words["clips"] != "all")
    returns = (np.diff(gone_VK[:, np.lexsort((p.crop, p.clip))].astype(int), axis=1) < 0).any(1)
    wrong = np.flatnonzero(returns | partly)
    if len(wrong):
        v, k = wrong[0], gone_VK[wrong[0]].argmax()
        raise UserError(f"{p.path}: {p.video[v]} has no scores of clip {p.clip[k]}, crop {p.crop[k]}")


def find_view_grid(p):
    return [(clip, crop) for clip in sorted(set(p.clip.tolist())) for crop in sorted(set(p.crop.tolist()))]


# Several of the same videos


def align_videos(first, other):
    """`other` with its videos in the order of `first`. Raises UserError where videos, labels or classes differ."""
    pair = f"{first.path} and {other.path}"
    check_same_classes(pair, first.classes.tolist(), other.classes.tolist())
    check_same_videos(pair, first.video.tolist(), other.video.tolist())
    place = {video: i for i, video in enumerate(other.video.tolist())}
    order = [place[video] for video in first.video.tolist()]
    moved = {name: getattr(other, name)[order] for name in ("video", "label", "group", "logits")}
    wrong = np.flatnonzero(moved["label"] != first.label)
    if len(wrong):
        named = [
            f"{first.video[v]}: {first.classes[first.label[v]]} / {first.classes[moved['label'][v]]}"
            for v in wrong[:10]
        ]
        raise UserError(f"{pair} give {len(wrong)} videos different labels:\n  " + "\n  ".join(named))
    return replace(other, **moved)


def check_same_classes(pair, ours, theirs):
    if ours == theirs:
        return
    pairs = [f"{i}: {a} / {b}" for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    pairs = pairs[:10] or [f"the same up to number {min(len(ours), len(theirs)) - 1}"]
    raise UserError(f"{pair} have different classes ({len(ours)} / {len(theirs)}):\n  " + "\n  ".join(pairs))


def check_same_videos(pair, ours, theirs):
    only = {"first": sorted(set(ours) - set(theirs)), "second": sorted(set(theirs) - set(ours))}
    if any(only.values()):
        lines = [
            f"only in the {which} ({len(names)}): {preview_names(names)}" for which, names in only.items() if names
        ]
        raise UserError(f"{pair} are scores of different videos:\n  " + "\n  ".join(lines))


def preview_names(names, most=5):
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
