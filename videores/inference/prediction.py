"""Hold what a network answers for a video, or for a window of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from videores.errors import UserError
from videores.evaluation import fusion


class Times(NamedTuple):
    """When something is shown, in seconds from the first frame of its video."""

    start: float
    end: float  # when the next frame is shown
    spans: tuple[tuple[float, float], ...]  # of each clip


@dataclass(frozen=True)
class Prediction:
    """Scores of a stretch of a video.

    `logits_KN` are those of its views, bit for bit the test loop's on the same frames, in batches of the same size.
    """

    logits_KN: np.ndarray
    fusion: str  # of the views: test.fusion
    classes: tuple[str, ...]
    find_times: Callable[[], Times]  # of a file, from its time stamps, which takes as long as opening it
    latency: float = 0.0  # seconds from its last frame's arrival to its score
    is_short: bool = False  # the video is shorter than a clip, which repeats frames

    def __post_init__(self) -> None:
        if not np.isfinite(self.logits_KN).all():
            raise UserError(
                "the network's scores must be finite and are not: its weights diverged in training (lower train.lr), "
                "or trainer.score_precision overflows (use fp32)"
            )

    @cached_property
    def times(self) -> Times:
        """Return its start and end, and those of its clips."""
        return self.find_times()

    @property
    def start(self) -> float:
        """Return the second at which it begins."""
        return self.times.start

    @property
    def end(self) -> float:
        """Return the second at which it ends."""
        return self.times.end

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """Return the seconds at which each clip begins and ends."""
        return self.times.spans

    @property
    def scores_N(self) -> np.ndarray:
        """Return the probability of each class, fused over views."""
        return fusion.to_probabilities(fusion.fuse_views(self.logits_KN[None], self.fusion), self.fusion)[0]

    @property
    def label(self) -> str:
        """Return the most probable class."""
        return self.top(1)[0][0]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, the first of the list where they are equal."""
        scores_N = self.scores_N
        return [(self.classes[n], float(scores_N[n])) for n in np.argsort(-scores_N, kind="stable")[:count]]
