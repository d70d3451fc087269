"""Fair times: one thread, all contenders in turn in every round, the median over the rounds.

What counts is processor time: with one thread on an idle core it is the elapsed time, and it still says what a loader
costs where other processes run. Both are recorded.
"""

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch

from benchmarks.peers import thumbnail

OURS, PREPARED, SHARDS = "videores", "videores, prepared copy", "videores, from shards"
FRAMES, FLOOR = "videores, frames without transforms", "decoding only"
ALL_FRAMES, SCAN = "videores, no frame dropped", "one decode with checksums"


@dataclass
class Contender:
    """`read(k)` makes unit k: a training clip, or the test views of a video. The results are filled in."""

    name: str
    read: Callable[[int], object] | None = None
    peer: bool = False  # others' code, of which a failure is a result
    failed: str | None = None  # why it can't read these videos
    wrong: int | None = None  # frames nearer to another frame than to the asked one, among `checked`
    checked: int = 0
    cpu_ms: list[float] = field(default_factory=list)  # processor time a unit, of all threads, one value a round
    elapsed_ms: list[float] = field(default_factory=list)  # the same by the clock

    @property
    def ms(self):
        return median(self.cpu_ms) if self.cpu_ms else None

    def check(self, shown_THWC, asked_T, truth_THWC):
        """Counts wrong frames; `truth_THWC` are thumbnails of all frames of the video.

        Peers ask by time, and some files' clocks start a frame late, so a clip may be a frame early or late as a whole.
        """
        shifts = (0, -1, 1) if self.peer else (0,)
        wrong = min(count_wrong(shown_THWC, np.add(asked_T, shift), truth_THWC) for shift in shifts)
        self.wrong = (self.wrong or 0) + wrong
        self.checked += len(asked_T)

    @contextmanager
    def may_fail(self):
        try:
            yield
        except Exception as error:
            if not self.peer:
                raise
            self.failed = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")[:200]


def count_wrong(shown_THWC, asked_T, truth_THWC):
    """How many frames are nearer to another frame of the video than to the one that was asked for."""
    shown_THWC = [thumbnail(image_HWC) for image_HWC in shown_THWC]
    if shown_THWC[0].shape != truth_THWC.shape[1:]:
        return len(asked_T)
    distances = (np.abs(truth_THWC - image_HWC).mean((1, 2, 3)) for image_HWC in shown_THWC)
    there = range(len(truth_THWC))  # a frame outside of the video can't be the right one
    return sum(i not in there or bool(d.min() < d[i]) for d, i in zip(distances, asked_T, strict=True))


@contextmanager
def held(one_core):
    """This process with one torch thread and, if asked, on one core, so that no library starts more threads."""
    threads, pinning = torch.get_num_threads(), one_core and hasattr(os, "sched_setaffinity")
    cores = os.sched_getaffinity(0) if pinning else set()
    torch.set_num_threads(1)
    if pinning:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if pinning:
            os.sched_setaffinity(0, cores)


def race(contenders, units, rounds):
    """Fills in the times. Every round runs each contender once over the same units, in an order that rotates.

    A first pass, which is not measured, warms up and finds out which peers can't read the videos.
    """
    for contender in contenders:
        with contender.may_fail():
            make(contender, units if contender.failed is None else 0)
    able = [contender for contender in contenders if contender.failed is None]
    for number in range(rounds):
        shift = number % len(able)
        for contender in able[shift:] + able[:shift]:
            run(contender, units)


def make(contender, units):
    for k in range(units):
        contender.read(k)


def run(contender, units):
    clock, cpu = time.perf_counter(), time.process_time()
    make(contender, units)
    contender.cpu_ms.append(1000 * (time.process_time() - cpu) / units)
    contender.elapsed_ms.append(1000 * (time.perf_counter() - clock) / units)
