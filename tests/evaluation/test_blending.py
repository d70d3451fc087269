"""The loss weights of Gradient-Blending, of curves whose weights are known."""

import pytest

from videores.errors import UserError
from videores.evaluation.blending import MIN_OVERFITTING, Losses, compute_blend

START = Losses(train=2.0, val=2.0)


def test_weights_are_generalization_over_squared_overfitting():
    """G of 1, 1 and 0.5, O of 0.5, 1 and 0.25: G / O^2 of 4, 1 and 8."""
    found = compute_blend(START, {"joint": Losses(0.5, 1.0), "rgb": Losses(0.0, 1.0), "audio": Losses(1.25, 1.5)})
    assert {name: blend.weight for name, blend in found.items()} == pytest.approx(
        {"joint": 4 / 13, "rgb": 1 / 13, "audio": 8 / 13}
    )
    assert found["rgb"].ratio == pytest.approx(1.0)


def test_what_was_overfitted_before_the_start_does_not_count():
    found = compute_blend(Losses(1.0, 1.5), {"a": Losses(0.5, 1.25), "b": Losses(0.5, 1.0)})
    assert found["a"].overfitting == pytest.approx(0.25)
    assert found["b"].overfitting == 0
    assert found["b"].weight / found["a"].weight == pytest.approx((0.5 / MIN_OVERFITTING**2) / (0.25 / 0.25**2))


def test_what_does_not_generalize_has_no_weight_and_all_such_are_refused():
    found = compute_blend(START, {"a": Losses(0.5, 2.5), "b": Losses(0.5, 1.0)})
    assert (found["a"].weight, found["b"].weight) == (0, 1)
    with pytest.raises(UserError, match="longer"):
        compute_blend(START, {"a": Losses(0.5, 2.5)})
