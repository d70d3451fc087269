"""The learning-rate finder: what it makes of a curve, and the tool as users run it."""

import csv
import math

import numpy as np
import pytest
from helpers.commands import forked, succeeded, write_config, write_data

from videores.config.schema import TrainConfig
from videores.diagnostics import lr_finder
from videores.errors import UserError
from videores.training import optim


def test_rates_rise_in_equal_ratios_between_the_ends():
    rates = lr_finder.make_lr_ramp(1e-4, 1.0, 5)
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])


def test_smoothing_keeps_a_constant_and_starts_with_the_first_loss():
    assert lr_finder.smooth_losses([2.0] * 5) == pytest.approx([2.0] * 5)
    assert lr_finder.smooth_losses([3.0, 1.0])[0] == pytest.approx(3.0)
    assert lr_finder.smooth_losses([3.0, 1.0])[1] == pytest.approx((0.95 * 3 + 1) / 1.95)


def test_the_suggestion_is_where_the_loss_falls_fastest_not_where_it_is_lowest():
    """A logistic fall around 1e-2, lowest near 0.1, and a divergence after it."""
    rates = lr_finder.make_lr_ramp(1e-5, 10, 121)
    x = np.log10(rates)
    losses = 2 / (1 + np.exp(4 * (x + 2))) + 10 ** (2 * (x - 0.5))
    assert lr_finder.suggest_lr(rates, list(losses)) == pytest.approx(1e-2, rel=0.2)


def test_smoothing_does_not_move_the_suggestion():
    """A running mean alone lags behind the fall, and the suggestion is then several times too high."""
    rates = lr_finder.make_lr_ramp(1e-5, 1, 101)
    losses = (2 / (1 + np.exp(6 * (np.log10(rates) + 3)))).tolist()
    assert lr_finder.suggest_lr(rates, lr_finder.center_smooth_losses(losses)) == pytest.approx(1e-3, rel=0.5)
    assert lr_finder.suggest_lr(rates, lr_finder.smooth_losses(losses)) > 1.5e-3
    for diverged in ([500.0] * 5, [math.nan]):
        smooth = lr_finder.center_smooth_losses(losses[:80] + diverged)
        assert lr_finder.suggest_lr(rates, smooth) == pytest.approx(1e-3, rel=0.5)


def test_a_curve_that_only_rises_gives_no_suggestion():
    with pytest.raises(UserError, match="smaller --lowest"):
        lr_finder.suggest_lr(lr_finder.make_lr_ramp(1, 10, 30), list(range(30)))


@pytest.mark.parametrize("first", [math.nan, math.inf])
def test_a_first_loss_that_is_not_finite_gives_no_suggestion(first):
    with pytest.raises(UserError, match="smaller --lowest"):
        lr_finder.suggest_lr([1e-5], lr_finder.center_smooth_losses([first]))


def test_a_loss_diverges_when_it_is_not_finite_or_four_times_the_lowest():
    assert lr_finder.find_divergence([1.0, math.nan])
    assert not lr_finder.find_divergence([1.0] * 20)
    assert not lr_finder.find_divergence([1.0] * 3 + [100.0])  # too early to say
    assert lr_finder.find_divergence([1.0] * 15 + [100.0] * 3)


def test_the_rate_is_told_as_the_key_that_base_batch_scales():
    """Whoever writes what is told into the configuration trains at the rate that was found."""
    recipe = {"epochs": 1, "lr": 0.01, "base_batch": 32}
    assert lr_finder.format_suggestion_text(TrainConfig(**recipe), 0.02, 8).startswith(
        "0.08 (train.lr, 0.02 at 8 videos a step;"
    )
    assert optim.scale_lr(TrainConfig(**recipe | {"lr": 0.08}), 8) == pytest.approx(0.02)
    assert lr_finder.format_suggestion_text(TrainConfig(epochs=1), 0.02, 8).startswith("0.02 (train.lr;")


def test_a_rate_on_which_seeds_disagree_is_not_sure():
    assert lr_finder.format_certainty([0.01, 0.02]).startswith("sure ")
    unsure = lr_finder.format_certainty([0.001, 0.02])
    assert unsure.startswith("unsure ")
    assert "20.0 times" in unsure
    assert lr_finder.format_certainty([0.01, 0.02], at_end=True).startswith("unsure ")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A working folder where the tool has run twice from the same seed, and once with wrong options."""
    place = tmp_path_factory.mktemp("place")
    write_data(place / "data")
    train = {"epochs": 1, "schedule": "plateau", "ema": 0.9}
    for name in ("one", "two"):
        write_config(place / f"{name}.yaml", train=train)
    command = ("--steps", "40", "--lowest", "1e-4", "--highest", "1")
    cases = [("find_lr.py", "--cfg", f"{name}.yaml", *command) for name in ("one", "two")]
    cases.append(("find_lr.py", "--cfg", "one.yaml", "--lowest", "1", "--highest", "0.1"))
    cases.append(("train.py", "--cfg", "one.yaml"))
    weights = ("model.weights=runs/one/checkpoints/last.ckpt", "data.transform.mean=[0.5,0.5,0.5]")
    cases += [(tool, "--cfg", "one.yaml", *weights, "run.name=other") for tool in ("find_lr.py", "train.py")]
    return place, forked(cases, place)


def table(place, name):
    with (place / "results" / "find_lr" / name / "lr.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def test_the_tool_writes_its_curve_and_no_run_folder(found):
    place, (first, *_) = found
    succeeded(first)
    for seed in (0, 1):
        rows = [row for row in table(place, "one") if row["seed"] == seed]
        assert len(rows) >= lr_finder.MIN_STEPS
        assert [row["lr"] for row in rows] == pytest.approx(lr_finder.make_lr_ramp(1e-4, 1, 40)[: len(rows)])
    assert (place / "results" / "find_lr" / "one" / "lr.png").read_bytes().startswith(b"\x89PNG")
    assert ">falls fastest: " in (place / "results" / "find_lr" / "one" / "lr.svg").read_text()
    assert "rate " in first.stdout
    assert "single seeds give " in first.stdout
    assert sorted(path.name for path in place.iterdir()) == ["data", "one.yaml", "results", "runs", "two.yaml"]


def test_the_same_seed_gives_the_same_curve(found):
    place, _ = found
    assert table(place, "one") == table(place, "two")


def test_wrong_bounds_are_refused(found):
    _, (_, _, wrong, *_) = found
    assert wrong.returncode == 2
    assert "--lowest" in wrong.stderr


def test_weights_of_another_normalization_are_refused_as_training_refuses_them(found):
    _, (*_, trained, finder, training) = found
    succeeded(trained)
    assert finder.returncode == training.returncode == 2
    assert "mean" in finder.stderr
    assert finder.stderr.splitlines()[-1] == training.stderr.splitlines()[-1]
