"""Temporal pooling."""

import pytest
import torch

from videores.models.temporal import POOLS


def test_known_values():
    features_BTD = torch.tensor([[[1.0, 5.0], [3.0, -1.0]], [[0.0, 2.0], [0.0, 4.0]]])
    assert POOLS["mean"](features_BTD).tolist() == [[2, 2], [0, 3]]
    assert POOLS["max"](features_BTD).tolist() == [[3, 5], [0, 4]]


@pytest.mark.parametrize("pool", POOLS)
def test_ignores_the_order_of_frames(pool):
    features_BTD = torch.randn(3, 7, 5)
    pooled_BD = POOLS[pool](features_BTD)
    assert pooled_BD.shape == (3, 5)
    torch.testing.assert_close(POOLS[pool](features_BTD[:, torch.randperm(7)]), pooled_BD)


@pytest.mark.parametrize("pool", POOLS)
def test_one_frame_is_itself(pool):
    features_BTD = torch.randn(2, 1, 4)
    assert torch.equal(POOLS[pool](features_BTD), features_BTD[:, 0])
