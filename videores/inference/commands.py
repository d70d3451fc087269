"""Predict the inputs of a command line, print what comes, and write the files that are asked for."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from videores.data.video.sequential import OpenVideo, SpooledPipe, open_video
from videores.errors import UnreadableVideo, escape_controls
from videores.inference.inputs import Input, list_inputs, open_input
from videores.inference.outputs import Record, make_record, open_records, write_labeled_video
from videores.inference.prediction import Prediction
from videores.inference.predictor import Predictor
from videores.inference.segments import Curve, Segment, Segmenter
from videores.runtime.machine import count_cpus
from videores.runtime.signals import Interruptible

MIN_VIDEOS_FOR_WORKERS = 16  # starting worker processes takes as long as reading so many small videos


@dataclass(frozen=True)
class Options:
    """What to predict of each input, and where to write it."""

    top: int = 5
    every: float | None = None  # seconds; windows instead of whole videos
    timeline: bool = False
    threshold: float = 0.5  # of the probability, below which a window shows nothing
    json: Path | None = None
    csv: Path | None = None
    video: bool = False
    out: Path = Path("results", "predict")
    network: bool = False
    plot: Callable[[Path, Curve, Sequence[Segment], Sequence[str], str], None] | None = None  # of a timeline

    @property
    def has_windows(self) -> bool:
        """Return whether windows are predicted, not whole videos."""
        return self.timeline or self.every is not None


@dataclass
class _Job:
    """One command while it runs."""

    predictor: Predictor
    options: Options
    write: Callable[[Record], None]
    bad: int = 0
    written: set[Path] = field(default_factory=set)

    def fail(self, name: str, error: UnreadableVideo) -> None:
        """Name a bad input; the others go on."""
        self.bad += 1
        self.write({"input": name, "kind": "error", "error": error.reason})
        print(f"error: {escape_controls(f'{name}: {error.reason}')}", file=sys.stderr, flush=True)

    def name_output(self, name: str, suffix: str) -> Path:
        """Return the path of an output file of an input; inputs of one name get numbers."""
        stem = "pipe" if name == "-" else Path(name.rstrip("/").rpartition("/")[2]).stem or "stream"
        paths = (self.options.out / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}" for number in count(1))
        path = next(path for path in paths if path not in self.written)
        self.written.add(path)
        return path


def predict_inputs(predictor: Predictor, given: Sequence[str], options: Options) -> int:
    """Predict everything that is named and return the exit code.

    It is 1 where some of it is bad. Raises UserError for names of nothing.
    """
    sees_pictures = (predictor.preprocessing.clip.frames, predictor.preprocessing.views.clips) == (1, 1)
    inputs = list_inputs(given, options.network, sees_pictures)
    header: dict[str, Any] = {
        "source": predictor.network.source,
        "protocol": str(predictor.preprocessing.with_views(clips="all", starts="uniform"))
        if options.has_windows
        else str(predictor.preprocessing),
        "every": options.every,
        "classes": list(predictor.classes),
    }
    with open_records(options.json, options.csv, header) as write:
        job = _Job(predictor, options, write)
        try:
            with Interruptible():
                _predict_all(job, inputs)
        except KeyboardInterrupt:
            print("stopped; what came before is written", file=sys.stderr)
            raise
        finally:
            for path in filter(None, (options.json, options.csv)):
                print(f"wrote   {path}")
    return 1 if job.bad else 0


def _predict_all(job: _Job, inputs: Sequence[Input]) -> None:
    """Predict whole files together, as a test does, and everything else one by one, in order."""
    together = [] if job.options.has_windows else [one for one in inputs if one.is_file]
    answers = _predict_files(job, together)
    for one in tqdm(inputs, "predicting", disable=None if len(inputs) > 1 else True):
        try:
            if one.is_file and not job.options.has_windows:
                _report_video(job, one.name, one.path, next(answers))
            else:
                _predict_input(job, one)
        except UnreadableVideo as error:
            job.fail(one.name, error)


def _predict_files(job: _Job, inputs: Sequence[Input]) -> Iterator[Prediction | UnreadableVideo]:
    """Yield the answers for whole files; those of one folder share a manifest."""
    while inputs:
        root = inputs[0].path.parent
        size = next((n for n, one in enumerate(inputs) if one.path.parent != root), len(inputs))
        names = [one.path.name for one in inputs[:size]]
        workers = min(4, count_cpus()) if size >= MIN_VIDEOS_FOR_WORKERS else 0
        yield from (answer for _, answer in job.predictor.predict_videos(root, names, workers=workers, progress=True))
        inputs = inputs[size:]


def _report_video(job: _Job, name: str, path: Path, answer: Prediction | UnreadableVideo) -> None:
    if isinstance(answer, UnreadableVideo):
        raise answer
    _warn_short(name, answer)
    top = answer.top(job.options.top)
    job.write(make_record(name, "video", answer.start, answer.end, top))
    _print(name, answer, top)
    if job.options.video:
        (label, probability), *_ = top
        _write_video(job, name, path, [Segment(answer.start, answer.end, label, [probability, 1])])


def _predict_input(job: _Job, one: Input) -> None:
    """Predict a file window by window, or whatever is no file."""
    with open_input(one) as opened:
        if isinstance(opened, SpooledPipe) and not job.options.has_windows:
            path = _drain(opened, one.name)
            ((_, answer),) = job.predictor.predict_videos(path.parent, [path.name])
            _report_video(job, one.name, path, answer)
        elif isinstance(opened, OpenVideo):
            _predict_windows(job, one.name, None, opened, opened.rate, 1)
        else:
            with open_video(opened, one.name) as video:
                rate = job.predictor.find_rate(opened, video) if isinstance(opened, Path) else video.rate
                find_path = lambda: opened if isinstance(opened, Path) else _drain(opened, one.name)
                _predict_windows(job, one.name, find_path, video, rate, None)
            if isinstance(opened, SpooledPipe):
                _drain(opened, one.name)  # which tells whether it stopped early


def _drain(pipe: SpooledPipe, name: str) -> Path:
    """Return a file with all bytes of a pipe."""
    try:
        return pipe.drain()
    except OSError as error:
        raise UnreadableVideo(name, error.strerror or str(error)) from None


def _predict_windows(
    job: _Job,
    name: str,
    find_path: Callable[[], Path] | None,
    video: OpenVideo,
    rate: float | None,
    batch: int | None,
) -> None:
    """Predict a video window by window; `find_path` is None where it can be read only once."""
    options, segmenter, curve = job.options, Segmenter(job.options.threshold), Curve()
    if options.video and find_path is None:
        raise UnreadableVideo(name, "--video needs a file, and this can be read only once: record it first")
    segments: list[Segment] = []
    meter = _Meter(video, name)
    error = None
    try:
        for window in job.predictor.score_open_video(meter.opened, rate, options.every, batch):
            _warn_short(name, window)
            meter.latencies.append(window.latency)
            top = window.top(options.top)
            latency = {"latency": round(window.latency, 4)} if find_path is None else {}
            job.write({**make_record(name, "window", window.start, window.end, top), **latency})
            if find_path is None or not options.timeline:
                _print(name, window, top, meter if find_path is None else None)
            segments += segmenter.add(window)
            curve.add(window)
    except UnreadableVideo as stop:
        error = stop
    segments += segmenter.finish()
    if options.timeline and segments:
        _report_timeline(job, name, curve, segments)
    print(meter.format_summary(is_live=find_path is None), file=sys.stderr)
    if error:
        raise error
    if options.video and find_path is not None:
        _write_video(job, name, find_path(), segments)


def _report_timeline(job: _Job, name: str, curve: Curve, segments: Sequence[Segment]) -> None:
    for s in segments:
        job.write(make_record(name, "segment", s.start, s.end, [(s.label, s.confidence)]))
        print(f"{escape_controls(name)}  {s.start:.2f}-{s.end:.2f} s  {s.label or 'nothing'} {s.confidence:.2f}")
    if job.options.plot is not None:
        path = job.name_output(name, "_timeline.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        job.options.plot(path, curve, segments, job.predictor.classes, name)
        print(f"wrote   {path}")


def _write_video(job: _Job, name: str, source: Path, segments: Sequence[Segment]) -> None:
    path = job.name_output(name, "_labeled.mp4")
    print(f"wrote   {path}: {write_labeled_video(path, source, segments)} frames")


def _warn_short(name: str, answer: Prediction) -> None:
    if answer.is_short:
        print(f"warning: {escape_controls(name)}: it is shorter than a clip, which repeats its frames", file=sys.stderr)


def _print(name: str, answer: Prediction, top: Sequence[tuple[str, float]], meter: "_Meter | None" = None) -> None:
    answers = "  ".join(f"{label} {probability:.3f}" for label, probability in top)
    speed = f"  [latency {1000 * answer.latency:.0f} ms, {meter.rate:.1f} frames/s]" if meter else ""
    line = f"{name}  {answer.start:.2f}-{answer.end:.2f} s  {answers}{speed}"
    tqdm.write(escape_controls(line))


class _Meter:
    """Count the frames of an open video, with a bar and the time that is left."""

    def __init__(self, video: OpenVideo, name: str):
        self.began, self.count, self.seconds = time.monotonic(), 0, 0.0
        self.latencies: deque[float] = deque(maxlen=1000)
        total = video.duration and round(video.duration, 1)
        self.bar = tqdm(total=total, desc=escape_controls(name), unit="s", disable=None, leave=False)
        self.opened = video._replace(frames=self.watch(video.frames))

    def watch(self, frames: Iterator[Any]) -> Iterator[Any]:
        """Yield the frames."""
        with self.bar:
            for seconds, frame in frames:
                self.bar.update(seconds - self.seconds)
                self.count, self.seconds = self.count + 1, seconds
                yield seconds, frame

    @property
    def rate(self) -> float:
        """Return the frames per second since the start."""
        return self.count / (time.monotonic() - self.began)

    def format_summary(self, is_live: bool) -> str:
        """Format how fast it was, of a live stream with the time from a window's last frame to its answer."""
        latency = f", latency {1000 * median(self.latencies):.0f} ms (median)" if is_live and self.latencies else ""
        return f"{self.count} frames, {self.seconds:.2f} s of video, {self.rate:.1f} frames/s{latency}"
