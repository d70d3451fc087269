"""Estimates with their error, against references: scipy, a plain loop, and data of known truth."""

import re

import numpy as np
import pytest
from scipy import stats

from videores.ablation import assertions, null_check, null_rows, significance, spec, tables
from videores.ablation.docs import DOCS
from videores.ablation.significance import Estimate, compute_t_quantile, estimate_mean, resample_accuracies
from videores.errors import UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 10, 23])
@pytest.mark.parametrize("probability", [0.95, 0.96, 0.975, 0.999])
def test_quantiles_are_those_of_scipy(degrees, probability):
    assert compute_t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 5, 24])
@pytest.mark.parametrize("level", [0.04, 0.05])
def test_without_groups_it_is_the_paired_t_test_of_scipy(seeds, level):
    for difference in (0.0, 0.8, 3.0):
        ours, theirs = RNG.normal(difference, 1, seeds), RNG.normal(0, 1, seeds)
        estimate = estimate_mean(ours - theirs)
        reference = stats.ttest_rel(ours, theirs)
        low, high = reference.confidence_interval(1 - 2 * level)
        assert estimate.compute_limits(level) == pytest.approx((low, high))
        greater = stats.ttest_rel(ours, theirs, alternative="greater").pvalue
        assert (estimate.compute_limits(level)[0] > 0) == (greater < level)


@pytest.mark.parametrize("seeds", [2, 3, 5, 24])
def test_equivalence_is_two_one_sided_tests_of_scipy(seeds):
    outcomes = set()
    for margin in (0.1, 0.5, 1, 2, 20):
        apart_S = RNG.normal(0.2, 1, seeds)
        d = estimate_mean(apart_S)
        excesses = [d._replace(value=margin + d.value), d._replace(value=margin - d.value)]
        above = stats.ttest_1samp(apart_S, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(apart_S, margin, alternative="less").pvalue
        holds = assertions.decide_outcome(excesses) == "holds"
        assert holds == (max(above, below) < significance.LEVEL)
        outcomes.add(holds)
    assert len(outcomes) == 2 or seeds == 2


def test_the_error_is_that_of_a_plain_loop_over_seeds_and_groups():
    """Resample seeds and groups, one after the other; deviations of seeds are widened by S / (S - 1)."""
    seeds, groups, size = 3, 20, 4
    group_V = np.repeat(np.arange(groups), size)
    hard_G, skill_S = RNG.normal(0, 1, groups), RNG.normal(0, 0.4, seeds)
    right_SV = (RNG.normal(size=(seeds, groups * size)) < hard_G[group_V] + skill_S[:, None]).astype(int)
    rng, means = np.random.default_rng(1), []
    for _ in range(20_000):
        videos = np.concatenate([np.flatnonzero(group_V == g) for g in rng.integers(groups, size=groups)])
        accuracy_S = 100 * right_SV[:, videos].mean(1)
        picked = accuracy_S[rng.integers(seeds, size=seeds)].mean()
        means.append(accuracy_S.mean() + (picked - accuracy_S.mean()) * np.sqrt(seeds / (seeds - 1)))
    value_S = 100 * right_SV.mean(1)
    estimate = estimate_mean(value_S, resample_accuracies(right_SV, group_V), groups)
    assert estimate.value == pytest.approx(value_S.mean())
    assert estimate.error == pytest.approx(np.std(means), rel=0.03)
    assert estimate == estimate_mean(value_S, resample_accuracies(right_SV, group_V), groups), "deterministic"


def test_groups_of_different_sizes_count_by_their_videos():
    right_SV, group_V = np.array([[1, 1, 1, 0, 0, 1]]), np.array([0, 0, 0, 1, 1, 2])
    count_BG = significance.draw_groups(3)
    expected = [
        100 * (count_G * [3, 0, 1]).sum() / (count_G * [3, 2, 1]).sum() for count_G in count_BG[:50].astype(int)
    ]
    assert resample_accuracies(right_SV, group_V)[0, :50] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 3.0, 15.0])
def test_limits_cover_the_truth(seeds, spread):
    """Rows of a known difference in probability: at most LEVEL of the limits are beyond it, on each side."""
    rng, groups, size, truth, found = np.random.default_rng(2), 30, 4, 10.0, []
    group_V = np.repeat(np.arange(groups), size)
    for _ in range(400):
        p_V = rng.uniform(0.4, 0.6, groups)[group_V]  # of which neither spread nor truth leave 0 to 1
        ours_SV, theirs_SV = (
            rng.random((seeds, len(group_V))) < p_V + (gain + rng.normal(0, spread, (seeds, 1))) / 100
            for gain in (truth, 0.0)
        )
        apart_SB = resample_accuracies(ours_SV, group_V) - resample_accuracies(theirs_SV, group_V)
        value_S = 100 * (ours_SV.mean(1) - theirs_SV.mean(1))
        found.append(estimate_mean(value_S, apart_SB, groups).compute_limits())
    low, high = np.array(found).T
    assert (low > truth).mean() <= 0.05
    assert (high < truth).mean() <= 0.05


def test_where_all_groups_agree_there_is_an_error_still():
    assert estimate_mean([0.0, 0.0], np.zeros((2, 10)), groups=50) == Estimate(0.0, 2.0, 2, 2.0)


# -- the null check ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells():
    return tables.load_cells(DOCS / null_check.TABLE)


def test_equal_rows_differ_by_chance_at_most_one_time_in_twenty(cells):
    assert len(cells) >= 24
    for column in ("video", "gap", "train_loss"):
        for seeds in (2, 3):
            nulls = null_rows.compare_seeds(cells, seeds, column)
            assert len(nulls.value_P) == {2: 31_878, 3: 1_345_960}[seeds]
            holds, fails, _ = nulls.count_outcomes()
            assert max(holds, fails, nulls.count_outcomes(null_rows.MARGIN)[2]) <= 5, (column, seeds)


def test_pairs_are_estimated_as_assertions_do(cells):
    nulls, pairs = null_rows.compare_seeds(cells, 2), null_rows._list_pairs(24, 2).tolist()
    first, last = (cells[:2], cells[3:5]), (cells[18:20], cells[22:24])
    for ours, theirs in (first, last):
        seeds = [[cell["seed"] for cell in row] for row in (ours, theirs)]
        expected = assertions.estimate_rows("video", ours, theirs)
        place = pairs.index(seeds)
        assert nulls.value_P[place] == pytest.approx(expected.value)
        assert nulls.error_P[place] == pytest.approx(expected.error, rel=1e-3)


@pytest.mark.parametrize("shape", null_rows.SHAPES)
def test_simulated_equal_rows_differ_by_chance_at_most_one_time_in_twenty(shape):
    names = [name for name in spec.list_tables() if name != null_check.TABLE]
    pairs = null_rows.list_row_pairs({name: tables.load_cells(DOCS / name) for name in names})
    for seeds in (2, 3):
        holds, fails, _ = null_rows.simulate_nulls(pairs, seeds, shape, simulations=600).count_outcomes()
        assert max(holds, fails) <= 5


def test_the_null_page_begins_with_the_worst_share_of_each_table():
    page = (DOCS / "null.md").read_text()
    intro, shares, wide = re.split("## False outcomes|## Where it is wrong more often|## Seeds that", page)[:3]
    pairs = [re.findall(r"\| ([\d.]+) / ([\d.]+)", part) for part in (shares, wide)]
    worst = [max(float(share) for pair in table for share in pair) for table in pairs]
    assert [float(share) for share in re.findall(r"is (\d+\.\d) %", intro)] == worst


def test_too_few_seeds_give_no_null_check(tmp_path):
    with pytest.raises(UserError, match="at least 24 seeds"):
        null_check.write_null_check(tmp_path)
