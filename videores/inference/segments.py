"""Join windows that have one answer to segments of a video, and keep their scores for a plot.

A window speaks for the time around its middle, up to half way to the next one. Its answer is the most probable class,
or nothing where that has less than the threshold. Probabilities are not calibrated: a network that knows no "nothing"
gives them to the classes that it has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from videores.inference.prediction import Prediction

MAX_POINTS = 2000  # of a curve: neighbors are averaged beyond twice as many


@dataclass
class Segment:
    """A stretch of a video with one answer."""

    start: float  # seconds
    end: float
    label: str | None  # None: nothing, no class reaches the threshold
    probabilities: list[float]  # sum and number of those of its windows, of the highest class where it has none

    @property
    def confidence(self) -> float:
        """Return the mean probability of its class over its windows."""
        return self.probabilities[0] / self.probabilities[1]


class Segmenter:
    """Join windows to segments as they come."""

    def __init__(self, threshold: float):
        self.threshold = threshold
        self.open: Segment | None = None
        self.middle = 0.0  # of the last window

    def add(self, window: Prediction) -> Iterator[Segment]:
        """Take the next window, and yield the segment that it ends."""
        ((label, probability),) = window.top(1)
        name, middle = label if probability >= self.threshold else None, (window.start + window.end) / 2
        if self.open is not None and name == self.open.label:
            self.open.probabilities = [self.open.probabilities[0] + probability, self.open.probabilities[1] + 1]
        else:
            if self.open is not None:
                self.open.end = (self.middle + middle) / 2
                yield self.open
            start = window.start if self.open is None else self.open.end
            self.open = Segment(start, window.end, name, [probability, 1])
        self.open.end, self.middle = window.end, middle

    def finish(self) -> Iterator[Segment]:
        """Yield the last segment, which ends with the last window."""
        if self.open is not None:
            yield self.open


@dataclass
class Curve:
    """Scores over time, of a bounded number of points."""

    times: list[float] = field(default_factory=list)  # middles of windows, seconds
    scores: list[np.ndarray] = field(default_factory=list)  # scores_N of each
    step: int = 1  # windows that make a point
    waiting: list[tuple[float, np.ndarray]] = field(default_factory=list)

    def add(self, window: Prediction) -> None:
        """Take the next window."""
        self.waiting.append(((window.start + window.end) / 2, window.scores_N))
        if len(self.waiting) == self.step:
            times, scores = zip(*self.waiting, strict=True)
            self.times.append(float(np.mean(times)))
            self.scores.append(np.mean(scores, 0))
            self.waiting = []
        if len(self.times) == 2 * MAX_POINTS:
            pairs = range(0, 2 * MAX_POINTS, 2)
            self.times = [(self.times[i] + self.times[i + 1]) / 2 for i in pairs]
            self.scores = [(self.scores[i] + self.scores[i + 1]) / 2 for i in pairs]
            self.step *= 2
