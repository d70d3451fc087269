"""Judge the assertions of a table by pure functions of the cells' numbers.

Each assertion is a list of excesses: how far a difference is above its margin, or a mean within its bound. It holds if
every excess is significantly positive, and fails if one is significantly negative. All else is inconclusive. What has
no error that can be estimated is told, never judged. What can be proved must hold for every seed, and is never
inconclusive. docs/ablations/rule.md has the rule, and why it is this one.
"""

import itertools
import statistics

import numpy as np

from videores.ablation.columns import COLUMNS, read_values
from videores.ablation.significance import LEVEL, Estimate, estimate_mean, resample_accuracies

OUTCOMES = ("fails", "inconclusive", "holds")  # from worst to best
ANSWERED = ("video", "gap", "above_floor")  # columns that the answers to single videos give
MAX_SEEDS = 100  # of a forecast


def judge_assertion(assertion, rows, bar=0):
    """Judge an assertion: {"claim", "outcome", "numbers", "hard", "unlearnt"}.

    `rows` has {row: [cell of each seed]}, of those that have results. `unlearnt` are the rows that it rests on and that
    have not learnt: whose training accuracy is below `bar`.
    """
    missing = [name for name in assertion.names() if name not in rows]
    if missing:
        return _format_outcome(assertion, "inconclusive", [f"no result of {', '.join(missing)}"])
    rows = {name: sorted(rows[name], key=lambda cell: cell["seed"]) for name in assertion.names()}
    flagged = [] if assertion.hard else [name for name in rows if find_unlearnt_seeds(rows[name], bar)]
    if assertion.pooled:
        if obstacle := _find_pooling_obstacle(rows):
            return _format_outcome(assertion, "inconclusive", [f"not judged: {obstacle}"], flagged)
        assertion, rows = _pool_rows(assertion, rows)
    outcome, numbers = (_judge_proof if assertion.hard or assertion.equal is not None else _judge_claim)(
        assertion, rows
    )
    return _format_outcome(assertion, outcome, numbers, flagged)


def _pool_rows(assertion, rows):
    """Return the claim about one row, or one above and one below, which have the videos of all their splits."""
    sides = {side: names for side in ("above", "below", "rows") if (names := getattr(assertion, side))}
    names = {side: ", ".join(found) for side, found in sides.items()}
    pooled = {names[side]: _pool_cells([rows[name] for name in found]) for side, found in sides.items()}
    return assertion.model_copy(update={side: (name,) for side, name in names.items()}), pooled


def _pool_cells(parts):
    """Return for each seed one cell with the answers of several rows, which have the same seeds in the same order."""
    return [_pool_answers(cells) for cells in zip(*parts, strict=True)]


def _pool_answers(cells):
    """Return a cell with all answers; a group is a group of one split, where each group is tested in one alone."""
    answers = [cell["answers"] for cell in cells]
    pooled = {key: "".join(one[key] for one in answers) for key in ("right", "floor") if all(key in a for a in answers)}
    groups = [f"{i}-{group:06}" for i, one in enumerate(answers) for group in number_groups(one)]
    pooled |= {"list": "+".join(one["list"] for one in answers), "groups": groups}
    accuracy = 100 * pooled["right"].count("1") / len(groups)
    return {"seed": cells[0]["seed"], "values": {"video": accuracy}, "answers": pooled}


def _format_outcome(assertion, outcome, numbers, unlearnt=()):
    about = {"claim": assertion.claim, "outcome": outcome, "numbers": numbers, "hard": assertion.hard}
    return {**about, "unlearnt": list(unlearnt)}


def find_unlearnt_seeds(cells, bar):
    """Return {seed: training accuracy} of the cells that are known not to have learnt."""
    found = {cell["seed"]: cell["values"].get("train") for cell in cells}
    return {seed: train for seed, train in found.items() if train is not None and train < bar}


# What is estimated


def _judge_claim(assertion, rows):
    if obstacle := _find_obstacle(assertion.metric, rows):
        return "inconclusive", [f"not judged: {obstacle}"]
    checks = [_compare_rows(assertion, rows, *pair) for pair in _pair_rows(assertion)] or [
        _compare_bound(assertion, rows, name) for name in assertion.rows
    ]
    if COLUMNS[assertion.metric].spread and any(excess.error == 0 for _, excesses in checks for excess in excesses):
        return "inconclusive", ["not judged: seeds do not differ at all, which gives no error"]
    fail_level = LEVEL / sum(len(excesses) for _, excesses in checks)
    outcomes = [decide_outcome(excesses, fail_level) for _, excesses in checks]
    numbers = [
        text + f": {outcome}" * (len(checks) > 1) + _forecast_seeds(excesses, fail_level) * (outcome == "inconclusive")
        for outcome, (text, excesses) in zip(outcomes, checks, strict=True)
    ]
    return min(outcomes, key=OUTCOMES.index), numbers


def decide_outcome(excesses: list[Estimate], fail_level: float = LEVEL) -> str:
    """Return holds if all excesses are significantly above 0, fails if one is below.

    A claim about several pairs holds only if each does, which needs no correction. It fails if one excess is below 0,
    so that each of its k excesses is tested at `fail_level` = LEVEL / k.

    Source: Berger 1982, Technometrics 24, 295-300 (all must hold); Bonferroni (one fails).
    """
    if all(excess.compute_limits()[0] > 0 for excess in excesses):
        return "holds"
    return "fails" if any(excess.compute_limits(fail_level)[1] < 0 for excess in excesses) else "inconclusive"


def _forecast_seeds(excesses, fail_level):
    """Say how many seeds would decide it, if these are typical: means and errors stay as they are."""
    decide = lambda seeds: decide_outcome([excess.scale_to_seeds(seeds) for excess in excesses], fail_level)
    for seeds in range(excesses[0].seeds + 1, MAX_SEEDS + 1):
        if decide(seeds) != "inconclusive":
            return f"; about {seeds} seeds would decide it"
    if any(abs(excess.value) < 2 * excess.group_error for excess in excesses):
        return f"; {MAX_SEEDS} seeds would not decide it, as the error over groups of test videos stays"
    return f"; {MAX_SEEDS} seeds would not decide it"


def _find_pooling_obstacle(rows):
    """Say why rows cannot be pooled, or return None."""
    if not all("answers" in cell for cells in rows.values() for cell in cells):
        return f"answers are not known of {' and '.join(rows)}"
    return _compare_seeds(rows)


def _compare_seeds(rows):
    """Say how the seeds of rows differ, or return None."""
    seeds = {name: [cell["seed"] for cell in cells] for name, cells in rows.items()}
    if len(set(map(tuple, seeds.values()))) > 1:
        return f"seeds differ: {'; '.join(f'{name} {found}' for name, found in seeds.items())}"
    return None


def _find_obstacle(metric, rows):
    """Say why there is no error to judge by, or return None."""
    names, column = " and ".join(rows), COLUMNS[metric]
    values = [read_values(cell)[metric] for cells in rows.values() for cell in cells]
    if None in values:
        return f"{metric} is not known of {names}"
    if min(map(len, rows.values())) < 2:
        return "one seed gives no error"
    if differ := _compare_seeds(rows):
        return differ
    if not column.tested:
        return None
    tested = [cell for cells in rows.values() for cell in cells]
    if not _share_videos(tested):
        return f"{names} were tested on different videos, or on other groups of them"
    if number_groups(tested[0]["answers"]).max() == 0:
        return "one group of test videos gives no error"
    return None


def _pair_rows(assertion):
    """Return the pairs of rows to compare: above and below, or all to be close."""
    if assertion.within is None:
        return [*itertools.product(assertion.above, assertion.below)]
    return [*itertools.combinations(assertion.rows, 2)]


def _compare_rows(assertion, rows, one, other):
    """Return (numbers, excesses) of two rows, paired by seed and test video."""
    difference = estimate_rows(assertion.metric, rows[one], rows[other])
    text = f"{one} {_format_mean(assertion.metric, rows[one])} against {other} "
    text += f"{_format_mean(assertion.metric, rows[other])}: {_format_estimate(assertion.metric, difference)}"
    single_S = _read_metric(assertion.metric, rows[one]) - _read_metric(assertion.metric, rows[other])
    text += f", seeds {', '.join(f'{single:+.3g}' for single in single_S)}"
    if assertion.within is None:
        return text, [_shift(difference, assertion.margin)]
    return text, [_shift(difference, -assertion.within), _shift(_negate(difference), -assertion.within)]


def _compare_bound(assertion, rows, name):
    """Return (numbers, excesses) of one row and a number."""
    mean = estimate_rows(assertion.metric, rows[name])
    text = f"{name} {_format_mean(assertion.metric, rows[name])}: {_format_estimate(assertion.metric, mean)}"
    if assertion.at_least is not None:
        return text, [_shift(mean, assertion.at_least)]
    return text, [_shift(_negate(mean), -assertion.at_most)]


def _shift(estimate, margin):
    return estimate._replace(value=estimate.value - margin)


def _negate(estimate):
    return estimate._replace(value=-estimate.value)


def estimate_rows(metric, ours, theirs=None):
    """Estimate the mean of a row, or the difference of two, paired by seed.

    The error is over seeds and groups of test videos for what the answers of single videos give, else over seeds alone.
    """
    value_S, replicate_SB = _read_metric(metric, ours), _read_replicates(metric, ours)
    if theirs is not None:
        value_S = value_S - _read_metric(metric, theirs)
        replicate_SB = None if replicate_SB is None else replicate_SB - _read_replicates(metric, theirs)
    groups = None if replicate_SB is None else number_groups(ours[0]["answers"]).max() + 1
    return estimate_mean(value_S, replicate_SB, groups)


def _read_metric(metric, cells):
    return np.array([read_values(cell)[metric] for cell in cells], dtype=float)


def _read_replicates(metric, cells):
    """Return value_SB on resampled test lists, None where answers do not give it."""
    if metric not in ANSWERED:
        return None
    right_SV = np.stack([read_answers(cell) for cell in cells])
    if metric == "above_floor":
        right_SV = right_SV - np.stack([read_answers(cell, "floor") for cell in cells])
    video_SB = resample_accuracies(right_SV, number_groups(cells[0]["answers"]))
    return _read_metric("train", cells)[:, None] - video_SB if metric == "gap" else video_SB


# What can be proved


def _judge_proof(assertion, rows):
    """Judge what must hold for every seed that the rows have in common."""
    if assertion.metric == "scores":
        return _judge_same_scores(assertion, rows)
    names = assertion.names()
    common = set.intersection(*({cell["seed"] for cell in rows[name]} for name in names))
    if not common and (assertion.above or assertion.within is not None):
        return "inconclusive", [f"{' and '.join(names)} have no seed in common"]
    if any(read_values(cell)[assertion.metric] is None for name in names for cell in rows[name]):
        return "inconclusive", [f"{assertion.metric} is not known of {' and '.join(names)}"]
    of = lambda name: _read_metric(assertion.metric, [c for c in rows[name] if c["seed"] in common or not common])
    numbers = [f"{name} {_format_mean(assertion.metric, rows[name])}" for name in names]
    if assertion.above:
        obeys = all((of(one) - of(other) >= assertion.margin).all() for one, other in _pair_rows(assertion))
    elif assertion.within is not None:
        obeys = all((abs(of(one) - of(other)) <= assertion.within).all() for one, other in _pair_rows(assertion))
    else:
        obeys = all(_meets_bound(assertion, _read_metric(assertion.metric, rows[name])) for name in names)
    return ("holds" if obeys else "fails"), numbers


def _meets_bound(assertion, value_S):
    if assertion.equal is not None:
        return (value_S == assertion.equal).all()
    return (value_S >= assertion.at_least if assertion.at_most is None else value_S <= assertion.at_most).all()


def _judge_same_scores(assertion, rows):
    """Compare the scores that cells keep, number by number, and all answers."""
    seeds = set.intersection(*({cell["seed"] for cell in cells} for cells in rows.values()))
    if not seeds:
        return "inconclusive", [f"{' and '.join(rows)} have no seed in common"]
    cells = [[cell for cell in cells if cell["seed"] in seeds] for cells in rows.values()]
    if not _share_videos(itertools.chain(*cells)):
        return "fails", [f"{' and '.join(rows)} were tested on other videos"]
    found = [[cell["scores"] for cell in row] for row in cells]
    apart = max(np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(found, 2))
    answers = [[cell["answers"]["right"] for cell in row] for row in cells]
    differ = sum(len(set(given)) > 1 for seeds in zip(*answers, strict=True) for given in zip(*seeds, strict=True))
    text = f"at most {apart:.2g} apart in {len(found[0][0])} videos of each seed; {differ} of "
    text += f"{sum(map(len, answers[0])):,} answers differ"
    return ("holds" if apart <= assertion.within and not differ else "fails"), [text]


# Numbers


def read_answers(cell, of="right"):
    """Return right_V: 1 where the answer is right, else 0; `of` the network or of the best floor."""
    return np.array([int(digit) for digit in cell["answers"][of]])


def number_groups(answers):
    """Return group_V, numbered from 0; without groups each video is its own."""
    if answers["groups"] is None:
        return np.arange(len(answers["right"]))
    return np.unique(answers["groups"], return_inverse=True)[1]


def _share_videos(cells):
    """Return whether the answers of cells are to the same videos, in the same groups."""
    answers = [cell["answers"] for cell in cells]
    return len({(one["list"], len(one["right"]), tuple(one["groups"] or ())) for one in answers}) == 1


def compute_interval(cells):
    """Return the 95 % interval over groups of a row's accuracy, None without any."""
    if any("answers" not in cell for cell in cells) or not _share_videos(cells):
        return None
    if number_groups(cells[0]["answers"]).max() == 0:
        return None
    return np.percentile(_read_replicates("video", cells).mean(axis=0), [2.5, 97.5]).tolist()


def _format_mean(metric, cells):
    values = _read_metric(metric, cells).tolist()
    text = f"{statistics.fmean(values):.4g}"
    return f"{text} ± {statistics.stdev(values):.2g}" if len(values) > 1 else text


def _format_estimate(metric, estimate):
    low, high = estimate.compute_limits()
    text = f"{estimate.value:+.3g} (error {estimate.error:.2g}, {low:+.3g} to {high:+.3g})"
    return text if metric in ANSWERED else f"{text} over seeds"
