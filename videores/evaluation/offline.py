"""Evaluate saved predictions without a model: other views, view sweeps, ensembles, comparisons.

R runs, V videos, N classes. Every function takes `Predictions`, of which several have the same videos in the same
order, and returns plain values for JSON.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from videores.errors import UserError
from videores.evaluation import metrics, view_subset
from videores.evaluation.floors import compare_with_floors
from videores.evaluation.fusion import fuse_views, softmax, to_probabilities
from videores.evaluation.predictions import Predictions


class Comparison(NamedTuple):
    """The comparison of two runs, and its rows by class."""

    summary: dict[str, Any]
    per_class: list[dict[str, Any]]


def select_fusion(predictions: Sequence[Predictions], fusion: str | None = None) -> str:
    """Return the fusion asked for, or the one that all runs were tested with.

    Raises:
        UserError: if none is asked for and the runs differ.
    """
    used = {p.words["fusion"] for p in predictions} - {"?"}
    if fusion is None and len(used) > 1:
        raise UserError(f"--fusion must be given for runs tested with different fusions: {', '.join(sorted(used))}")
    return fusion or next(iter(used), "softmax-mean")


def rescore(p: Predictions, fusion: str) -> dict[str, Any]:
    """Recompute metrics.json of predictions, without its record of the weights."""
    numbers = metrics.compute_metrics(p.logits, p.label, fusion, p.group, p.views_V)
    scores_VN = fuse_views(p.logits, fusion, p.views_V)
    return _add_metadata(p, numbers, scores_VN, fusion, format_protocol(p, fusion))


def _add_metadata(p, numbers, scores_VN, fusion, name):
    """Add the names of classes and videos to the numbers."""
    classes = p.classes.tolist()
    worst = [
        {
            "video": str(p.video[v]),
            "label": classes[p.label[v]],
            "predicted": classes[predicted],
            "confidence": confidence,
        }
        for v, predicted, confidence in metrics.find_worst_mistakes(scores_VN, p.label, fusion, metrics.WORST_MISTAKES)
    ]
    named = dict(zip(classes, numbers["per_class_top1"], strict=True))
    beaten = {}
    if "floors" in p.metrics:  # they are of the videos, whatever the views
        beaten["floors"] = compare_with_floors(p.metrics["floors"], numbers["ci95_video_top1"])
    videos = _count_videos(p, scores_VN)
    return {"protocol": name, **numbers, "per_class_top1": named, "worst": worst, "videos": videos, **beaten}


def format_protocol(p: Predictions, fusion: str) -> str:
    """Return the protocol string of predictions under another fusion."""
    return "{frames} {clips}x{crops} {fusion} {data}".format(**{**p.words, "fusion": fusion})


def _count_videos(p, scores_VN):
    """Return the `videos` of metrics.json, with what else the test recorded."""
    unreadable = [str(video) for video in np.sort(p.video[np.isnan(scores_VN).any(1)])]
    scored = len(p.video) - len(unreadable)
    return {**p.metrics.get("videos", {}), "expected": len(p.video), "scored": scored, "unreadable": unreadable}


def sweep_views(p: Predictions, fusion: str) -> list[dict[str, Any]]:
    """Return a row for each number of clips, in all crops and in the central one."""
    crops = [None] if len(np.unique(p.crop)) == 1 else [None, 1]
    clips = range(1, len(np.unique(p.clip)) + 1) if p.words["clips"] != "all" else [None]
    return [_compute_sweep_row(view_subset.select_views(p, number, crop), fusion) for crop in crops for number in clips]


def _compute_sweep_row(p, fusion):
    numbers = metrics.compute_metrics(p.logits, p.label, fusion, p.group, p.views_V)
    low, high = numbers["ci95_video_top1"]
    return {
        "clips": len(np.unique(p.clip)),
        "crops": p.words["crops"],
        "views": len(p.clip),
        "protocol": format_protocol(p, fusion),
        "a_protocol": "of" not in p.words["clips"],
        **{name: numbers[name] for name in ("clip_top1", "clip_top5", "video_top1", "video_top5", "mean_class_top1")},
        "low": low,
        "high": high,
    }


def _compute_probabilities(p, fusion):
    """Return p_VN, fused scores as probabilities, NaN of videos that did not decode."""
    return to_probabilities(fuse_views(p.logits, fusion, p.views_V), fusion)


def _average_runs(predictions: Sequence[Predictions], weights: Sequence[float], fusion: str) -> np.ndarray:
    """Return the weighted mean of the runs' probabilities, as logits_VKN.

    It is the softmax of their one view. A video that one run could not decode has no scores.
    """
    p_VN = sum(weight * _compute_probabilities(p, fusion) for weight, p in zip(weights, predictions, strict=True))
    return np.log(np.maximum(p_VN, np.finfo(np.float32).tiny)).astype(np.float32)[:, None]


def fuse_runs(
    predictions: Sequence[Predictions], weights: Sequence[float], fusion: str
) -> tuple[dict[str, Any], np.ndarray]:
    """Return metrics.json and logits_VKN of an ensemble.

    It has no clip accuracies, since its runs may see other clips.
    """
    first = predictions[0]
    logits_VKN = _average_runs(predictions, weights, fusion)
    names = dict.fromkeys(format_protocol(p, fusion) for p in predictions)
    numbers = metrics.compute_metrics(logits_VKN, first.label, "softmax-mean", first.group)
    numbers |= {"clip_top1": None, "clip_top5": None, "error_correlation": correlate_errors(predictions, fusion)}
    name = f"{len(predictions)} runs: {' + '.join(names)}"
    return _add_metadata(first, numbers, softmax(logits_VKN[:, 0]), "softmax-mean", name), logits_VKN


def correlate_errors(predictions: Sequence[Predictions], fusion: str) -> list[list[float | None]]:
    """Return the correlation between the errors of each two runs, R x R.

    An error is 0 or 1, the correlation is over videos. It is None for a run that is right, or wrong, on all videos that
    every run has scored.
    """
    p_RVN = np.stack([_compute_probabilities(p, fusion) for p in predictions])
    scored_V = ~np.isnan(p_RVN).any((0, 2))
    wrong_RV = p_RVN[:, scored_V].argmax(-1) != predictions[0].label[scored_V]
    deviation_RV = wrong_RV - wrong_RV.mean(1, keepdims=True)
    norm_R = np.sqrt((deviation_RV**2).sum(1))
    pair = lambda i, j: float(deviation_RV[i] @ deviation_RV[j] / (norm_R[i] * norm_R[j]))
    runs = range(len(predictions))
    return [[pair(i, j) if norm_R[i] * norm_R[j] else None for j in runs] for i in runs]


def fit_ensemble_weights(predictions: Sequence[Predictions], fusion: str, rounds: int = 10000) -> list[float]:
    """Return the ensemble weights_R under which these labels are most likely.

    The predictions are of validation videos. The likelihood is a concave function of the weights, whose maximum
    expectation-maximization finds from equal weights on: each weight becomes the mean share that its run has in the
    probability of the right class. Source: Jelinek & Mercer 1980, Interpolated estimation of Markov source parameters
    from sparse data.
    """
    label_V = predictions[0].label
    right_RV = np.stack([_compute_probabilities(p, fusion)[np.arange(len(label_V)), label_V] for p in predictions])
    right_RV = np.maximum(right_RV[:, ~np.isnan(right_RV).any(0)], np.finfo(np.float32).tiny)
    if not right_RV.size:
        raise UserError("--weights val needs a validation video that every run has scored: give numbers")
    weights_R = np.full(len(predictions), 1 / len(predictions))
    for _ in range(rounds):
        before, weights_R = weights_R, (weights_R[:, None] * right_RV / (weights_R @ right_RV)).mean(1)
        if np.abs(weights_R - before).max() < 1e-9:
            break
    return weights_R.tolist()


def choose_ensemble_weights(predictions: Sequence[Predictions], fusion: str) -> list[float]:
    """Return the likeliest weights_R, or equal ones if right on more videos.

    Of streams that know different parts of a class, the likelihood of the right one hardly depends on the weights, and
    its maximum may leave out a stream.
    """
    fitted_R, equal_R = fit_ensemble_weights(predictions, fusion), [1 / len(predictions)] * len(predictions)
    label_V = predictions[0].label
    right = [
        metrics.is_in_top_k(_average_runs(predictions, w, fusion)[:, 0], label_V).sum() for w in (equal_R, fitted_R)
    ]
    return equal_R if right[0] > right[1] else fitted_R


def compare_runs(first: Predictions, second: Predictions, fusion: str) -> Comparison:
    """Compare what two runs get right of the same videos, with interval and p-value."""
    right_RV = [metrics.is_in_top_k(fuse_views(p.logits, fusion, p.views_V), p.label) for p in (first, second)]
    gain_V = right_RV[1].astype(int) - right_RV[0]
    both = int((right_RV[0] & right_RV[1]).sum())
    only_first, only_second = int((gain_V < 0).sum()), int((gain_V > 0).sum())
    summary = {
        "runs": [
            {"run": str(p.run), "protocol": format_protocol(p, fusion), "video_top1": metrics.to_percent(right_V)}
            for p, right_V in zip((first, second), right_RV, strict=True)
        ],
        "videos": len(gain_V),
        "right": {"both": both, "first": only_first, "second": only_second},
        "difference": metrics.to_percent(gain_V),
        "ci95_difference": metrics.bootstrap_interval(gain_V, first.group),
        "ci95_over": metrics.name_resampled_unit(first.group, len(gain_V)),
        "mcnemar_p": mcnemar_p_value(only_first, only_second),
        "unreadable": sorted({str(v) for p in (first, second) for v in p.video[np.isnan(p.logits).any(2).all(1)]}),
    }
    return Comparison(summary, _compare_classes(first, right_RV))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    The null hypothesis: a fair coin decides which run gets a video right that one alone does.
    Source: McNemar 1947, Psychometrika 12, in its exact binomial form. It takes videos as independent.
    """
    tosses = only_first + only_second
    ways = tail = 1  # to lose none; whole numbers of any size: exact, and no overflow
    for lost in range(min(only_first, only_second)):
        ways = ways * (tosses - lost) // (lost + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**tosses)


def _compare_classes(first, right_RV):
    """Return a row a class that has videos, largest gain of the second run first."""
    rows = []
    for number, name in enumerate(first.classes.tolist()):
        of_class_V = first.label == number
        if of_class_V.any():
            one, other = (metrics.to_percent(right_V[of_class_V]) for right_V in right_RV)
            row = {"class": name, "videos": int(of_class_V.sum()), "first": one, "second": other}
            rows.append({**row, "difference": other - one})
    return sorted(rows, key=lambda row: -row["difference"])
