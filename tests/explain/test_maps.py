"""Maps of what decides: closed forms, captum's values, and networks and layers that have no map."""

import captum.attr
import pytest
import torch
from torch import nn

from videores.errors import UserError
from videores.explain import layers
from videores.explain.maps import (
    METHODS,
    freeze_frames,
    grad_cam,
    integrate_gradients,
    layer_cam,
    occlude_boxes,
    swap_segments,
    upsample_maps,
)
from videores.models import create_model

TINY = dict(layers=(1, 1, 1, 1), width=8)
FAMILIES = {
    "f_r2d_18": TINY,
    "f_r2d_50": TINY,
    "f_resnext50_32x4d": dict(TINY, width=32),
    "r2d_18": dict(TINY, frames=8),
    "r3d_18": TINY,
    "r3d_50": TINY,
    "mc3_18": TINY,
    "rmc3_18": TINY,
    "r2plus1d_18": TINY,
    "r2plus1d_50": TINY,
    "resnext3d_50": dict(TINY, width=32),
    "ir_csn_50": TINY,
    "ip_csn_50": TINY,
    "plain3d_18": TINY,
    "cifar2d_20": {},
    "cifar3d_20": {},
}
DESIGNS = {
    **{name: (name, options) for name, options in FAMILIES.items()},
    "preact": ("r3d_18", dict(TINY, block="preact")),
    "shift": ("f_r2d_18", dict(TINY, shift=4)),
    "no norm": ("r3d_18", dict(TINY, norm="none")),
}
CLASSES_B = torch.tensor([1, 3])


def make_network(name="r2plus1d_18", **options):
    """A network in double precision, whose batch norms and classifier are not those of the start."""
    torch.manual_seed(0)
    network = create_model(name, 5, **(options or TINY)).double().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    network.fc.weight.normal_()
    network.fc.weight[4] = -network.fc.weight[3]  # one of the two has a map that is not zero
    return network


def make_clips(frames=8, size=32, dtype=torch.float64):
    draws = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, frames, size, size, generator=draws, dtype=torch.float64).to(dtype)


def compute_cam(network, clips_BCTHW, classes_B):
    """Zhou et al. 2016, arXiv:1512.04150, eq. 2: the row of the classifier times the features before the pooling."""
    seen = []
    _, layer = layers.find_layer(network)
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(clips_BCTHW)
    handle.remove()
    x = seen[0] if seen[0].ndim == 5 else seen[0].unflatten(0, (2, -1)).transpose(1, 2)
    return torch.einsum("bc,bcthw->bthw", network.fc.weight[classes_B], x).relu()


@pytest.mark.parametrize("name", DESIGNS)
def test_grad_cam_before_the_pooling_is_cam(name):
    network, clips = make_network(DESIGNS[name][0], **DESIGNS[name][1]), make_clips(size=64)
    classes_B = network(clips).argmax(1)
    maps, cam = grad_cam(network, clips, classes_B), compute_cam(network, clips, classes_B)
    assert maps.dtype == torch.float32
    assert cam.amax((1, 2, 3)).min() > 0
    scaled = lambda x_BTHW: x_BTHW.double() / x_BTHW.double().amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(scaled(maps), scaled(cam), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", ["layer2", "layer3", "layer4", "layer3.0.conv1", "layer3.0.conv1.0.1"])
def test_grad_cam_is_captums(layer):
    network, clips = make_network(), make_clips()
    reference = captum.attr.LayerGradCam(network.requires_grad_(True), network.get_submodule(layer))
    expected = reference.attribute(clips, target=CLASSES_B, relu_attributions=True)[:, 0]
    torch.testing.assert_close(grad_cam(network, clips, CLASSES_B, layer=layer), expected.float(), rtol=1e-5, atol=1e-7)


def test_integrated_gradients_are_captums():
    network, clips = make_network(), make_clips()
    reference = captum.attr.IntegratedGradients(network)
    expected = reference.attribute(clips, target=CLASSES_B, n_steps=8, method="riemann_middle").sum(1)
    maps = integrate_gradients(network, clips, CLASSES_B, steps=8)
    torch.testing.assert_close(maps, expected.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_occlusion_is_captums(batch_size):
    network, clips = make_network(), make_clips()
    box = (3, 4, 16, 8)
    expected = captum.attr.Occlusion(network).attribute(clips, box, box, target=CLASSES_B, perturbations_per_eval=8)
    maps = occlude_boxes(network, clips, CLASSES_B, boxes=(2, 2, 4), batch_size=batch_size)
    assert maps.shape == (2, 2, 2, 4)
    torch.testing.assert_close(maps, expected[:, 0, ::4, ::16, ::8].float(), rtol=1e-5, atol=1e-6)


class PlaceScore(nn.Module):
    """Logit n: the clip times weights of its own, so that what each place adds is known."""

    def __init__(self, weight_NCTHW):
        super().__init__()
        self.weight = nn.Parameter(weight_NCTHW)

    def forward(self, clips_BCTHW):
        return torch.einsum("bcthw,ncthw->bn", clips_BCTHW, self.weight)


def test_losses_of_a_linear_network_are_what_the_places_added():
    torch.manual_seed(0)
    clips, network = make_clips(6, 10), PlaceScore(torch.randn(4, 3, 6, 10, 10, dtype=torch.float64)).eval()
    add = lambda changed: ((clips - changed) * network.weight[CLASSES_B]).sum((1, 2, 3, 4)).float()
    for fill, start in (("grey", torch.zeros_like(clips)), ("frozen", clips[:, :, [0] * 6])):
        expected = ((clips - start) * network.weight[CLASSES_B]).sum(1).float()
        torch.testing.assert_close(integrate_gradients(network, clips, CLASSES_B, steps=2, fill=fill), expected)
    boxes = occlude_boxes(network, clips, CLASSES_B, boxes=(3, 4, 20))  # uneven boxes, and more than there are pixels
    assert boxes.shape == (2, 3, 4, 10)
    changed = clips.clone()
    changed[:, :, 2:4, 2:5, 0] = 0
    torch.testing.assert_close(boxes[:, 1, 1, 0], add(changed))
    frozen = occlude_boxes(network, clips, CLASSES_B, boxes=(3, 1, 1), fill="frozen")[:, :, 0, 0]
    for place, shown in enumerate(([2, 2, 2, 3, 4, 5], [0, 1, 1, 1, 4, 5], [0, 1, 2, 3, 3, 3])):
        torch.testing.assert_close(frozen[:, place], add(clips[:, :, shown]))
    frames_BT = freeze_frames(network, clips, CLASSES_B)[:, :, 0, 0]
    for t, source in enumerate([1, 0, 1, 2, 3, 4]):
        torch.testing.assert_close(frames_BT[:, t], add(clips[:, :, [source if n == t else n for n in range(6)]]))
    pair_BS = swap_segments(network, clips, CLASSES_B, segments=2)[:, :, 0, 0]
    torch.testing.assert_close(pair_BS, add(clips[:, :, [3, 4, 5, 0, 1, 2]])[:, None].expand(2, 2))


def test_the_order_of_segments_is_nothing_to_a_network_that_ignores_it():
    clips = make_clips()
    maps = swap_segments(make_network("f_r2d_18", **TINY), clips, CLASSES_B)
    assert maps.shape == (2, 4, 1, 1)
    assert maps.abs().max() < 1e-12
    assert swap_segments(make_network(), clips, CLASSES_B).abs().min() > 1e-6


def test_layer_cam_weights_each_place_by_its_own_gradient():
    network, clips = make_network(), make_clips()
    x, gradient = layers.record_layer(network, "layer2", clips, CLASSES_B)
    assert x.shape == gradient.shape == (2, 16, 4, 8, 8)
    expected = sum(gradient[:, c].clamp(min=0) * x[:, c] for c in range(16)).clamp(min=0)
    torch.testing.assert_close(layer_cam(network, clips, CLASSES_B, layer="layer2"), expected.float())


def test_maps_have_the_resolution_of_their_method():
    network, clips = make_network().float(), make_clips(16, dtype=torch.float32)[:1]
    shapes = {name: tuple(method(network, clips, CLASSES_B[:1]).shape[1:]) for name, method in METHODS.items()}
    assert shapes == {
        "gradcam": (2, 2, 2),
        "layercam": (2, 2, 2),
        "ig": (16, 32, 32),
        "occlusion": (4, 7, 7),
        "frames": (16, 1, 1),
        "order": (4, 1, 1),
    }


def test_upsampling_keeps_the_place():
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 1, 3, 0] = 1
    large = upsample_maps(maps, (8, 32, 32))[0]
    assert large.shape == (8, 32, 32)
    t, y, x = (int(n) for n in (large == large.max()).nonzero()[0])
    assert t >= 4
    assert y >= 24
    assert x < 8


@pytest.mark.parametrize("method", METHODS)
def test_what_surrounds_a_method_changes_nothing(method):
    network, clips = make_network(layers=(1, 1), width=8).float(), make_clips(4, 16, torch.float32)
    expected = METHODS[method](network, clips, CLASSES_B)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert torch.equal(METHODS[method](network, clips, CLASSES_B), expected)
    compiled = torch.compile(network, backend="eager")
    assert torch.equal(METHODS[method](compiled, clips, CLASSES_B), expected)
    trainable = METHODS[method](network.requires_grad_(True), clips, CLASSES_B)
    assert torch.equal(trainable, expected)
    assert not trainable.requires_grad
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_network_in_bf16_has_maps_like_in_fp32():
    network, clips = make_network().float(), make_clips(dtype=torch.float32)
    expected, maps = grad_cam(network, clips, CLASSES_B), grad_cam(network.bfloat16(), clips, CLASSES_B)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, expected, rtol=0.1, atol=0.1 * float(expected.max()))


def test_checkpointed_stages_have_maps_of_layers_within():
    network, clips = make_network(), make_clips()
    saving = make_network(checkpoint="stages", **TINY)
    expected = grad_cam(network, clips, CLASSES_B, layer="layer2.0.conv1")
    torch.testing.assert_close(grad_cam(saving, clips, CLASSES_B, layer="layer2.0.conv1"), expected)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("layer5", ("layer5", "layer4", "layer1.0")),
        ("layr3", ("did you mean layer3",)),
        ("fc", ("fc", "2 x 5")),
        ("dropout", ("dropout", "2 x 64")),
    ],
)
def test_layers_without_maps_are_refused(layer, words):
    with pytest.raises(UserError) as error:
        grad_cam(make_network(), make_clips(), CLASSES_B, layer=layer)
    assert all(word in str(error.value) for word in words)


def test_networks_of_pytorchvideo_are_explained_at_their_last_stage():
    network, clips = create_model("pytorchvideo/x3d_xs", 5).eval(), make_clips(4, 64, torch.float32)
    assert layers.find_layer(network)[0] == "net.blocks.4"
    assert grad_cam(network, clips, CLASSES_B).shape == (2, 4, 2, 2)
    with pytest.raises(UserError, match=r"layer4.*net\.blocks\.4"):
        layers.find_layer(network, "layer4")


class Odd(nn.Module):
    """Layers that run twice, never, without influence, or on one pixel."""

    def __init__(self):
        super().__init__()
        self.twice, self.never, self.aside = nn.Conv3d(3, 3, 1), nn.Conv3d(3, 3, 1), nn.Conv3d(3, 3, 1)
        self.point = nn.AdaptiveAvgPool3d(1)

    def forward(self, clips_BCTHW):
        self.aside(clips_BCTHW)
        return self.point(self.twice(self.twice(clips_BCTHW))).flatten(1)


@pytest.mark.parametrize("layer", ["twice", "never", "aside", "point"])
def test_layers_that_do_not_lead_to_the_logits_once_are_refused(layer):
    with pytest.raises(UserError, match=layer):
        grad_cam(Odd().eval(), make_clips(dtype=torch.float32), torch.tensor([0, 2]), layer=layer)


def test_a_network_in_training_or_without_the_class_is_refused():
    network, clips = make_network(), make_clips()
    with pytest.raises(UserError, match="classes"):
        grad_cam(network, clips, torch.tensor([0, 5]))
    with pytest.raises(UserError, match="eval"):
        grad_cam(network.train(), clips, CLASSES_B)


def test_networks_without_stages_are_explained_at_their_last_convolution():
    network = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    assert layers.find_layer(network)[0] == "0"
    with pytest.raises(UserError, match="has no layers"):
        layers.find_layer(PlaceScore(torch.zeros(1)))
