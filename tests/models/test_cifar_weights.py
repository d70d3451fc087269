"""Weights of CIFAR networks: the order of channels of shortcuts that pad on both sides, and the accuracy of a test."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cifar import MEAN, STD, CifarNet, rename_fc
from helpers.commands import forked, read_result, succeeded
from helpers.source import ROOT
from helpers.videos import real_data, write_lines
from helpers.weights import clips, logits, randomise, refusal, same_states, save

from videores.models.registry import create_model
from videores.models.weights import loading


def pad_both_sides(state):
    """The weights as akamaster's file has them, whose channel i is ours[i]."""
    ours = {1: [*range(16)]}
    ours[2] = [*range(16, 24), *ours[1], *range(24, 32)]
    ours[3] = [*range(32, 48), *ours[2], *range(48, 64)]
    made = {}
    for key, value in state.items():
        layer = re.match(r"layer(\d)\.(\d+)\.(conv1|conv2|bn2)", key)
        if layer and layer[3] == "conv1":
            value = value[:, ours[max(int(layer[1]) - (layer[2] == "0"), 1)]]
        elif layer and value.ndim:
            value = value[ours[int(layer[1])]]
        made[key] = value[:, ours[3]] if key == "fc.weight" else value
    return {f"module.{key}": value for key, value in rename_fc(made).items()}


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_network_that_pads_on_both_sides_computes_the_same_here(tmp_path, blocks):
    theirs = randomise(CifarNet(blocks)).eval()
    path = save({"state_dict": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "x.th")
    model = create_model(f"cifar2d_{6 * blocks + 2}", 10)
    assert loading.load_weights(model, f"akamaster:{path}").new == []
    pictures = clips(4, 3, 32, 32)
    torch.testing.assert_close(logits(model, pictures[:, :, None]), theirs(pictures).detach(), rtol=1e-5, atol=1e-5)
    renamed = create_model(f"cifar2d_{6 * blocks + 2}", 10)
    loading.load_weights(renamed, f"torchvision:{save(rename_fc(theirs.state_dict()), tmp_path / 'renamed.pth')}")
    assert (logits(renamed, pictures[:, :, None]) - theirs(pictures)).abs().max() > 0.01  # what a rename alone does


def test_the_order_of_channels_has_an_inverse(tmp_path):
    source, model = randomise(create_model("cifar2d_20", 10)), create_model("cifar2d_20", 10)
    loading.load_weights(model, f"akamaster:{save(pad_both_sides(source.state_dict()), tmp_path / 'x.th')}")
    assert same_states(model.state_dict(), source.state_dict())


def test_names_of_both_sides_are_never_taken_for_ours(tmp_path):
    path = save({"state_dict": CifarNet().state_dict()}, tmp_path / "x.th")
    for source in (f"torchvision:{path}", path):
        assert f"akamaster:{path}" in refusal(create_model("cifar2d_20", 10), source)


def test_shortcuts_that_project_keep_their_order(tmp_path):
    source = randomise(create_model("cifar2d_20", 10, shortcut="B"))
    state = {key.replace("downsample", "shortcut"): value for key, value in rename_fc(source.state_dict()).items()}
    model = create_model("cifar2d_20", 10, shortcut="B")
    loading.load_weights(model, f"akamaster:{save(state, tmp_path / 'x.th')}")
    assert same_states(model.state_dict(), source.state_dict())
