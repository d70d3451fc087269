"""pytorchvideo's networks behind our interface: their logits, any clip that makes sense, and nothing disturbed."""

import subprocess
import sys

import pytest
import torch
from pytorchvideo.models import hub
from torch import nn

from videores.errors import UserError
from videores.models import pytorchvideo
from videores.models.registry import create_model

# Sizes at which theirs runs, whose pooling windows are fixed; the largest network takes too long here.
FITTING = {builder: size for builder, size in pytorchvideo.BUILDERS.items() if builder != "x3d_l"}


def clips(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def both(builder, classes=5):
    """Ours and theirs with the same random weights, in eval mode."""
    ours = pytorchvideo.create_zoo_model(f"pytorchvideo/{builder}", classes)
    options = {} if builder.startswith("slowfast") else {"head_activation": None}
    theirs = getattr(hub, builder)(model_num_class=classes, **options)
    theirs.load_state_dict({key.removeprefix("net."): value for key, value in ours.state_dict().items()})
    return ours.eval(), theirs.eval()


def pathways(clips_BCTHW):
    """pytorchvideo's own example of SlowFast's input."""
    index = torch.linspace(0, clips_BCTHW.shape[2] - 1, clips_BCTHW.shape[2] // 4).long()
    return [torch.index_select(clips_BCTHW, 2, index), clips_BCTHW]


@pytest.mark.parametrize("builder", ["x3d_xs", "x3d_s"])
def test_logits_are_theirs(builder):
    ours, theirs = both(builder)
    x = clips(1, 3, *[FITTING[builder][i] for i in (0, 1, 1)])
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("builder", [b for b in FITTING if not b.startswith("x3d_x")])
def test_logits_are_theirs_in_the_large_networks_too(builder):
    ours, theirs = both(builder)
    frames, size = FITTING[builder]
    x = clips(1, 3, frames, size, size)
    with torch.no_grad():
        expected = theirs(pathways(x) if builder.startswith("slowfast") else x)
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_a_larger_clip_is_pooled_as_they_pool_it():
    ours, theirs = both("x3d_xs")
    x = clips(1, 3, 6, 192, 192)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in pytorchvideo.NAMES if "slowfast" not in n and n != "pytorchvideo/x3d_l"])
def test_any_clip_is_taken(name):
    with torch.device("meta"):
        model = create_model(name, 7)
    for frames, size in ((1, 50), (5, 32)):
        assert model(torch.empty(2, 3, frames, size, size, device="meta")).shape == (2, 7)


def test_slowfast_makes_its_slow_pathway_itself_and_says_which_clips_it_takes():
    with torch.device("meta"):
        model = create_model("pytorchvideo/slowfast_r50", 7)
    for frames in (4, 8, 16, 32):
        assert model(torch.empty(2, 3, frames, 32, 32, device="meta")).shape == (2, 7)
    for frames in (1, 6, 36):
        with pytest.raises(UserError, match=f"4, 8, ... or 32 frames .*, got {frames}"):
            model(torch.empty(2, 3, frames, 32, 32, device="meta"))


def test_slowfasts_slow_pathway_has_pytorchvideos_frames():
    slow, fast = pytorchvideo.split_pathways(torch.arange(32.0).reshape(1, 1, 32, 1, 1))
    assert slow.flatten().tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert fast.flatten().tolist() == list(range(32))


@pytest.mark.parametrize("name", pytorchvideo.NAMES)
def test_there_is_no_softmax(name):
    with torch.device("meta"):
        model = create_model(name, 7)
    assert not any(isinstance(module, nn.Softmax) for module in model.modules())


def test_rows_of_logits_do_not_sum_to_one():
    with torch.no_grad():
        sums = create_model("pytorchvideo/x3d_xs", 7)(clips(2, 3, 4, 32, 32)).sum(1)
    assert ((sums - 1).abs() > 1e-3).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # pytorchvideo's model zoo, 400 classes: millions of parameters
        ("slow_r50", 32.45),
        ("csn_r101", 22.21),
        ("r2plus1d_r50", 28.11),
        ("x3d_m", 3.79),
        ("slowfast_r50", 34.57),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        model = create_model(f"pytorchvideo/{name}", 400)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == parameters


@pytest.mark.parametrize(
    ("builder", "frames"),
    [
        *[("x3d_xs", frames) for frames in (1, 2, 3, 4)],
        *[("slow_r50", 2), ("r2plus1d_r50", 2), ("r2plus1d_r50", 8), ("slowfast_r50", 4), ("slowfast_r50", 8)],
    ],
)
def test_bf16_gradients_are_right_where_onednn_pads_two_frames(builder, frames):
    """oneDNN's own padding of two frames gives inf, or a relative error near 1 (docs/background/exactness.md)."""
    model, x = (
        pytorchvideo.create_zoo_model(f"pytorchvideo/{builder}", 5, dropout=0.0).eval(),
        clips(1, 3, frames, 64, 64),
    )
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv3d)]
    seen = {}
    for conv in convolutions:
        key = (conv.kernel_size, conv.stride, conv.groups > 1)
        conv.register_forward_pre_hook(lambda m, x, key=key: remember(seen, (key, x[0].shape[2:]), m, x[0]))
    with torch.no_grad():
        model(x)
    for (_, _), (conv, inputs) in seen.items():
        exact, rough = (weight_gradient(conv, inputs, dtype) for dtype in (torch.float32, torch.bfloat16))
        error = (rough - exact).norm() / exact.norm()
        assert error < 0.02, (conv, tuple(inputs.shape), float(error))


def remember(seen, key, conv, x):
    seen.setdefault(key, (conv, x.detach()))


def weight_gradient(conv, x, dtype):
    conv.weight.grad = None
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        y = conv(x)
    y.float().backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    return conv.weight.grad.clone()


def test_dropout_is_the_one_option():
    model = create_model("pytorchvideo/csn_r101", 7, dropout=0.25)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.25]
    with pytest.raises(UserError, match="takes dropout, widths and no other"):
        create_model("pytorchvideo/csn_r101", 7, width=32)


@pytest.mark.parametrize("rate", [2.0, 1, -0.1, "a", True])
def test_dropout_is_a_rate(rate):
    with pytest.raises(UserError, match="dropout: "):
        create_model("pytorchvideo/x3d_xs", 7, dropout=rate)


@pytest.mark.parametrize("name", ["r3d_50", "f_r2d_18", "pytorchvideo/slow_r50", "pytorchvideo/x3d_xs"])
def test_one_value_per_channel_is_refused_in_training_only(name):
    with torch.device("meta"):
        model, x = create_model(name, 7), torch.empty(1, 3, 1, 32, 32)
        assert model.eval()(x).shape == (1, 7)
        with pytest.raises(UserError, match=r"one value per channel .*larger clips, a larger batch, or model.norm"):
            model.train()(x)
        assert model(x.expand(2, -1, -1, -1, -1)).shape == (2, 7)


def test_unknown_builder_lists_the_known():
    with pytest.raises(UserError, match="pytorchvideo/x3d_l"):
        create_model("pytorchvideo/x3d_xl", 7)


@pytest.mark.parametrize("shape", [(3, 4, 32, 32), (1, 4, 3, 32, 32), (1, 1, 4, 32, 32)])
def test_wrong_clips_are_refused(shape):
    with pytest.raises(UserError, match="B x 3 x T x H x W"):
        create_model("pytorchvideo/x3d_xs", 7)(torch.zeros(shape))


def test_importing_it_takes_none_of_pytorchvideos_readers_and_leaves_warnings_as_they_were():
    code = """
import sys, warnings
before = list(warnings.filters)
from videores.models import create_model
create_model("pytorchvideo/x3d_xs", 7)
loaded = [m for m in sys.modules if m.startswith(("pytorchvideo.data", "pytorchvideo.transforms", "decord", "av."))]
sys.exit(" ".join(loaded) or (0 if len(warnings.filters) <= len(before) + 20 else "filters"))
"""
    process = subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
