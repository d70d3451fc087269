"""Accumulate the scores of views exactly once, over batches and ranks."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist


class ScoreAccumulator:
    """Collect the logits of views, each exactly once over all ranks.

    There is no collective before `compute`.

    Args:
        views_V: number of views of each video.
        classes: number of classes N.

    After `compute`, `failed_V` is 1 for the videos that did not decode.
    """

    def __init__(self, views_V: Sequence[int] | torch.Tensor, classes: int):
        self.views_V = torch.as_tensor(views_V, dtype=torch.long)
        self.first_V = self.views_V.cumsum(0) - self.views_V
        self.logits_XN = torch.zeros(int(self.views_V.sum()), classes)
        self.seen_X = torch.zeros(len(self.logits_XN), dtype=torch.int32)
        self.failed_V = torch.zeros(len(self.views_V), dtype=torch.int32)

    def update(self, video_X: torch.Tensor, view_X: torch.Tensor, logits_XN: torch.Tensor) -> None:
        """Store the logits of X views, given by the numbers of their videos and views."""
        video_X, view_X = torch.as_tensor(video_X).cpu(), torch.as_tensor(view_X).cpu()
        if (view_X >= self.views_V[video_X]).any():
            raise RuntimeError(f"views {view_X.tolist()} of videos {video_X.tolist()}: must be < views_V")
        rows = self.first_V[video_X] + view_X
        self.logits_XN[rows] = logits_XN.float().cpu()
        self.seen_X.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32))

    def fail(self, video: int) -> None:
        """Mark a video that did not decode: its views are seen and have the score NaN."""
        rows = slice(int(self.first_V[video]), int(self.first_V[video] + self.views_V[video]))
        self.logits_XN[rows] = torch.nan
        self.seen_X[rows] += 1
        self.failed_V[video] += 1

    def compute(self, device: torch.device | str = "cpu") -> np.ndarray:
        """Return logits_VKN, equal on all ranks, NaN beyond a video's views; call once.

        Raises:
            RuntimeError: on every rank, unless each view of each video was seen exactly once.
        """
        self.logits_XN, self.seen_X, self.failed_V = (
            _sum_over_ranks(values, device) for values in (self.logits_XN, self.seen_X, self.failed_V)
        )
        wrong = (self.seen_X != 1).nonzero().flatten()
        if len(wrong):
            video = int(torch.searchsorted(self.first_V, wrong[0], right=True)) - 1
            view, times = int(wrong[0] - self.first_V[video]), int(self.seen_X[wrong[0]])
            raise RuntimeError(
                f"{len(wrong)} of {len(self.seen_X)} views were not scored exactly once, as exact evaluation needs: "
                f"view {view} of video number {video}: {times} times"
            )
        return self._pad()

    def _pad(self) -> np.ndarray:
        views, classes = int(self.views_V.max()), self.logits_XN.shape[1]
        if (self.views_V == views).all():
            return self.logits_XN.view(-1, views, classes).numpy()
        logits_VKN = torch.full((len(self.views_V), views, classes), torch.nan)
        logits_VKN[torch.arange(views) < self.views_V[:, None]] = self.logits_XN
        return logits_VKN.numpy()


def _sum_over_ranks(values: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Sum values over all ranks, of which all but one hold zeros: the sum is exact."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    values = values.to(device)
    dist.all_reduce(values)
    return values.cpu()
