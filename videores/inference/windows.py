"""Cut windows from frames that come one after the other, as `test.clips=all` cuts a whole video.

A window is a clip. By default each begins where the one before it ends; the last one is moved back to end with the
video. A shorter video makes one window, which loops or holds its last frame, as data.clip.short says.

A moment is the number of a frame. For clips with a rate of their own of a video without a constant one, it is a
millisecond, in which the newest frame by then is shown: as in `sampling.measure_timeline`.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from videores.config.schema import ClipConfig
from videores.data import sampling
from videores.errors import UserError

TOLERANCE = 1e-6  # seconds, as in `sampling.find_shown_frames`


class Window(NamedTuple):
    """The frames of a window by number, and its time."""

    index_T: np.ndarray
    start: float  # seconds at which its first frame is shown
    end: float  # and at which its last one is followed by another
    is_short: bool = False  # the video is shorter, and the window repeats frames


class Windows:
    """Tell which windows each new frame completes.

    Args:
        rate: frames per second, of a video with a constant rate; None: clips with clip.fps go by time stamps.
        every: seconds from the start of a window to that of the next; None: each follows the one before it.
    """

    def __init__(self, clip: ClipConfig, rate: float | None, every: float | None = None):
        if clip.sampling == "segments":
            raise UserError(
                "data.clip.sampling must be dense for windows, got segments: this network sees whole videos, so "
                "predict files, without --timeline, --every and addresses"
            )
        if every is not None and every <= 0:
            raise UserError(f"every must be > 0 seconds, got {every:g}: give e.g. 0.5")
        self.clip, self.rate, self.every = clip, rate, every
        self.by_stamps = clip.fps is not None and not rate
        self.step = sampling.compute_step(sampling.TICKS if self.by_stamps else rate, clip.stride, clip.fps)
        self.span = sampling.compute_span(clip.frames, self.step)  # moments from the first to the last, plus one
        self.length = sampling.count_source_frames(clip.frames, self.step)
        self.count, self.first_kept = 0, 0  # of frames; the first that a later window may show
        self.times: deque[tuple[int, float]] = deque()  # of frames from first_kept on: moment, seconds
        self.waiting: deque[int] = deque()  # the moments at which windows begin that are not complete
        self.last_begin, self.last_cut = (
            -1,
            -1,
        )  # the moments at which the last window begins, and the last complete one
        self.hop = self.length if every is None else math.inf

    def add(self, seconds: float) -> Iterator[Window]:
        """Take the time of the next frame, from the first one, and yield the windows that it completes."""
        now = math.ceil((seconds - TOLERANCE) * sampling.TICKS) if self.by_stamps else self.count
        self.times.append((now, seconds))
        self.count += 1
        known = now if self.by_stamps else self.count  # what is shown at the moments before this one is known
        self._begin(now, known, seconds)
        while self.waiting and self.waiting[0] + self.span <= known:
            yield self._cut(self.waiting.popleft(), known)
        self._forget(min([*list(self.waiting)[:1], known - self.span]))

    def end(self) -> Iterator[Window]:
        """Yield the windows that the end of the video completes."""
        if not self.count:
            return
        total = self.count
        if self.by_stamps:
            total = max(1, round((self.times[-1][1] + self._measure_frame()) * sampling.TICKS))
        last = max(total - self.span, 0)
        while self.waiting and self.waiting[0] <= last:
            yield self._cut(self.waiting.popleft(), total)
        if self.last_cut < 0 or (self.last_cut + max(self.hop, self.length) < total and self.last_cut < last):
            yield self._cut(last, total)

    def _begin(self, now, known, seconds):
        """Begin windows at the moments that became known."""
        if self.every is None:
            while (begin := 0 if self.last_begin < 0 else self.last_begin + self.length) < known:
                self._append(begin)
        elif self.last_begin < 0 or seconds >= self.next_seconds - TOLERANCE:
            self._append(now)
            # no window twice where frames are further apart
            self.next_seconds = (math.floor((seconds + TOLERANCE) / self.every) + 1) * self.every

    def _append(self, begin):
        if self.every is not None and self.last_begin >= 0:
            self.hop = begin - self.last_begin
        self.last_begin = begin
        self.waiting.append(begin)

    def _cut(self, begin, total):
        self.last_cut = begin
        moment_T = sampling.compute_clip_indices([begin], self.clip.frames, self.step, total, self.clip.short)[0]
        shown = np.array([moment for moment, _ in self.times])
        place_T = np.searchsorted(shown, moment_T, side="right") - 1
        first, last = self.times[place_T.min()][1], int(place_T.max())
        following = (
            self.times[last + 1][1] if last + 1 < len(self.times) else self.times[last][1] + self._measure_frame()
        )
        return Window(place_T + self.first_kept, first, following, total < self.span)

    def _measure_frame(self):
        """Return the seconds for which a last frame is shown: the mean of the others."""
        if self.rate and not self.by_stamps:
            return 1 / self.rate
        return self.times[-1][1] / (self.count - 1) if self.count > 1 and self.times[-1][1] else 0.0

    def _forget(self, moment):
        while len(self.times) > 1 and self.times[1][0] <= moment:
            self.times.popleft()
            self.first_kept += 1
