"""Folding batch norms: the same function in evaluation, for networks of every structure."""

import pytest
import torch
from helpers.weights import randomise
from torch.nn.modules.batchnorm import _BatchNorm

from videores.inference.folding import fold_batch_norms
from videores.models import create_model

SMALL = dict(layers=[1, 1], width=8)
NETWORKS = {
    "r3d_18": {},
    "r2plus1d_18": {},
    "f_r2d_18": {"shift": 4},
    "r2d_18": {"frames": 4},
    "r3d_50": {"groups": 2, "bias": True},
    "ir_csn_50": {},
    "ip_csn_50": {},
    "plain3d_18": {},
    "mc3_18": {"norm": "frozen", "se": 2, "control": "conv1x1"},
}


def count_norms(model):
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_no_norm_is_left_and_the_logits_stay(name):
    layers = {"layers": [1, 1, 1, 1]} if name.startswith("mc") else {}
    model = create_model(name, 5, **SMALL | layers, **NETWORKS[name]).eval()
    randomise(model)
    clips = torch.randn(2, 3, 4, 16, 16)
    folded = fold_batch_norms(model, clips)
    assert count_norms(model) > 2
    assert count_norms(folded) == 0
    with torch.no_grad():
        torch.testing.assert_close(folded(clips), model(clips), rtol=1e-4, atol=1e-4)


def test_norms_before_convolutions_stay():
    """In a pre-activated network the norm of a sum cannot be folded, those between two convolutions can."""
    model = create_model("r3d_18", 5, **SMALL, block="preact").eval()
    randomise(model)
    clips = torch.randn(2, 3, 4, 16, 16)
    folded = fold_batch_norms(model, clips)
    assert 0 < count_norms(folded) < count_norms(model)
    with torch.no_grad():
        torch.testing.assert_close(folded(clips), model(clips), rtol=1e-4, atol=1e-4)


def test_a_network_of_pytorchvideo_is_folded_too():
    model = create_model("pytorchvideo/x3d_xs", 5).eval()
    clips = torch.randn(1, 3, 4, 32, 32)
    folded = fold_batch_norms(model, clips)
    assert count_norms(folded) == 0
    with torch.no_grad():
        torch.testing.assert_close(folded(clips), model(clips), rtol=1e-4, atol=1e-4)
