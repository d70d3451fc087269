"""Costs: counted by hand on small networks, equal to published counts on large ones; times of right outputs."""

import pytest
import torch
import torchvision
from torch import nn

from videores.compute import cost
from videores.models.registry import create_model


def on_meta(name, classes=400, **options):
    with torch.device("meta"):
        return create_model(name, classes, **options)


def test_a_convolution_costs_what_arithmetic_says():
    conv = nn.Conv3d(4, 8, (3, 3, 3), stride=(1, 2, 2), padding=1, groups=2)
    assert cost.count_parameters(conv) == 8 * 2 * 27 + 8
    assert cost.count_gmacs(conv, (2, 4, 5, 8, 8)) == pytest.approx(2 * 8 * 5 * 4 * 4 * 2 * 27 / 1e9, rel=1e-12)
    assert cost.count_activations(conv, (1, 4, 5, 8, 8)) == 8 * 5 * 4 * 4


def test_a_linear_layer_costs_its_weights():
    assert cost.count_gmacs(nn.Linear(30, 7), (3, 30)) == pytest.approx(3 * 30 * 7 / 1e9, rel=1e-12)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_counts_equal_torchvisions_own(name):
    meta = torchvision.models.get_model_weights(name)["KINETICS400_V1"].meta
    model = on_meta(name)
    assert cost.count_parameters(model) == meta["num_params"]
    assert round(cost.count_gmacs(model, (1, 3, 16, 112, 112)), 3) == meta["_ops"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_counts_equal_torchvisions_own_in_2d(name):
    meta = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta
    model = on_meta(name.replace("resnet", "f_r2d_"), 1000)
    assert cost.count_parameters(model) == meta["num_params"]
    assert round(cost.count_gmacs(model, (1, 3, 1, 224, 224)), 3) == meta["_ops"]


def test_cost_is_proportional_to_clips_and_to_views():
    model = on_meta("mc3_18", layers=[1], width=8)
    one, three = (cost.count_gmacs(model, (b, 3, 4, 32, 32)) for b in (1, 3))
    assert three == pytest.approx(3 * one)
    counted = cost.count_costs(model, 4, 32, views=30)
    assert counted["gmacs_video"] == pytest.approx(30 * one)


def test_a_real_model_is_counted_without_touching_it():
    model = create_model("r3d_18", 5, layers=[1], width=8).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cost.count_costs(model, 4, 32)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert next(model.parameters()).device.type == "cpu"


def test_activations_of_a_network_are_the_sum_over_its_layers():
    model = on_meta("r3d_18", 7, layers=[1], width=8)
    assert cost.count_activations(model, (1, 3, 4, 32, 32)) == 3 * 8 * 4 * 16 * 16 + 7


# Memory

MB = 2**20


def test_inference_keeps_one_layers_input_and_output():
    """Four equal layers on 1 MB: the input, two more at a time, and the weights."""
    model = nn.Sequential(*[nn.AvgPool3d(1) for _ in range(4)])
    assert cost.estimate_peak_bytes(model, (1, 4, 4, 128, 128), train=False) == 3 * MB


def test_training_keeps_what_the_backward_pass_needs():
    model = nn.Sequential(*[nn.Conv3d(4, 4, 1, bias=False) for _ in range(6)])
    shape = (1, 4, 4, 128, 128)
    inference, training = (cost.estimate_peak_bytes(model, shape, train) for train in (False, True))
    assert 3 * MB <= inference < 3.1 * MB
    assert 7 * MB <= training < 9.1 * MB


def test_in_place_layers_take_no_memory():
    layers = [nn.AvgPool3d(1), nn.ReLU(inplace=True), nn.ReLU(inplace=True)]
    assert cost.estimate_peak_bytes(nn.Sequential(*layers), (1, 4, 4, 128, 128), train=False) == 2 * MB


def test_checkpointing_saves_training_memory():
    options = {"layers": [8, 8, 8], "width": 16}
    plain, saving = on_meta("f_r2d_18", 7, **options), on_meta("f_r2d_18", 7, checkpoint="stages", **options)
    shape = (4, 3, 8, 64, 64)
    assert cost.estimate_peak_bytes(saving, shape, train=True) < 0.85 * cost.estimate_peak_bytes(
        plain, shape, train=True
    )


# Time


@pytest.mark.parametrize("mode", [mode for mode in cost.MODES if "compiled" not in mode])
def test_every_mode_runs_and_answers_as_fp32_does(mode):
    model, shape = create_model("r2plus1d_18", 5, layers=[1], width=8), (2, 3, 4, 32, 32)
    found = cost.measure_latency(model, shape, [mode], rounds=2)[mode]
    assert found["clips_s"] == pytest.approx(2e3 / found["ms"])
    clips_BCTHW = torch.randn(shape)
    expected = cost.make_runner(model, clips_BCTHW, cost.MODES["fp32"])()
    answer = cost.make_runner(model, clips_BCTHW, cost.MODES[mode])()
    torch.testing.assert_close(answer.float(), expected, rtol=0.05, atol=0.02 if "bf16" in mode else 1e-5)
    assert all(p.is_contiguous() for p in model.parameters())


def test_functions_take_turns():
    calls = []
    seconds = cost.time_interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert set(seconds) == {"a", "b"}
