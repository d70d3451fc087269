"""What saved predictions say without a model: other views, a sweep of their number, ensembles, comparisons.

R runs, V videos, N classes. Every function takes checked `scores.Predictions`, of which several have the same videos in
the same order, and returns plain values for JSON.
"""

from collections import namedtuple

import numpy as np

from videores.errors import UserError
from videores.evaluation import fusion as fusion_module
from videores.evaluation import metrics, view_subset

Comparison = namedtuple("Compared", "found per_class")


def select_fusion(predictions, fusion=None):
    """How views are fused: as asked for, or as all of the runs were tested. Raises UserError where these differ."""
    used = {p.words["fusion"] for p in predictions} - {"?"}
    if fusion is None and len(used) > 1:
        raise UserError(f"the runs were tested with {' and '.join(sorted(used))}: say which with --fusion")
    return fusion or next(iter(used), "softmax-mean")


def rescore(p, fusion):
    """metrics.json of these predictions, recomputed, but for what it says of the weights."""
    numbers = metrics.compute_metrics(p.logits, p.label, fusion, p.group, p.views_V)
    scores_VN = fusion_module.fuse_views(p.logits, fusion, p.views_V)
    return add_metadata(p, numbers, scores_VN, fusion, format_protocol(p, fusion))


def add_metadata(p, numbers, scores_VN, fusion, name):
    """The numbers with the names of classes and videos."""
    classes = p.classes.tolist()
    worst = [
        {"video": str(p.video[v]), "label": classes[p.label[v]], "predicted": classes[chosen], "confidence": confidence}
        for v, chosen, confidence in metrics.find_worst_mistakes(scores_VN, p.label, fusion)
    ]
    named = dict(zip(classes, numbers["per_class_top1"], strict=True))
    return {"protocol": name, **numbers, "per_class_top1": named, "worst": worst, "videos": count_videos(p, scores_VN)}


def format_protocol(p, fusion):
    return "{frames} {clips}x{crops} {fusion} {data}".format(**{**p.words, "fusion": fusion})


def count_videos(p, scores_VN):
    """Expected, scored and unreadable videos, and what else the test said of them."""
    lost = [str(video) for video in np.sort(p.video[np.isnan(scores_VN).any(1)])]
    scored = len(p.video) - len(lost)
    return {**p.metrics.get("videos", {}), "expected": len(p.video), "scored": scored, "unreadable": lost}


# The number of views


def sweep_views(p, fusion):
    """A row for each number of clips, in all crops and in the central one alone."""
    crops = [None] if len(np.unique(p.crop)) == 1 else [None, 1]
    clips = range(1, len(np.unique(p.clip)) + 1) if p.words["clips"] != "all" else [None]
    return [compute_sweep_row(view_subset.select_views(p, number, crop), fusion) for crop in crops for number in clips]


def compute_sweep_row(p, fusion):
    found = metrics.compute_metrics(p.logits, p.label, fusion, p.group, p.views_V)
    low, high = found["ci95_video_top1"]
    return {
        "clips": len(np.unique(p.clip)),
        "crops": p.words["crops"],
        "views": len(p.clip),
        "protocol": format_protocol(p, fusion),
        "a_protocol": "of" not in p.words["clips"],
        **{name: found[name] for name in ("clip_top1", "clip_top5", "video_top1", "video_top5", "mean_class_top1")},
        "low": low,
        "high": high,
    }


# Ensembles


def compute_probabilities(p, fusion):
    """p_VN: the videos' fused scores as probabilities, NaN for one that did not decode."""
    return fusion_module.to_probabilities(fusion_module.fuse_views(p.logits, fusion, p.views_V), fusion)


def average_runs(predictions, weights, fusion):
    """The weighted mean of the runs' probabilities, as logits_VKN of one view whose softmax it is.

    A video that one run could not decode has no scores.
    """
    p_VN = sum(weight * compute_probabilities(p, fusion) for weight, p in zip(weights, predictions, strict=True))
    return np.log(np.maximum(p_VN, np.finfo(np.float32).tiny)).astype(np.float32)[:, None]


def fuse_runs(predictions, weights, fusion):
    """metrics.json of an ensemble; without clip accuracies, for its runs may see other clips."""
    first = predictions[0]
    logits_VKN = average_runs(predictions, weights, fusion)
    names = dict.fromkeys(format_protocol(p, fusion) for p in predictions)
    numbers = metrics.compute_metrics(logits_VKN, first.label, "softmax-mean", first.group)
    numbers |= {"clip_top1": None, "clip_top5": None}
    name = f"{len(predictions)} runs: {' + '.join(names)}"
    return add_metadata(first, numbers, fusion_module.softmax(logits_VKN[:, 0]), "softmax-mean", name), logits_VKN


def fit_ensemble_weights(predictions, fusion, rounds=10000):
    """weights_R of an ensemble that give the labels of these (validation) videos the highest likelihood.

    That is a concave function of the weights, whose maximum expectation-maximisation finds from equal weights on: each
    weight becomes the mean share that its run has in the probability of the right class. Source: Jelinek & Mercer 1980,
    Interpolated estimation of Markov source parameters from sparse data.
    """
    label_V = predictions[0].label
    right_RV = np.stack([compute_probabilities(p, fusion)[np.arange(len(label_V)), label_V] for p in predictions])
    right_RV = np.maximum(right_RV[:, ~np.isnan(right_RV).any(0)], np.finfo(np.float32).tiny)
    if not right_RV.size:
        raise UserError("no validation video has scores of every run: weights cannot be chosen on them")
    weights_R = np.full(len(predictions), 1 / len(predictions))
    for _ in range(rounds):
        before, weights_R = weights_R, (weights_R[:, None] * right_RV / (weights_R @ right_RV)).mean(1)
        if np.abs(weights_R - before).max() < 1e-9:
            break
    return weights_R.tolist()


# Comparison


def compare_runs(first, second, fusion):
    """What two runs get right of the same videos, and whether the difference could be chance."""
    right_RV = [
        metrics.is_in_top_k(fusion_module.fuse_views(p.logits, fusion, p.views_V), p.label) for p in (first, second)
    ]
    gain_V = right_RV[1].astype(int) - right_RV[0]
    both = int((right_RV[0] & right_RV[1]).sum())
    only_first, only_second = int((gain_V < 0).sum()), int((gain_V > 0).sum())
    found = {
        "runs": [
            {"run": str(p.run), "protocol": format_protocol(p, fusion), "video_top1": metrics.to_percent(right_V)}
            for p, right_V in zip((first, second), right_RV, strict=True)
        ],
        "videos": len(gain_V),
        "right": {"both": both, "first": only_first, "second": only_second},
        "difference": metrics.to_percent(gain_V),
        "ci95_difference": metrics.bootstrap_interval(gain_V, first.group),
        "ci95_over": "groups" if metrics.group_indices(first.group, len(gain_V)).max() + 1 < len(gain_V) else "videos",
        "mcnemar_p": mcnemar_p_value(only_first, only_second),
        "unreadable": sorted({str(v) for p in (first, second) for v in p.video[np.isnan(p.logits).any(2).all(1)]}),
    }
    return Comparison(found, compare_classes(first, right_RV))


def mcnemar_p_value(only_first, only_second):
    """Two-sided p-value of McNemar's exact test: were the videos that one run alone gets right won by fair coin?

    Source: McNemar 1947, Psychometrika 12, in its exact binomial form. It takes videos as independent.
    """
    tosses = only_first + only_second
    ways = tail = 1  # to lose none; whole numbers of any size: exact, and no overflow
    for lost in range(min(only_first, only_second)):
        ways = ways * (tosses - lost) // (lost + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**tosses)


def compare_classes(first, right_RV):
    """Rows of the classes that have videos, largest gain of the second run first."""
    rows = []
    for number, name in enumerate(first.classes.tolist()):
        of_class_V = first.label == number
        if of_class_V.any():
            one, other = (metrics.to_percent(right_V[of_class_V]) for right_V in right_RV)
            row = {"class": name, "videos": int(of_class_V.sum()), "first": one, "second": other}
            rows.append({**row, "difference": other - one})
    return sorted(rows, key=lambda row: -row["difference"])
