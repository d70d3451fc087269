"""Plans: widths of layers, and what follows them."""

import pytest
import torch

from videores.errors import UserError
from videores.models import create_model

SMALL = dict(layers=[1, 1], width=8)


def test_a_plan_says_widths_and_the_inputs_norms_and_classifier_follow():
    model = create_model("r3d_18", 3, **SMALL, widths={"layer1.0.conv1.0": 3, "layer2.0.conv1.0": 20})
    block = model.layer1[0]
    assert (block.conv1[0].out_channels, block.conv1[1].num_features, block.conv2[0].in_channels) == (3, 3, 3)
    assert model.layer2[0].conv1[0].weight.shape == (20, 8, 3, 3, 3)
    names = ("layer2.0.conv2.0", "layer2.0.downsample.0")
    model = create_model("r3d_18", 3, **SMALL, widths=dict.fromkeys(names, 5))
    assert model.fc.in_features == model.num_features == 5
    assert model(torch.randn(1, 3, 8, 32, 32)).shape == (1, 3)


def test_depthwise_convolutions_follow_their_input():
    model = create_model("ir_csn_50", 3, **SMALL, widths={"layer1.0.conv1.0": 6})
    look = model.layer1[0].conv2[0]
    assert look.in_channels == look.out_channels == look.groups == 6


def test_what_starts_at_zero_still_does():
    model = create_model("r3d_18", 3, **SMALL, zero_init=True, widths={"layer1.0.conv1.0": 3})
    assert not model.layer1[0].conv2[1].weight.any()
    assert model.layer1[0].conv1[1].weight.eq(1).all()


@pytest.mark.parametrize(
    ("name", "widths", "named"),
    [
        ("r3d_18", {"layer1.0.conv9.0": 4}, r"layer1\.0\.conv9\.0"),
        ("r3d_18", {"layer1.0.conv1.1": 4}, r"layer1\.0\.conv1\.1"),
        ("r3d_18", {"layer1.0.conv2.0": 4}, "model.widths"),  # whose output is added to the stem's
        ("r3d_18", {"layer1.0.conv1.0": 0}, "widths"),
        ("ir_csn_50", {"layer1.0.conv2.0": 4}, r"layer1\.0\.conv2\.0"),
        ("resnext3d_50", {"layer1.0.conv2.0": 33}, r"layer1\.0\.conv2\.0"),
        ("f_r2d_18", {"layer1.0.conv1.0": 4}, r"layer1\.0\.conv1\.0"),
    ],
)
def test_plans_that_do_not_fit_are_refused(name, widths, named):
    options = {} if name == "resnext3d_50" else SMALL
    with pytest.raises(UserError, match=named):
        create_model(name, 3, **options, widths=widths)
