"""Norms, shortcuts and the other parts of blocks, one by one."""

import copy

import pytest
import torch
from torch import nn

from videores.models import cpu_conv
from videores.models.layers import Shift, Subsample, drop_branch
from videores.models.norms import group_norm
from videores.models.registry import create_model

FRAMES = 8
SMALL = {"layers": (1, 1, 1, 1), "width": 8}


def build(name, **overrides):
    torch.manual_seed(0)
    model = create_model(name, 7, **{**SMALL, **overrides})
    nn.init.normal_(model.fc.weight)
    return model


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


# ------------------------------------------------------------------------------------------ normalisation

BIASED = [
    ("f_r2d_18", {}),
    ("f_r2d_50", {"shortcut": "C"}),
    ("r3d_18", {"control": "scaled"}),
    ("r2plus1d_50", {"mid": "paper"}),
    ("ip_csn_50", {}),
    ("r2plus1d_18", {"connect": "separable"}),
]


@pytest.mark.parametrize(("name", "overrides"), BIASED)
def test_a_bias_before_a_norm_is_cancelled_in_training_and_not_after_it(name, overrides):
    model, clips_BCTHW = build(name, **overrides, bias=True).double(), torch.randn(2, 3, 8, 40, 36).double()
    biases = [m.bias for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    logits_BN = model(clips_BCTHW)
    logits_BN.square().sum().backward()
    largest = max(p.grad.abs().max() for p in model.parameters())
    assert max(b.grad.abs().max() for b in biases) < 1e-9 * largest
    with torch.no_grad():
        scored_before = copy.deepcopy(model).eval()(clips_BCTHW)
        for bias in biases:
            bias.add_(torch.randn_like(bias))
        assert relative(copy.deepcopy(model)(clips_BCTHW), logits_BN) < 1e-9
        assert relative(model.eval()(clips_BCTHW), scored_before) > 1e-3


@pytest.mark.parametrize("name", ["f_r2d_18", "r3d_18"])
def test_batch_norm_is_over_clips_frames_and_pixels(name):
    model, seen = build(name), []
    norm = model.layer1[0].bn1 if name == "f_r2d_18" else model.layer1[0].conv1[1]
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    norm.register_forward_hook(lambda m, inputs, output: seen.append(output.clone()))  # the relu writes into it
    model(torch.randn(2, 3, FRAMES, 48, 48))
    by_channel = seen[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(by_channel.mean(1), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(by_channel.var(1, correction=0), torch.ones(8), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["f_r2d_18", "r2plus1d_50"])
def test_frozen_norms_survive_train(name):
    model, clips_BCTHW = build(name, norm="frozen").train(), torch.randn(2, 3, FRAMES, 40, 36)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frozen = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert frozen
    assert not any(m.training for m in frozen)
    assert not any(p.requires_grad for m in frozen for p in m.parameters())
    assert torch.equal(model(clips_BCTHW), model.eval()(clips_BCTHW))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert list(before) == list(create_model(name, 7, **SMALL).state_dict())


@pytest.mark.parametrize("channels", [8, 16, 45, 64, 83, 144, 230, 512])
def test_group_norm_has_up_to_32_groups_of_two_channels_or_more(channels):
    groups = group_norm(channels, 1e-5).num_groups
    assert channels % groups == 0
    assert groups == 1 or channels // groups >= 2
    assert groups == 32 or channels < 64 or channels % 32


# ------------------------------------------------------------------------------------------ convolution in time


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_a_convolution_in_time_and_its_gradients_are_torchs(frames, stride, bias, layout, monkeypatch):
    torch.manual_seed(0)
    taken, original = [], cpu_conv.conv3d_repaired
    monkeypatch.setattr(cpu_conv, "conv3d_repaired", lambda *args: taken.append(args) or original(*args))
    ours = cpu_conv.Conv3d(6, 5, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=bias).to(memory_format=layout)
    theirs = nn.Conv3d(6, 5, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, frames, 7, 5).contiguous(memory_format=layout).requires_grad_()
    x_exact = x.detach().double().requires_grad_()
    y, exact = ours(x), theirs(x_exact)
    assert taken
    assert y.is_contiguous(memory_format=layout)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    exact.backward(upstream.double())
    compared = [(y, exact), (x.grad, x_exact.grad)]
    compared += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    assert all(relative(got.double(), expected) < 1e-5 for got, expected in compared)


@pytest.mark.parametrize("change", [{"kernel_size": 3, "padding": 1}, {"groups": 2}, {"stride": (1, 2, 2)}])
def test_other_convolutions_and_other_formats_stay_3d(change, monkeypatch):
    monkeypatch.setattr(cpu_conv, "conv3d_repaired", None)
    options = {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "stride": 1} | change
    cpu_conv.Conv3d(6, 6, **options)(torch.randn(1, 6, 4, 4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        cpu_conv.Conv3d(6, 6, (3, 1, 1), padding=(1, 0, 0))(torch.randn(1, 6, 4, 4, 4))


# ------------------------------------------------------------------------------------------ branches


@pytest.mark.parametrize("name", ["f_r2d_18", "f_r2d_50", "r3d_18", "r2plus1d_50", "ir_csn_50"])
@pytest.mark.parametrize("silent", [{"zero_init": True}, {"norm": "none"}], ids=str)
def test_blocks_whose_branch_starts_at_zero_are_the_identity(name, silent):
    model = create_model(name, 5, **{**SMALL, "layers": (2, 2)}, **silent).eval()
    block, channels = model.layer1[1], model.layer1[1].channels[0]
    x = torch.randn(2, channels, *([4, 8, 8] if model.dim == 3 else [8, 8]))
    assert torch.equal(block(x, 2), x.relu())


def test_stochastic_depth_drops_branches_of_clips_in_proportion_to_depth():
    model = create_model("f_r2d_18", 5, layers=(2, 2), width=8, drop_path=0.4)
    assert [round(block.rate, 6) for stage in (model.layer1, model.layer2) for block in stage] == [0.1, 0.2, 0.3, 0.4]
    torch.manual_seed(0)
    kept = drop_branch(torch.ones(4000, 3, 1, 1), 1000, 0.4).flatten(1)  # 4 frames of 1,000 clips, as rows
    by_clip = kept.unflatten(0, (1000, 4)).flatten(1)
    assert (by_clip == by_clip[:, :1]).all()
    assert abs(kept.mean() - 1) < 0.08
    block, x = model.layer2[1], torch.randn(2, 16, 8, 8)
    block.rate = 1 - 1e-7
    assert torch.equal(block(x, 2), x.relu())
    assert not torch.equal(block.eval()(x, 2), x.relu())


def test_shift_moves_an_eighth_each_way_within_clips():
    x_BTC = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8) + 1
    shifted = Shift(8, causal=False)(x_BTC.reshape(6, 8, 1, 1), 2).reshape(2, 3, 8)
    assert torch.equal(shifted[:, :, 2:], x_BTC[:, :, 2:])
    for clip in (0, 1):
        assert shifted[clip, :, 0].tolist() == [x_BTC[clip, 1, 0], x_BTC[clip, 2, 0], 0]
        assert shifted[clip, :, 1].tolist() == [0, x_BTC[clip, 0, 1], x_BTC[clip, 1, 1]]


def test_a_causal_shift_moves_an_eighth_from_the_frame_before_alone():
    x_BTC = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8) + 1
    shifted = Shift(8, causal=True)(x_BTC.reshape(6, 8, 1, 1), 2).reshape(2, 3, 8)
    assert torch.equal(shifted[:, :, 1:], x_BTC[:, :, 1:])
    assert shifted[:, :, 0].tolist() == [[0, *clip_TC[:2, 0].tolist()] for clip_TC in x_BTC]


def test_padded_shortcut_takes_every_second_frame_and_pixel():
    x = torch.randn(2, 3, 4, 6, 6)
    y = Subsample((2, 2), 5)(x)
    assert y.shape == (2, 8, 2, 3, 3)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2, ::2])
    assert not y[:, 3:].any()


@pytest.mark.parametrize("name", ["f_r2d_18", "r2plus1d_18"])
def test_checkpointing_changes_nothing(name):
    """Loss, gradients, running statistics, with dropped blocks too."""
    states = []
    for kept in ("none", "stages"):
        model = build(name, checkpoint=kept, drop_path=0.3, layers=(2, 1, 1))
        torch.manual_seed(3)
        clips_BCTHW = torch.randn(2, 3, FRAMES, 40, 36)
        for _ in range(2):
            loss = model(clips_BCTHW).square().mean()
            loss.backward()
        gradients = {f"grad of {key}": p.grad for key, p in model.named_parameters()}
        states.append({"loss": loss.detach(), **gradients, **model.state_dict()})
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, msg=key)
    assert states[1]["layer1.0.bn1.num_batches_tracked" if "f_r2d" in name else "stem.1.num_batches_tracked"] == 2


def test_checkpointing_keeps_less():
    assert numbers_kept("stages") < 0.5 * numbers_kept("none")


def numbers_kept(checkpoint):
    """For the backward pass."""
    model, stored = create_model("r3d_18", 5, width=8, checkpoint=checkpoint), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: stored.append(t.numel()) or t, lambda t: t):
        model(torch.randn(1, 3, FRAMES, 64, 64))
    return sum(stored)


def test_the_stems_gradient_explodes_with_depth_in_plain_networks_not_in_residual_ones():
    """At the start of training, 56 layers against 8. With batch norm nothing vanishes in the plain one either."""
    growth = {}
    for shortcut in ("A", "none"):
        norms = {}
        for depth in (8, 56):
            torch.manual_seed(0)
            model = create_model(f"cifar2d_{depth}", 10, shortcut=shortcut)
            nn.functional.cross_entropy(model(torch.randn(4, 3, 1, 32, 32)), torch.arange(4)).backward()
            norms[depth] = model.conv1.weight.grad.norm()
        growth[shortcut] = norms[56] / norms[8]
    assert 1 < growth["A"] < 50 < 1000 < growth["none"]
