"""Hold what a network answers for a video, or for a window of it."""

from dataclasses import dataclass

import numpy as np

from videores.errors import UserError
from videores.evaluation import fusion


@dataclass(frozen=True)
class Prediction:
    """Scores of a stretch of a video.

    `logits_KN` are those of its views, bit for bit the test loop's on the same frames, in batches of the same size.
    """

    start: float  # seconds
    end: float
    logits_KN: np.ndarray
    fusion: str  # of the views: test.fusion
    classes: tuple[str, ...]
    spans: tuple[tuple[float, float], ...] = ()  # seconds of each clip
    latency: float = 0.0  # seconds from its last frame's arrival to its score
    is_short: bool = False  # the video is shorter than a clip, which repeats frames

    def __post_init__(self) -> None:
        if not np.isfinite(self.logits_KN).all():
            raise UserError(
                "the network's scores must be finite and are not: its weights diverged in training (lower train.lr), "
                "or trainer.score_precision overflows (use fp32)"
            )

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
