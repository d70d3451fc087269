"""Temporal pooling: known values, what it knows of the order of frames, where it stands in the network."""

from typing import get_args

import pytest
import torch
from torch import nn

from videores.config.network import Pool
from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.temporal import ORDERLESS, GeMPool, make_pool

POOLS = get_args(Pool)

TINY = {"layers": (1, 1), "width": 8, "stem": "small"}


def pool_of(name, channels=5, frames=7):
    torch.manual_seed(0)
    return make_pool(name, channels, frames)


def test_known_values():
    features_BTD = torch.tensor([[[1.0, 5.0], [3.0, -1.0]], [[0.0, 2.0], [0.0, 4.0]]])
    assert pool_of("mean")(features_BTD).tolist() == [[2, 2], [0, 3]]
    assert pool_of("max")(features_BTD).tolist() == [[3, 5], [0, 4]]
    weights = pool_of("weights", 2, 2)
    assert weights(features_BTD).tolist() == [[2, 2], [0, 3]]
    weights.logit_T.data = torch.tensor([100.0, 0.0])
    assert weights(features_BTD).tolist() == [[1, 5], [0, 2]]


@pytest.mark.parametrize("p", [1, 3, 50])
def test_gem_is_a_power_mean_from_the_mean_towards_the_maximum(p):
    pool, features_BTD = GeMPool(5, 7), torch.rand(3, 7, 5, dtype=torch.float64) + 0.1
    pool.log_p.data = torch.tensor(p / 3, dtype=torch.float64).log()
    expected = torch.linalg.vector_norm(features_BTD, p, dim=1) / 7 ** (1 / p)
    torch.testing.assert_close(pool(features_BTD), expected)
    assert (pool(features_BTD) >= features_BTD.mean(1) - 1e-9).all()
    assert (pool(features_BTD) <= features_BTD.amax(1) + 1e-9).all()


def test_gem_starts_at_3_and_bears_dead_features():
    features_BTD = torch.zeros(2, 4, 3, requires_grad=True)
    pool = GeMPool(3, 4)
    pool(features_BTD).sum().backward()
    assert features_BTD.grad.isfinite().all()
    assert pool.log_p.grad.isfinite()
    torch.testing.assert_close(pool(torch.tensor([[[1.0], [2.0]]])).item(), (9 / 2) ** (1 / 3))


@pytest.mark.parametrize("name", POOLS)
def test_only_the_orderless_ignore_the_order_of_frames(name):
    pool, features_BTD = pool_of(name), torch.rand(3, 7, 5)
    if name == "weights":
        nn.init.normal_(pool.logit_T)
    with torch.no_grad():
        pooled_BD, backwards_BD = pool(features_BTD), pool(features_BTD.flip(1))
    assert pooled_BD.shape == (3, 5)
    assert torch.allclose(pooled_BD, backwards_BD, atol=1e-6) == (name in ORDERLESS)


@pytest.mark.parametrize("name", ["mean", "max", "gem", "attention", "weights"])
def test_one_frame_is_itself(name):
    features_BTD = torch.rand(2, 1, 4)
    torch.testing.assert_close(pool_of(name, 4, 1)(features_BTD), features_BTD[:, 0])


@pytest.mark.parametrize("name", POOLS)
def test_a_clip_does_not_see_the_others_of_its_batch(name):
    pool, features_BTD = pool_of(name), torch.rand(3, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(pool(features_BTD)[1:2], pool(features_BTD[1:2]))


def test_mean_and_max_have_no_parameters():
    """Else torchvision's weights would not load with strict=True."""
    with torch.device("meta"):
        for pool in ("mean", "max"):
            keys = create_model("r3d_18", 5, pool=pool).state_dict().keys()
            assert not [key for key in keys if key.startswith("pool")]


def test_the_mean_of_logits_is_the_logits_of_the_mean():
    torch.manual_seed(0)
    before, clips_BCTHW = create_model("f_r2d_18", 5, **TINY).eval(), torch.randn(2, 3, 4, 32, 32)
    after = create_model("f_r2d_18", 5, **TINY, consensus="logits").eval()
    after.load_state_dict(before.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(after(clips_BCTHW), before(clips_BCTHW))


def test_consensus_after_the_classifier_pools_logits():
    torch.manual_seed(0)
    model, features_BTD = create_model("f_r2d_18", 5, **TINY, pool="max", consensus="logits"), torch.rand(2, 4, 16)
    assert torch.equal(model.head(features_BTD), model.fc(features_BTD).amax(1))


def test_weights_refuse_another_length():
    model = create_model("r3d_18", 5, **TINY, pool="weights", frames=8).eval()
    assert model.pool.logit_T.shape == (4,)  # the second stage halves the frames
    assert model(torch.randn(1, 3, 8, 32, 32)).shape == (1, 5)
    with pytest.raises(UserError, match="made for 4 time steps and got 2: clips must have as many frames"):
        model(torch.randn(1, 3, 4, 32, 32))


def test_stage_pool_halves_the_frames_between_stages_by_a_maximum():
    model = create_model("f_r2d_18", 5, layers=(1, 1, 1), width=8, stem="small", stage_pool=True)
    assert model.features(torch.randn(2, 3, 9, 32, 32)).shape[:2] == (2, 3)
    assert model.features(torch.randn(2, 3, 1, 32, 32)).shape[:2] == (2, 1)


def test_pools_work_under_bf16_and_answer_in_float32():
    for name in POOLS:
        frames = {"frames": 4} if name == "weights" else {}
        model = create_model("f_r2d_18", 5, **TINY, pool=name, **frames)
        with torch.autocast("cpu", torch.bfloat16):
            logits_BN = model(torch.randn(2, 3, 4, 32, 32))
        assert logits_BN.dtype == torch.float32
        assert logits_BN.isfinite().all()
