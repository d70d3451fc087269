"""Say from saved predictions what a network loses without the order of frames, or under corruptions.

Every number compares the scores of two tests of the same weights on the same videos. Arrays have V videos. Errors and
accuracies are in per cent.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from videores.evaluation import metrics
from videores.evaluation.fusion import fuse_views
from videores.evaluation.offline import compare_runs, select_fusion
from videores.evaluation.predictions import Predictions, align_videos


def compare_orders(
    normal: Predictions, probed: Mapping[str, Predictions], partners: Mapping[str, str]
) -> dict[str, Any]:
    """Compare the tests of other orders of frames with the normal one.

    Args:
        probed: the test of each order.
        partners: class -> class of the video that is played backwards, of all classes or none.

    Returns:
        {"orders": a row each, "partner": the share of reversed videos that get the partner class, or None}.
    """
    rows = [{"order": order, **_compare(normal, p), **_compare_scores(normal, p)} for order, p in probed.items()]
    reversed_p = probed.get("reversed")
    partner = _measure_partners(reversed_p, partners) if reversed_p and partners else None
    return {"orders": rows, "partner": partner}


def summarize_corruptions(normal: Predictions, probed: Mapping[tuple[str, int], Predictions]) -> dict[str, Any]:
    """Return the mean corruption error, and a row for each (corruption, severity).

    The error of a corruption is the mean of 100 - video top-1 over its severities; `mean_error` (mCE) is the mean over
    corruptions, `relative` the same after subtracting the error on normal frames. Hendrycks and Dietterich 2019,
    arXiv:1903.12261, section 4.1, divide the error of each corruption by AlexNet's before they take the mean. No such
    reference exists for videos, so nothing is divided: `by_corruption` has the terms.
    """
    rows = [{"corruption": c, "severity": s, **_compare(normal, p)} for (c, s), p in probed.items()]
    wrong_V = {key: _find_wrong(align_videos(normal, p)) for key, p in probed.items()}
    by_corruption_V = {c: np.mean([w for (d, _), w in wrong_V.items() if d == c], 0) for c, _ in probed}
    error_V, normal_V = np.mean(list(by_corruption_V.values()), 0), _find_wrong(normal)
    return {
        "mean_error": metrics.to_percent(error_V),
        "ci95_mean_error": metrics.bootstrap_interval(error_V, normal.group),
        "relative": metrics.to_percent(error_V - normal_V),
        "ci95_relative": metrics.bootstrap_interval(error_V - normal_V, normal.group),
        "normal_error": metrics.to_percent(normal_V),
        "by_corruption": {c: metrics.to_percent(wrong) for c, wrong in by_corruption_V.items()},
        "corruptions": rows,
    }


def _compare(normal, p):
    """Return the accuracy of a test and its difference to the normal one, paired by video."""
    p = align_videos(normal, p)
    found = compare_runs(normal, p, select_fusion([normal, p])).summary
    kept = {key: found[key] for key in ("difference", "ci95_difference", "ci95_over")}
    return {"protocol": p.protocol, "video_top1": found["runs"][1]["video_top1"], **kept}


def _compare_scores(normal, p):
    """Return the largest change of a fused score: 0 where the network ignores the order."""
    change_VN = np.abs(_fuse(align_videos(normal, p)) - _fuse(normal))
    return {"largest_change": None if np.isnan(change_VN).all() else float(np.nanmax(change_VN))}


def _measure_partners(p, partners):
    """Return the share of videos that get the class of their reversal."""
    names = p.classes.tolist()
    partner_V = np.array([names.index(partners[names[label]]) for label in p.label])
    is_partner_V = metrics.is_in_top_k(_fuse(p), partner_V)
    return {"share": metrics.to_percent(is_partner_V), "ci95": metrics.bootstrap_interval(is_partner_V, p.group)}


def _find_wrong(p):
    return ~metrics.is_in_top_k(_fuse(p), p.label)


def _fuse(p):
    return fuse_views(p.logits, select_fusion([p]), p.views_V)
