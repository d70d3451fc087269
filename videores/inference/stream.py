"""Score the windows of frames that come one after the other, each of which is scaled once.

A ring buffer holds the scaled frames that a later window may show. Networks that see single frames (f-R2D without
temporal shift) keep the features of each frame where windows overlap, so that a window costs its new frames. Networks
with causal shifts do so for the frames whose features do not depend on where the window begins.
"""

import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from videores.compute.scoring import score_clips
from videores.config.streams import STREAMS, list_streams
from videores.data.views import count_crops
from videores.errors import UnreadableVideo
from videores.inference.carry import carry_shifts, find_shifts
from videores.inference.prediction import Prediction, Times
from videores.inference.source import TrainedNetwork
from videores.inference.windows import Window, Windows


@torch.inference_mode()
def score_stream(
    network: TrainedNetwork, frames: Iterable[tuple[float, np.ndarray]], windows: Windows, batch_size: int = 1
) -> Iterator[Prediction]:
    """Yield the prediction of each window of (seconds, uint8 frame_HWC).

    Seconds count from any point; those of predictions count from the first frame. `batch_size` clips are scored at a
    time: 1 answers at once, more are faster.
    """
    scorer = _select_scorer(network, windows)(network, batch_size)
    ring: dict[int, np.ndarray] = {}  # number -> scaled frame
    start, oldest = None, 0
    stops: list[UnreadableVideo] = []
    for number, (seconds, frame_HWC) in enumerate(_until_stop(frames, stops)):
        arrived = time.monotonic()
        start = seconds if start is None else start
        ring[number] = network.preprocessing.scale(frame_HWC)
        for window in windows.add(seconds - start):
            yield from scorer.add(window, ring, arrived)
        for old in range(oldest, windows.first_kept):
            del ring[old]
            scorer.forget(old)
        oldest = windows.first_kept
    arrived = time.monotonic()
    for window in () if stops else windows.end():
        yield from scorer.add(window, ring, arrived)
    yield from scorer.flush()
    if stops:
        raise stops[0]


def _until_stop(frames, stops):
    """Yield frames up to an error, which is kept: the windows before it have their answers first."""
    try:
        yield from frames
    except UnreadableVideo as error:
        stops.append(error)


def _select_scorer(network, windows):
    """Return the scorer that keeps what windows share, where they share frames and features of frames are the same."""
    design = getattr(network.model, "design", None)
    if windows.every is None or design is None or design.dim == 3 or design.fold or design.stage_pool:
        return _ClipScorer
    if any(STREAMS[name].sees_next for name in list_streams(network.preprocessing.stream)):
        return _ClipScorer
    if design.shift is None:
        return _FrameScorer
    return _CausalScorer if design.causal and sum(design.layers) + 1 < windows.clip.frames else _ClipScorer


class _ClipScorer:
    """Score whole clips, a batch at a time, as the test loop batches those of one video."""

    def __init__(self, network, batch_size):
        self.network, self.preprocessing = network, network.preprocessing
        self.batch_size = batch_size * count_crops(self.preprocessing.views) if batch_size == 1 else batch_size
        self.clips: list[Tensor] = []  # views that wait for their batch
        self.windows: list[tuple[Window, float]] = []  # of these views, and of those in `logits`
        self.logits: list[np.ndarray] = []  # of views whose window is not complete

    def add(self, window, ring, arrived):
        chosen, place_T = np.unique(window.index_T, return_inverse=True)
        views = self.preprocessing.cut_views(np.stack([ring[int(number)] for number in chosen]), place_T[None])
        self.clips += views.unbind()
        self.windows.append((window, arrived))
        most = max(1, self.batch_size * self.preprocessing.transform.crop**2 // (views.shape[2] * views.shape[3]))
        while len(self.clips) >= most:
            yield from self.score(most)

    def forget(self, number):
        pass

    def flush(self):
        if self.clips:
            yield from self.score(len(self.clips))

    def score(self, count):
        clips, self.clips = self.clips[:count], self.clips[count:]
        self.logits += list(_score(self.network, torch.stack(clips)))
        crops = count_crops(self.preprocessing.views)
        while len(self.logits) >= crops:
            (window, arrived), *self.windows = self.windows
            logits_KN, self.logits = np.stack(self.logits[:crops]), self.logits[crops:]
            yield _make_prediction(self.network, window, logits_KN, arrived)


class _FrameScorer:
    """Score windows from the features of single frames, each computed once."""

    def __init__(self, network, batch_size):
        self.network, self.preprocessing = network, network.preprocessing
        self.features: dict[int, Tensor] = {}  # number of a frame -> features_KD of its crops

    def add(self, window, ring, arrived):
        new = [int(number) for number in np.unique(window.index_T) if int(number) not in self.features]
        if new:
            views = self.preprocessing.cut_views(
                np.stack([ring[number] for number in new]), np.arange(len(new))[:, None]
            )
            features_XD = _forward(self.network, views, self.network.model.features)[:, 0]
            self.features |= dict(zip(new, features_XD.unflatten(0, (len(new), -1)), strict=True))
        features_KTD = torch.stack([self.features[int(number)] for number in window.index_T], 1)
        logits_KN = self.network.model.head(features_KTD).float().cpu().numpy()
        yield _make_prediction(self.network, window, logits_KN, arrived)

    def forget(self, number):
        self.features.pop(number, None)

    def flush(self):
        yield from ()


class _CausalScorer:
    """Score windows of causal shifts from each one's first frames, and those that no window before it had.

    A network of `depth` blocks with shifts looks `depth` frames back. So the features of a window's frames from place
    `depth` on are those of any other window with the same frames before them; zeros come into the frames before that.
    """

    def __init__(self, network, batch_size):
        self.network, self.depth = network, len(find_shifts(network.model))
        self.features: dict[tuple[int, ...], Tensor] = {}  # numbers of `depth` frames and the next -> its features_KD
        self.shifted: dict[tuple[int, ...], list[Tensor]] = {}  # `depth` frames -> what their last one hands on

    def add(self, window, ring, arrived):
        index, depth = tuple(window.index_T.tolist()), self.depth
        keys = [index[place - depth : place + 1] for place in range(depth, len(index))]
        known = next((i for i, key in enumerate(keys) if key not in self.features), len(keys))
        past = self.shifted.get(index[known : known + depth]) if known else None
        start = 0 if past is None else depth + known  # of the frames to compute, after those whose features begin anew
        parts = [self.compute(index[:depth], ring)] if start else []
        parts += [torch.stack([self.features[key] for key in keys[:known]], 1)] if start else []
        parts += [self.compute(index[start:], ring, past, index[-depth:])] if start < len(index) else []
        features_KTD = torch.cat(parts, 1)
        self.features |= dict(zip(keys, features_KTD[:, depth:].unbind(1), strict=True))
        logits_KN = self.network.model.head(features_KTD).float().cpu().numpy()
        yield _make_prediction(self.network, window, logits_KN, arrived)

    def compute(self, index, ring, past=None, key=None):
        """Return features_KTD of frames after `past`, and keep under `key` what the last one hands on."""
        chosen, place_T = np.unique(index, return_inverse=True)
        views = self.network.preprocessing.cut_views(np.stack([ring[int(number)] for number in chosen]), place_T[None])
        with carry_shifts(self.network.model, past) as shifted:
            features_KTD = _forward(self.network, views, self.network.model.features)
        if key is not None:
            self.shifted[key] = shifted
        return features_KTD

    def forget(self, number):
        for known in (self.features, self.shifted):
            for key in [key for key in known if number in key]:
                del known[key]

    def flush(self):
        yield from ()


def _score(network, clips_XTHWC):
    return _forward(network, clips_XTHWC, network.model).float().cpu().numpy()


def _forward(network, clips_XTHWC, forward):
    clips_XTHWC = clips_XTHWC.to(network.device)
    return score_clips(forward, clips_XTHWC, network.preprocessing, network.number_format)


def _make_prediction(network, window, logits_KN, arrived):
    fusion, latency = network.preprocessing.views.fusion, time.monotonic() - arrived
    times = Times(window.start, window.end, ((window.start, window.end),))
    return Prediction(logits_KN, fusion, network.classes, lambda: times, latency, window.is_short)
