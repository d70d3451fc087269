"""Judge the assertions of a table by pure functions of the cells' numbers.

A difference counts when it is 3 points, or 2 standard errors over seeds, and when 0 is outside the paired bootstrap
interval over test videos, where there is one. A claim holds when the difference reaches its margin and counts. It
fails when the shortfall counts. All else is inconclusive, and so is everything that has one seed. What can be proved
must hold for every seed, and is never inconclusive.
"""

import itertools
import math
import statistics

import numpy as np

from videores.ablation.columns import COLUMNS
from videores.evaluation import metrics

MIN_POINTS = 3  # a difference of accuracies that counts
MIN_STANDARD_ERRORS = 2  # standard errors that count
OUTCOMES = ("fails", "inconclusive", "holds")  # from worst to best


def judge_assertion(assertion, rows):
    """Judge an assertion: {"claim", "outcome", "numbers", "hard"}.

    `rows` has {row: [cell of each seed]}, of those that have results.
    """
    missing = [name for name in assertion.names() if name not in rows]
    if missing:
        return _format_outcome(assertion, "inconclusive", [f"no result of {', '.join(missing)}"])
    pairs = itertools.product(assertion.above, assertion.below)
    checks = [_compare_rows(assertion, rows, *pair) for pair in pairs] or _judge_bounds(assertion, rows)
    worst = min((outcome for outcome, _ in checks), key=OUTCOMES.index)
    return _format_outcome(
        assertion, worst, [f"{text}: {outcome}" if len(checks) > 1 else text for outcome, text in checks]
    )


def _format_outcome(assertion, outcome, numbers):
    return {"claim": assertion.claim, "outcome": outcome, "numbers": numbers, "hard": assertion.hard}


def _compare_rows(assertion, rows, one, other):
    """Return outcome and numbers of one pair of rows."""
    ours, theirs = rows[one], rows[other]
    values = [_read_metric(cells, assertion.metric) for cells in (ours, theirs)]
    if None in (*values[0], *values[1]):
        return "inconclusive", f"{assertion.metric} is not known of {one} or {other}"
    found = _compute_difference(*values)
    interval = compute_paired_interval(ours, theirs) if assertion.metric == "video" else None
    means = f"{one} {_compute_mean(values[0])} against {other} {_compute_mean(values[1])}"
    text = f"{means}: {_format_difference(found, interval)}"
    if assertion.hard:
        pairs = list(zip(*(_read_metric(cells, assertion.metric) for cells in _match_seeds(ours, theirs)), strict=True))
        if not pairs:
            return "inconclusive", f"{one} and {other} have no seed in common"
        return ("holds" if min(a - b for a, b in pairs) >= assertion.margin else "fails"), text
    points = COLUMNS[assertion.metric].points
    return _decide_outcome(found, assertion.margin, interval, points, min(map(len, values))), text


def _decide_outcome(found, margin, interval, points, seeds):
    """Decide on a difference (value, standard error) claimed to reach a margin.

    The rule is at the head of this file.
    """
    if seeds < 2:
        return "inconclusive"
    value, error = found
    shifted = [end - margin for end in interval] if interval else None
    if value >= margin and _is_significant(value, error, interval, points):
        return "holds"
    if value < margin and _is_significant(value - margin, error, shifted, points):
        return "fails"
    return "inconclusive"


def _is_significant(value, error, interval, points):
    if interval and interval[0] <= 0 <= interval[1]:
        return False
    return (points and abs(value) >= MIN_POINTS) or (value != 0 and abs(value) >= MIN_STANDARD_ERRORS * error)


def _judge_bounds(assertion, rows):
    values = {name: _read_metric(rows[name], assertion.metric) for name in assertion.rows}
    if any(value is None for row in values.values() for value in row):
        return [("inconclusive", f"{assertion.metric} is not known of every row")]
    if assertion.within is not None:
        return [_judge_equivalence(assertion, rows, values)]
    return [_judge_bound(assertion, rows, name, row) for name, row in values.items()]


def _judge_bound(assertion, rows, name, values):
    """Judge one row against a number."""
    limit, sign = _get_limit(assertion)
    text = f"{name} {_compute_mean(values)}{format_interval(_compute_interval(rows[name], assertion.metric))}"
    if assertion.equal is not None:
        return ("holds" if all(value == limit for value in values) else "fails"), text
    if assertion.hard:
        return ("holds" if all(sign * (value - limit) >= 0 for value in values) else "fails"), text
    value, error = sign * (statistics.fmean(values) - limit), _compute_standard_error(values)
    points = COLUMNS[assertion.metric].points
    if len(values) < 2:
        return "inconclusive", text
    return ("holds" if value >= 0 else "fails" if _is_significant(value, error, None, points) else "inconclusive"), text


def _get_limit(assertion):
    if assertion.equal is not None:
        return assertion.equal, 0
    return (assertion.at_least, 1) if assertion.at_least is not None else (assertion.at_most, -1)


def _judge_equivalence(assertion, rows, values):
    """Judge whether all rows are within so much of each other.

    The two that are farthest apart decide.
    """
    if assertion.metric == "scores":
        return _judge_same_scores(assertion, rows)
    low, high = (choose(values, key=lambda name: statistics.fmean(values[name])) for choose in (min, max))
    found = _compute_difference(values[high], values[low])
    interval = compute_paired_interval(rows[high], rows[low]) if assertion.metric == "video" else None
    means = f"{high} {_compute_mean(values[high])} is highest, {low} {_compute_mean(values[low])} lowest"
    text = f"{means}: {_format_difference(found, interval)}"
    if assertion.hard:
        return ("holds" if found[0] <= assertion.within else "fails"), text
    if min(map(len, values.values())) < 2:
        return "inconclusive", text
    if found[0] <= assertion.within:
        return "holds", text
    shifted = [end - assertion.within for end in interval] if interval else None
    beyond = _is_significant(found[0] - assertion.within, found[1], shifted, COLUMNS[assertion.metric].points)
    return ("fails" if beyond else "inconclusive"), text


def _judge_same_scores(assertion, rows):
    """Compare the scores that cells keep, number by number, and all answers."""
    cells = _match_seeds(*(rows[name] for name in assertion.rows))
    if not cells[0]:
        return "inconclusive", f"{' and '.join(assertion.rows)} have no seed in common"
    if len({cell["answers"]["list"] for row in cells for cell in row}) > 1:
        return "fails", f"{' and '.join(assertion.rows)} were tested on other videos"
    found = [_read_metric(row, "scores") for row in cells]
    apart = max(np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(found, 2))
    answers = [[cell["answers"]["right"] for cell in _sort_by_seed(row)] for row in cells]
    differ = sum(len(set(given)) > 1 for seeds in zip(*answers, strict=True) for given in zip(*seeds, strict=True))
    text = f"at most {apart:.2g} apart in {len(found[0][0])} videos of each seed; {differ} of "
    text += f"{sum(map(len, answers[0])):,} answers differ"
    return ("holds" if apart <= assertion.within and not differ else "fails"), text


# Numbers


def _read_metric(cells, name):
    """Return the value of each seed, in the order of seeds."""
    return [cell["scores"] if name == "scores" else cell["values"].get(name) for cell in _sort_by_seed(cells)]


def _sort_by_seed(cells):
    return sorted(cells, key=lambda cell: cell["seed"])


def _match_seeds(*rows):
    """Return the rows without cells of seeds that not all have: some may have failed."""
    seeds = set.intersection(*({cell["seed"] for cell in cells} for cells in rows))
    return [[cell for cell in cells if cell["seed"] in seeds] for cells in rows]


def _compute_difference(ours, theirs):
    """Return (difference of means, its standard error over seeds)."""
    error = math.hypot(_compute_standard_error(ours), _compute_standard_error(theirs))
    return statistics.fmean(ours) - statistics.fmean(theirs), error


def _compute_standard_error(values):
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def compute_paired_interval(ours, theirs):
    """Return the 95 % interval of the difference of video accuracies.

    Each video's answers are averaged over seeds.

    None where the two were tested on other videos. It says how much the choice of test videos matters, and not how much
    the seed does.
    """
    lists = {cell["answers"]["list"] for cell in (*ours, *theirs)}
    if len(lists) > 1:
        return None
    one_V, other_V = (np.mean([read_answers(cell) for cell in cells], axis=0) for cells in (ours, theirs))
    return metrics.bootstrap_interval(one_V - other_V, ours[0]["answers"]["groups"])


def _compute_interval(cells, name):
    """Return the interval of one row's own accuracy, None for other metrics."""
    if name != "video":
        return None
    return metrics.bootstrap_interval(
        np.mean([read_answers(cell) for cell in cells], axis=0), cells[0]["answers"]["groups"]
    )


def read_answers(cell):
    return np.array([int(digit) for digit in cell["answers"]["right"]])


def _compute_mean(values):
    text = f"{statistics.fmean(values):.4g}"
    return f"{text} ± {statistics.stdev(values):.2g}" if len(values) > 1 else text


def _format_difference(found, interval):
    value, error = found
    return f"{value:+.4g} (standard error {error:.2g}{format_interval(interval, '+')})"


def format_interval(interval, sign=""):
    return f", interval {interval[0]:{sign}.1f} to {interval[1]:{sign}.1f}" if interval else ""
