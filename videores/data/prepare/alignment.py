"""Compare two videos by thumbnails: is one a crop, mirror image, part or other speed of the other?

The hash of a thumbnail is its low spatial frequencies, as in pHash (Zauner 2010, Implementation and benchmarking of
perceptual image hash functions), here as real numbers. Over time it must change alike in both videos: the same place
and persons are not enough, and a video that runs backwards is another one.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

SIDE = 24  # pixels of a thumbnail
GRID = 16  # pixels that windows are compared by
WAVES = 8  # spatial frequencies of a hash, along each side
SPEEDS = (1.0, 2.0, 0.5)
MIN_OVERLAP, MIN_OVERLAP_AT_SPEED = 0.45, 0.8  # of the shorter video, at equal and at another speed
SPEED_PENALTY = 0.05  # of the correlation, against another speed
MIN_SAMPLES = 6  # thumbnails that both have, where they have as many
LUMA_C = np.array([0.299, 0.587, 0.114], np.float32)

MIN_ROUGH = 0.4  # correlation of the changes of low frequencies, from which on a pair is looked at closely
MIN_LIKENESS, MAX_THRESHOLD = 0.6, 0.95  # of copies: with many common thumbnails, with few or where nothing moves
MANY, RISE = 20, 0.06  # thumbnails, and what the threshold rises by for each that is missing
STILL = 1.0  # grey levels, the standard deviation over time below which nothing moves


class Window(NamedTuple):
    """A part of a picture, in shares of its sides, and whether it is mirrored."""

    left: float
    top: float
    right: float
    bottom: float
    mirrored: bool = False


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of a video at some of its seconds."""

    path: str
    images_THWC: np.ndarray
    seconds_T: np.ndarray

    @property
    def step(self) -> float:
        """Return the seconds from one picture to the next."""
        return float(np.diff(self.seconds_T).mean()) if len(self.seconds_T) > 1 else 0.04


class Match(NamedTuple):
    """How the second of two videos lies in the first."""

    window: Window  # of the first that the second shows
    speed: float  # seconds of the first in one of the second
    offset: float  # seconds of the first at which the second begins, negative where it begins earlier
    share: float  # of the longer one's time that both have
    likeness: float  # 1 for equal pictures: the product of three correlations


def _list_windows():
    """Yield the windows whose hashes are looked for; others are like one of them."""
    for size in (1, 0.9, 0.8, 0.7):
        places = (0, 0.5, 1) if size < 1 else (0,)
        for left, top in ((x * (1 - size), y * (1 - size)) for x in places for y in places):
            yield Window(left, top, left + size, top + size)
    for margin in (0.075, 0.125, 0.2):
        yield Window(margin, 0, 1 - margin, 1)
        yield Window(0, margin, 1, 1 - margin)


WHOLE, *PARTS = _list_windows()
WINDOWS = [window._replace(mirrored=mirrored) for window in (WHOLE, *PARTS) for mirrored in (False, True)]


@lru_cache(maxsize=4096)
def _make_resampler(pixels, start, end, bins):
    """Return weights_XP that average a row of pixels over equal bins from start to end (0-1)."""
    edges_X = (start + (end - start) * np.arange(bins + 1) / bins) * pixels
    first_P = np.arange(pixels)
    cover_XP = np.minimum(edges_X[1:, None], first_P + 1) - np.maximum(edges_X[:-1, None], first_P)
    cover_XP = np.maximum(cover_XP, 0)
    return (cover_XP / cover_XP.sum(1, keepdims=True)).astype(np.float32)


def cut_window(images_THWC: np.ndarray, window: Window, side: int = GRID) -> np.ndarray:
    """Return float32 images_THWC of a window, side x side pixels, by area averaging."""
    height, width = images_THWC.shape[1:3]
    rows = _make_resampler(height, window.top, window.bottom, side)
    columns = _make_resampler(width, window.left, window.right, side)[:: -1 if window.mirrored else 1]
    by_column = np.tensordot(images_THWC.astype(np.float32), columns, (2, 1))  # T, H, C, X
    return np.ascontiguousarray(np.tensordot(by_column, rows, (1, 1)).transpose(0, 3, 2, 1))


@lru_cache(maxsize=1)
def _make_waves():
    """Return the cosines_KX of the discrete cosine transform."""
    return np.cos(np.pi * np.arange(WAVES)[:, None] * (np.arange(GRID) + 0.5) / GRID).astype(np.float32)


def transform(images_THWC: np.ndarray, window: Window) -> np.ndarray:
    """Return the low frequencies_TD of a window; higher ones weigh more, as pictures have less of them."""
    rows, columns = (
        _make_waves() @ _make_resampler(SIDE, *ends, GRID)
        for ends in ((window.top, window.bottom), (window.left, window.right))
    )
    waves_TKK = rows @ (images_THWC @ LUMA_C) @ columns.T
    signs_K = (-1.0) ** np.arange(WAVES) if window.mirrored else np.ones(WAVES)
    weights_KK = np.hypot(*np.mgrid[:WAVES, :WAVES]) * signs_K
    return (waves_TKK * weights_KK).reshape(len(waves_TKK), -1)[:, 1:].astype(np.float32)


def normalize(x_TD: np.ndarray) -> np.ndarray:
    """Return rows of length 1, which are 0 of an empty picture."""
    return x_TD / np.maximum(np.linalg.norm(x_TD, axis=1, keepdims=True), 1e-6)


# -- two videos -------------------------------------------------------------------------------------------------------


def match_videos(first: Thumbnails, second: Thumbnails, window: Window) -> Match | None:
    """Return how the second video shows about this window of the first, None where it does not.

    A video that shows the other backwards is no copy, though its mirror image may look like one.
    """
    match = _align(first, second, window)
    backwards = Thumbnails(second.path, second.images_THWC[::-1], -second.seconds_T[::-1])
    turned = match and _align(first, backwards, WHOLE)
    return None if turned and turned.likeness > match.likeness else match


def _align(first, second, window):
    a_TD, b_TD = transform(first.images_THWC, window), transform(second.images_THWC, WHOLE)
    rough, speed, offset = max(_find_offset(a_TD, first, b_TD, second, speed) for speed in SPEEDS)
    if rough == -np.inf:
        return None  # they share too little time
    whole_THWC = cut_window(second.images_THWC, WHOLE)
    a_THWC, b_THWC = _overlay(first.images_THWC, first, whole_THWC, second, speed, offset)
    still = min((x - x.mean(0)).std() for x in (a_THWC, b_THWC)) < STILL
    if rough < MIN_ROUGH and not still:
        return None
    window = _fit_window(a_THWC, b_THWC, window)
    cut_THWC, tries = cut_window(first.images_THWC, window), []
    for shift in np.arange(-4, 5) / 4 * min(first.step, speed * second.step):
        pair = _overlay(cut_THWC, first, whole_THWC, second, speed, offset + shift)
        if len(pair[0]):
            tries.append((_rate_likeness(*pair, still), float(offset + shift)))
    likeness, offset = max(tries)
    lasted = len(b_THWC) * second.step * speed
    count = round(lasted / min(first.step, second.step * speed))
    if likeness < (MAX_THRESHOLD if still else _compute_threshold(count)):
        return None
    lasts = max(len(first.seconds_T) * first.step, len(second.seconds_T) * second.step * speed)
    return Match(window, speed, offset, lasted / lasts, likeness)


def _compute_threshold(count):
    """Return the least likeness of copies that share so many thumbnails."""
    return float(np.clip(MIN_LIKENESS + RISE * (MANY - count), MIN_LIKENESS, MAX_THRESHOLD))


def _rate_likeness(a_THWC, b_THWC, still):
    """Return the product of the correlations of changes, pictures, and their details.

    Persons at the same place have like pictures, not like changes; like shapes have other details.
    """
    motion = 1 if still else _correlate(a_THWC - a_THWC.mean(0), b_THWC - b_THWC.mean(0))
    look, detail = _compare_looks(a_THWC, b_THWC), _correlate(_sharpen(a_THWC), _sharpen(b_THWC))
    return max(motion, 0) * max(look, 0) * max(detail, 0)


def _sharpen(x_THWC):
    """Return the difference of each pixel from the mean of its four neighbours."""
    middle = x_THWC[:, 1:-1, 1:-1]
    around = x_THWC[:, :-2, 1:-1] + x_THWC[:, 2:, 1:-1] + x_THWC[:, 1:-1, :-2] + x_THWC[:, 1:-1, 2:]
    return middle - around / 4


def _center(x_TD):
    return x_TD - x_TD.mean(0)


def _correlate(x, y):
    return float(np.vdot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6))


def _compare_looks(a_THWC, b_THWC):
    return _correlate(a_THWC - a_THWC.mean((0, 1, 2)), b_THWC - b_THWC.mean((0, 1, 2)))


def _interpolate(position, first):
    """Return the thumbnails before and after each second, and how far it is between them."""
    place = np.interp(position, first.seconds_T, np.arange(len(first.seconds_T)))
    before = np.minimum(place.astype(int), max(len(first.seconds_T) - 2, 0))
    return before, np.minimum(before + 1, len(first.seconds_T) - 1), (place - before).astype(np.float32)


def _is_inside(position, first, leeway):
    return (position >= first.seconds_T[0] - leeway) & (position <= first.seconds_T[-1] + leeway)


def _find_offset(a_TD, first, b_TD, second, speed):
    """Return (correlation of changes, speed, offset) of the best place in time."""
    a_TD, b_TD, times_T = _center(a_TD), _center(b_TD), second.seconds_T * speed
    step, coarse = sorted((first.step, second.step * speed))
    offset_O = np.arange(first.seconds_T[0] - times_T[-1], first.seconds_T[-1] - times_T[0] + step, step / 2)
    position_OT = offset_O[:, None] + times_T
    before, after, part = _interpolate(position_OT, first)
    inside_OT, column_T = _is_inside(position_OT, first, coarse / 2), np.arange(len(times_T))
    mix = lambda at: ((1 - part) * at(before) + part * at(after)) * inside_OT
    product_TT, size_T = a_TD @ b_TD.T, (a_TD**2).sum(1)
    squares_O = mix(lambda t: size_T[t]).sum(1) * ((b_TD**2).sum(1) * inside_OT).sum(1)
    score_O = mix(lambda t: product_TT[t, column_T]).sum(1) / (np.sqrt(squares_O) + 1e-6)
    lasts = min(len(a_TD) * first.step, len(b_TD) * second.step * speed)
    enough_O = inside_OT.sum(1) >= min(MIN_SAMPLES, len(a_TD), len(b_TD))
    least = MIN_OVERLAP if speed == 1 else MIN_OVERLAP_AT_SPEED
    enough_O &= inside_OT.sum(1) * second.step * speed >= least * lasts
    score_O = np.where(enough_O, score_O - SPEED_PENALTY * (speed != 1), -np.inf)
    best = int(score_O.argmax())
    return float(score_O[best]), speed, float(offset_O[best])


def _overlay(a_THWC, first, b_THWC, second, speed, offset):
    """Return the pictures that both have, at the second's times."""
    position_T = offset + second.seconds_T * speed
    inside_T = _is_inside(position_T, first, max(first.step, second.step * speed) / 2)
    before, after, part = _interpolate(position_T[inside_T], first)
    part = part[:, None, None, None]
    return a_THWC[before] * (1 - part) + a_THWC[after] * part, b_THWC[inside_T]


MOVES = ((1, 0, 1, 0), (0, 1, 0, 1), (1, 0, -1, 0), (0, 1, 0, -1), (1, 1, -1, -1))  # of left, top, right, bottom


def _fit_window(a_THWC, b_THWC, window):
    """Return the window in which a looks most like b, by steps that become smaller."""
    some = np.unique(np.linspace(0, len(a_THWC) - 1, 6).round().astype(int))
    a_THWC, b_THWC = a_THWC[some], b_THWC[some]
    rate = lambda window: _compare_looks(cut_window(a_THWC, window), b_THWC)
    best = rate(window), window
    for step in (0.04, 0.02, 0.01):
        for move in (*MOVES, *MOVES):
            for sign in (-step, step):
                ends = [round(end + sign * by, 3) for end, by in zip(best[1][:4], move, strict=True)]
                if min(ends) >= 0 and max(ends) <= 1 and ends[2] - ends[0] >= 0.5 <= ends[3] - ends[1]:
                    other = Window(*ends, window.mirrored)
                    best = max(best, (rate(other), other))
    return best[1]
