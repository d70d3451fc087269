"""Windows become segments: where they begin and end, which have nothing, and a curve of bounded length."""

from itertools import pairwise

import numpy as np
import pytest

from videores.inference import segments
from videores.inference.prediction import Prediction, Times


def window(start, probabilities, length=1.0):
    logits_KN = np.log(np.array([probabilities]))
    return Prediction(logits_KN, "softmax-mean", ("a", "b", "c"), lambda: Times(start, start + length, ()))


def join(windows, threshold=0.5):
    segmenter = segments.Segmenter(threshold)
    found = [segment for one in windows for segment in segmenter.add(one)]
    return [*found, *segmenter.finish()]


A, B, NONE = (0.8, 0.1, 0.1), (0.1, 0.6, 0.3), (0.4, 0.3, 0.3)


def test_equal_answers_are_joined_and_boundaries_lie_between_the_middles():
    found = join([window(0, A), window(0.5, A), window(1, B), window(1.5, B)])
    assert [(s.start, s.end, s.label) for s in found] == [(0, 1.25, "a"), (1.25, 2.5, "b")]
    assert [s.confidence for s in found] == pytest.approx([0.8, 0.6])


def test_below_the_threshold_is_nothing():
    found = join([window(0, A), window(1, NONE), window(2, NONE), window(3, A)])
    assert [s.label for s in found] == ["a", None, "a"]
    assert [(s.start, s.end) for s in found] == [(0, 1), (1, 3), (3, 4)]
    assert found[1].confidence == pytest.approx(0.4)
    assert [s.label for s in join([window(0, A)], threshold=0.9)] == [None]
    assert join([]) == []


def test_segments_cover_the_video_without_gaps():
    rng = np.random.default_rng(0)
    found = join([window(0.3 * k, rng.dirichlet([1, 1, 1])) for k in range(200)])
    assert all(one.end == two.start for one, two in pairwise(found))
    assert (found[0].start, found[-1].end) == (0, pytest.approx(0.3 * 199 + 1))


def test_a_curve_keeps_its_shape_in_a_bounded_number_of_points(monkeypatch):
    monkeypatch.setattr(segments, "MAX_POINTS", 10)
    curve = segments.Curve()
    for k in range(1000):
        curve.add(window(k, A if k < 500 else B))
    assert 10 <= len(curve.times) < 20
    assert np.all(np.diff(curve.times) > 0)
    middle = len(curve.times) // 2
    assert curve.scores[0] == pytest.approx(A)
    assert curve.scores[-1] == pytest.approx(B)
    assert 350 < curve.times[middle] < 650
