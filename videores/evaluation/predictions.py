"""Read and check saved predictions, and bring several of the same videos into one order.

V videos, K views of each (clips x crops), N classes. A row of NaN is a video that did not decode. Where all clips of a
video are scored, shorter videos lack the last ones: these views are NaN too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from typing_extensions import NotRequired, TypedDict

from videores.data.lists import preview
from videores.errors import UserError
from videores.evaluation.floors import ComparedFloors
from videores.runtime.files import read_json

FILE_NAME = "predictions.npz"
ARRAY_SHAPES = dict(video="V", label="V", group="V", classes="N", clip="K", crop="K", logits="VKN")
ARRAY_KINDS = dict(video="U", group="U", classes="U", clip="iu", crop="iu", logits="f")  # of NumPy's dtypes
PROTOCOL_PATTERN = re.compile(r"(?P<frames>\S+) (?P<clips>[^\sx]+)x(?P<crops>\S+) (?P<fusion>\S+) (?P<data>.+)")


class _Mistake(TypedDict):
    video: str
    label: str
    predicted: str
    confidence: float


class _Videos(TypedDict):
    expected: int
    scored: int
    unreadable: list[str]
    found: NotRequired[int]


class _Checkpoint(TypedDict):
    file: str


class _List(TypedDict):
    source: str
    hash: str


class _Gap(TypedDict):
    protocol: str
    video_top1: float
    train_video_top1: float
    val_video_top1: float
    train_videos: int
    val_videos: int


class Metrics(TypedDict, total=False):
    """The content of metrics.json; older ones have fewer keys."""

    protocol: str
    precision: str
    clip_top1: float | None  # of an ensemble None
    clip_top5: float | None
    video_top1: float
    video_top5: float | None
    mean_class_top1: float
    auc: float | None
    ci95_auc: tuple[float, float] | None
    macro_f1: float
    nll: float | None
    ece: float | None
    ci95_video_top1: tuple[float, float]
    ci95_over: str
    per_class_top1: dict[str, float | None]
    confusion: list[list[int]]
    worst: list[_Mistake]
    videos: _Videos
    checkpoint: _Checkpoint
    list: _List
    gap: _Gap | None
    floors: ComparedFloors | None
    own_metrics: dict[str, float | None]


@dataclass(frozen=True)
class Predictions:
    """The arrays of predictions.npz, its protocol, and metrics.json ({} without one)."""

    path: Path
    video: np.ndarray
    label: np.ndarray
    group: np.ndarray
    classes: np.ndarray
    clip: np.ndarray
    crop: np.ndarray
    logits: np.ndarray
    metrics: Metrics
    protocol: str

    @property
    def words(self) -> dict[str, str]:
        """{frames, clips, crops, fusion, data} of the protocol string."""
        words = PROTOCOL_PATTERN.fullmatch(self.protocol)
        return words.groupdict() if words else {}

    @property
    def views_V(self) -> np.ndarray | None:
        """Return the views of each video, None where all have K.

        A video that did not decode has those of one clip.
        """
        there_V = (~np.isnan(self.logits).any(2)).sum(1)
        if self.words["clips"] != "all":
            return None
        return np.where(there_V > 0, there_V, len(np.unique(self.crop)))

    @property
    def run(self) -> Path:
        """Return the run folder of <run>/test/<slug>/predictions.npz, else its folder."""
        inside = self.path.parent.parent.name in ("test", "val")
        return self.path.parent.parent.parent if inside else self.path.parent


# Reading


def read_predictions(source: Path | str) -> Predictions:
    """Read the predictions of a run folder, a test folder, or a predictions.npz.

    Raises:
        UserError: if there are none, several, or their arrays do not belong together.
    """
    path = _find_predictions(Path(source))
    arrays = _load_arrays(path)
    _check_arrays(path, arrays)
    metrics = read_metrics(path.parent)
    return Predictions(path, metrics=metrics, protocol=_read_protocol(metrics, arrays), **arrays)


def _find_predictions(source):
    if source.is_file() or (source / FILE_NAME).is_file():
        return source if source.is_file() else source / FILE_NAME
    tests = sorted(source.glob(f"test/*/{FILE_NAME}"))
    tests = [path for path in tests if "+" not in path.parent.name] or tests  # of the run's own checkpoint and list
    if len(tests) > 1:
        folders = "\n  ".join(str(path.parent) for path in tests)
        raise UserError(f"{source} must have one protocol, got several protocols: give one of\n  {folders}")
    if not tests:
        what = "has no test/*/predictions.npz" if source.is_dir() else "is not there"
        raise UserError(f"{source} {what}: give a run folder that was tested, one of its test folders, or {FILE_NAME}")
    return tests[0]


def _load_arrays(path):
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ARRAY_SHAPES if name in file}
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        raise UserError(f"{path} is not a file of predictions: {error}") from None
    missing = sorted(ARRAY_SHAPES.keys() - arrays.keys())
    if missing:
        raise UserError(f"{path} is not a file of predictions: it has no {', '.join(missing)}")
    return arrays


def read_metrics(folder: Path) -> Metrics:
    """Read metrics.json of a test folder; {} where there is none. Raises UserError."""
    path = folder / "metrics.json"
    return read_json(path, Metrics, "tools/evaluate.py writes it again") if path.is_file() else {}


def _read_protocol(metrics, arrays):
    """Return the protocol string, without metrics.json with `?` for what is unknown."""
    protocol = str(metrics.get("protocol"))
    partly = (np.isnan(arrays["logits"]).any(2).sum(1) % len(arrays["clip"])).any()
    clips = "all" if partly else len(set(arrays["clip"].tolist()))
    return protocol if PROTOCOL_PATTERN.fullmatch(protocol) else f"? {clips}x{len(set(arrays['crop'].tolist()))} ? ?"


def _check_arrays(path, arrays):
    """Check shapes, labels, and that videos are named once; a test writes no others."""
    logits, label, classes = arrays["logits"], arrays["label"], len(np.atleast_1d(arrays["classes"]))
    sizes = dict(zip("VKN", logits.shape, strict=False))
    fits = [arrays[name].shape == tuple(sizes.get(axis) for axis in axes) for name, axes in ARRAY_SHAPES.items()]
    fits += [arrays[name].dtype.kind in kinds for name, kinds in ARRAY_KINDS.items()]
    if not all(fits) or not logits.size:
        found = ", ".join(f"{name} {arrays[name].dtype} {arrays[name].shape}" for name in ARRAY_SHAPES)
        raise UserError(
            f"{path}: arrays must be of V videos, K views, N classes: text, numbers of clip and crop, and float logits "
            f"(V, K, N), got {found}"
        )
    wrong = label[(label < 0) | (label >= classes)] if label.dtype.kind in "iu" else label
    if len(wrong):
        raise UserError(f"{path}: `label` must be an integer from 0 to {classes - 1}, got {wrong[0]}")
    names, counts = np.unique(arrays["video"], return_counts=True)
    if counts.max() > 1:
        raise UserError(f"{path}: `video` must be unique, {names[counts.argmax()]} is there {counts.max()} times")


# Several of the same videos


def align_videos(first: Predictions, other: Predictions) -> Predictions:
    """Return `other` with its videos in the order of `first`.

    Raises:
        UserError: if videos, labels or classes differ.
    """
    pair = f"{first.path} and {other.path}"
    check_same_classes(pair, first.classes.tolist(), other.classes.tolist())
    _check_same_videos(pair, first.video.tolist(), other.video.tolist())
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


def check_same_classes(pair: str, ours: Sequence[str], theirs: Sequence[str]) -> None:
    """Check that two runs, which `pair` names, have equal classes in equal order."""
    if ours == theirs:
        return
    pairs = [f"{i}: {a} / {b}" for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    pairs = pairs[:10] or [f"the same up to number {min(len(ours), len(theirs)) - 1}"]
    raise UserError(f"{pair} have different classes ({len(ours)} / {len(theirs)}):\n  " + "\n  ".join(pairs))


def _check_same_videos(pair, ours, theirs):
    only = {"first": sorted(set(ours) - set(theirs)), "second": sorted(set(theirs) - set(ours))}
    if any(only.values()):
        lines = [f"only in the {which} ({len(names)}): {preview(names, 5)}" for which, names in only.items() if names]
        raise UserError(f"{pair} are scores of different videos:\n  " + "\n  ".join(lines))
