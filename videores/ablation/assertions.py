"""Whether an assertion holds: pure functions of the cells' numbers.

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

POINTS = 3  # a difference of accuracies that counts
ERRORS = 2  # standard errors that count
OUTCOMES = ("fails", "inconclusive", "holds")  # from worst to best


def judge(assertion, rows):
    """{"claim", "outcome", "numbers", "hard"}; `rows` has {row: [cell of each seed]}, of those that have results."""
    missing = [name for name in assertion.names() if name not in rows]
    if missing:
        return said(assertion, "inconclusive", [f"no result of {', '.join(missing)}"])
    checks = order(assertion, rows) if assertion.above else bounds(assertion, rows)
    worst = min((outcome for outcome, _ in checks), key=OUTCOMES.index)
    return said(assertion, worst, [f"{text}: {outcome}" if len(checks) > 1 else text for outcome, text in checks])


def said(assertion, outcome, numbers):
    return {"claim": assertion.claim, "outcome": outcome, "numbers": numbers, "hard": assertion.hard}


def order(assertion, rows):
    pairs = itertools.product(assertion.above, assertion.below)
    return [compare(assertion, rows[one], rows[other], one, other) for one, other in pairs]


def compare(assertion, ours, theirs, one, other):
    """One pair of rows: outcome and numbers."""
    values = [metric(cells, assertion.metric) for cells in (ours, theirs)]
    if None in (*values[0], *values[1]):
        return "inconclusive", f"{assertion.metric} is not known of {one} or {other}"
    found = difference(*values)
    interval = paired_interval(ours, theirs) if assertion.metric == "video" else None
    text = f"{one} {mean(values[0])} against {other} {mean(values[1])}: {describe(found, interval)}"
    if assertion.hard:
        pairs = list(zip(*(metric(cells, assertion.metric) for cells in of_same_seeds(ours, theirs)), strict=True))
        if not pairs:
            return "inconclusive", f"{one} and {other} have no seed in common"
        return ("holds" if min(a - b for a, b in pairs) >= assertion.margin else "fails"), text
    points = COLUMNS[assertion.metric].points
    return decide(found, assertion.margin, interval, points, min(map(len, values))), text


def decide(found, margin, interval, points, seeds):
    """The rule at the head of this file, for a difference (value, standard error) that is claimed to reach a margin."""
    if seeds < 2:
        return "inconclusive"
    value, error = found
    shifted = [end - margin for end in interval] if interval else None
    if value >= margin and counts(value, error, interval, points):
        return "holds"
    if value < margin and counts(value - margin, error, shifted, points):
        return "fails"
    return "inconclusive"


def counts(value, error, interval, points):
    if interval and interval[0] <= 0 <= interval[1]:
        return False
    return (points and abs(value) >= POINTS) or (value != 0 and abs(value) >= ERRORS * error)


def bounds(assertion, rows):
    values = {name: metric(rows[name], assertion.metric) for name in assertion.rows}
    if any(value is None for row in values.values() for value in row):
        return [("inconclusive", f"{assertion.metric} is not known of every row")]
    if assertion.within is not None:
        return [close(assertion, rows, values)]
    return [bound(assertion, rows, name, row) for name, row in values.items()]


def bound(assertion, rows, name, values):
    """One row against a number."""
    limit, sign = limit_of(assertion)
    text = f"{name} {mean(values)}{between(own_interval(rows[name], assertion.metric))}"
    if assertion.equal is not None:
        return ("holds" if all(value == limit for value in values) else "fails"), text
    if assertion.hard:
        return ("holds" if all(sign * (value - limit) >= 0 for value in values) else "fails"), text
    value, error = sign * (statistics.fmean(values) - limit), standard_error(values)
    points = COLUMNS[assertion.metric].points
    if len(values) < 2:
        return "inconclusive", text
    return ("holds" if value >= 0 else "fails" if counts(value, error, None, points) else "inconclusive"), text


def limit_of(assertion):
    if assertion.equal is not None:
        return assertion.equal, 0
    return (assertion.at_least, 1) if assertion.at_least is not None else (assertion.at_most, -1)


def close(assertion, rows, values):
    """All rows within so much of each other: the two that are farthest apart decide."""
    if assertion.metric == "scores":
        return same_scores(assertion, rows)
    low, high = (choose(values, key=lambda name: statistics.fmean(values[name])) for choose in (min, max))
    found = difference(values[high], values[low])
    interval = paired_interval(rows[high], rows[low]) if assertion.metric == "video" else None
    text = f"{high} {mean(values[high])} is highest, {low} {mean(values[low])} lowest: {describe(found, interval)}"
    if assertion.hard:
        return ("holds" if found[0] <= assertion.within else "fails"), text
    if min(map(len, values.values())) < 2:
        return "inconclusive", text
    if found[0] <= assertion.within:
        return "holds", text
    shifted = [end - assertion.within for end in interval] if interval else None
    beyond = counts(found[0] - assertion.within, found[1], shifted, COLUMNS[assertion.metric].points)
    return ("fails" if beyond else "inconclusive"), text


def same_scores(assertion, rows):
    """The scores that cells keep, number by number, and all answers."""
    cells = of_same_seeds(*(rows[name] for name in assertion.rows))
    if not cells[0]:
        return "inconclusive", f"{' and '.join(assertion.rows)} have no seed in common"
    if len({cell["answers"]["list"] for row in cells for cell in row}) > 1:
        return "fails", f"{' and '.join(assertion.rows)} were tested on other videos"
    found = [metric(row, "scores") for row in cells]
    apart = max(np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(found, 2))
    answers = [[cell["answers"]["right"] for cell in ordered(row)] for row in cells]
    differ = sum(len(set(given)) > 1 for seeds in zip(*answers, strict=True) for given in zip(*seeds, strict=True))
    text = f"at most {apart:.2g} apart in {len(found[0][0])} videos of each seed; {differ} of "
    text += f"{sum(map(len, answers[0])):,} answers differ"
    return ("holds" if apart <= assertion.within and not differ else "fails"), text


# Numbers


def metric(cells, name):
    """The value of each seed, in the order of seeds."""
    return [cell["scores"] if name == "scores" else cell["values"].get(name) for cell in ordered(cells)]


def ordered(cells):
    return sorted(cells, key=lambda cell: cell["seed"])


def of_same_seeds(*rows):
    """The rows without the cells of seeds that not all have: some may have failed."""
    seeds = set.intersection(*({cell["seed"] for cell in cells} for cells in rows))
    return [[cell for cell in cells if cell["seed"] in seeds] for cells in rows]


def difference(ours, theirs):
    """(difference of means, its standard error over seeds)."""
    error = math.hypot(standard_error(ours), standard_error(theirs))
    return statistics.fmean(ours) - statistics.fmean(theirs), error


def standard_error(values):
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def paired_interval(ours, theirs):
    """95 % interval of the difference of video accuracies, each video's answers averaged over seeds.

    None where the two were tested on other videos. It says how much the choice of test videos matters, and not how much
    the seed does.
    """
    lists = {cell["answers"]["list"] for cell in (*ours, *theirs)}
    if len(lists) > 1:
        return None
    one_V, other_V = (np.mean([right(cell) for cell in cells], axis=0) for cells in (ours, theirs))
    return metrics.bootstrap_interval(one_V - other_V, ours[0]["answers"]["groups"])


def own_interval(cells, name):
    """The same of one row's own accuracy; None of what is no accuracy of videos."""
    if name != "video":
        return None
    return metrics.bootstrap_interval(np.mean([right(cell) for cell in cells], axis=0), cells[0]["answers"]["groups"])


def right(cell):
    return np.array([int(digit) for digit in cell["answers"]["right"]])


def mean(values):
    text = f"{statistics.fmean(values):.4g}"
    return f"{text} ± {statistics.stdev(values):.2g}" if len(values) > 1 else text


def describe(found, interval):
    value, error = found
    return f"{value:+.4g} (standard error {error:.2g}{between(interval, '+')})"


def between(interval, sign=""):
    return f", interval {interval[0]:{sign}.1f} to {interval[1]:{sign}.1f}" if interval else ""
