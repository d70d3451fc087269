"""Checks of maps, on networks and maps of which it is known what they must find."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from videores.errors import UserError
from videores.explain import baselines, cascade, checks, deletion, pointing, responses
from videores.explain.maps import METHODS, grad_cam
from videores.models import create_model

TINY = dict(layers=(1, 1), width=8, stem="small")


class Corner(nn.Module):
    """Class 1 is motion in the upper left quarter, and nothing else matters."""

    def forward(self, clips_BCTHW):
        quarter = clips_BCTHW[..., :8, :8]
        motion_B = quarter.diff(dim=2).abs().mean((1, 2, 3, 4))
        return torch.stack([torch.zeros_like(motion_B), 40 * motion_B - 4], 1)


def make_clips(count=6, frames=8, size=16):
    generator = torch.Generator().manual_seed(0)
    return torch.rand((count, 3, frames, size, size), generator=generator)


def quarter_maps(count=6, corner=True):
    maps = torch.zeros(count, 1, 4, 4)
    part = slice(0, 2) if corner else slice(2, 4)
    maps[:, :, part, part] = 1
    return maps


ONE = torch.ones(6, dtype=torch.long)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_model("r2plus1d_18", 5, **TINY).eval().requires_grad_(False)


def test_a_map_of_what_decides_beats_random_orders_and_the_others_do_not():
    clips = make_clips()
    good = deletion.compare_deletion(Corner(), clips, ONE, quarter_maps())
    bad = deletion.compare_deletion(Corner(), clips, ONE, quarter_maps(corner=False))
    for order in ("random", "center"):
        assert good["deletion"][f"ci95_above_{order}"][1] < 0 < bad["deletion"][f"ci95_above_{order}"][0]
        assert bad["insertion"][f"ci95_above_{order}"][1] < 0 < good["insertion"][f"ci95_above_{order}"][0]


@pytest.mark.parametrize("fill", ["frozen", "blurred"])
def test_curves_begin_and_end_with_the_clip_and_with_what_is_left_of_it(fill):
    clips, filled = make_clips(), deletion.fill_clips(make_clips(), fill)
    curves = deletion.trace_curves(Corner(), clips, ONE, quarter_maps(), fill)
    whole, empty = (Corner()(x).softmax(1)[:, 1].numpy() for x in (clips, filled))
    np.testing.assert_allclose(curves.deletion_BS[:, [0, -1]], np.stack([whole, empty], 1), rtol=1e-6)
    np.testing.assert_allclose(curves.insertion_BS[:, [0, -1]], np.stack([empty, whole], 1), rtol=1e-6)


def test_curves_are_those_of_a_plain_loop():
    clips, maps = make_clips(2), torch.rand((2, 8, 16, 16), generator=torch.Generator().manual_seed(1))
    curves = deletion.trace_curves(Corner(), clips, ONE[:2], maps, "frozen")
    for video, (clip, map_THW) in enumerate(zip(clips, maps, strict=True)):
        frozen = torch.stack([clip[:, 4]] * 8, 1)
        places = sorted(np.ndindex(8, 16, 16), key=lambda place: -float(map_THW[place]))
        for step in range(11):
            deleted, inserted = clip.clone(), frozen.clone()
            for t, y, x in places[: -(-step * len(places) // 10)]:
                deleted[:, t, y, x], inserted[:, t, y, x] = frozen[:, t, y, x], clip[:, t, y, x]
            expected = Corner()(torch.stack([deleted, inserted])).softmax(1)[:, 1].tolist()
            assert [curves.deletion_BS[video, step], curves.insertion_BS[video, step]] == pytest.approx(expected)


def test_frozen_places_do_not_move_and_blurred_ones_keep_the_mean():
    clips = make_clips()
    assert (deletion.fill_clips(clips, "frozen") == clips[:, :, 4:5]).all()
    blurred = deletion.fill_clips(clips, "blurred")
    assert blurred.shape == clips.shape
    assert float(blurred.mean()) == pytest.approx(float(clips.mean()), abs=0.02)
    assert float(blurred.std()) < 0.5 * float(clips.std())
    assert (blurred.diff(dim=2).abs() > 0).any()


def test_equal_places_are_not_deleted_from_the_first_to_the_last():
    rank = deletion._rank_places(torch.zeros(1, 4, 8, 8), 0)
    assert sorted(rank.flatten().tolist()) == pytest.approx([i / 256 for i in range(256)])
    assert abs(float(rank[0, :2].mean()) - 0.5) < 0.1


def test_rank_correlation_is_that_of_scipy_ties_included():
    rng = np.random.default_rng(0)
    a, b = (torch.tensor(rng.integers(0, 5, (4, 2, 3, 3)).astype(np.float32)) for _ in range(2))
    b[3] = 1
    found = cascade.compute_rank_correlation(a, b)
    wanted = [stats.spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a[:3], b[:3], strict=True)]
    np.testing.assert_allclose(found[:3], wanted, rtol=1e-6)
    assert np.isnan(found[3])


def test_structural_similarity_is_1_of_equal_maps_whatever_their_scale_and_falls_with_noise():
    maps = make_clips()[:, 0]
    assert cascade.compute_ssim(maps, 7 * maps) == pytest.approx(1, abs=1e-5)
    noise = torch.rand(maps.shape, generator=torch.Generator().manual_seed(1))
    near, far = (cascade.compute_ssim(maps, (1 - w) * maps + w * noise).mean() for w in (0.2, 1.0))
    assert 1 > near > far + 0.2


def test_the_cascade_randomizes_from_the_last_part_on_and_leaves_the_network(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seen = []
    for part, changed in cascade.randomize_cascade(network):
        state = changed.state_dict()
        seen.append(part)
        kept = [name for name in state if name.split(".")[0] not in seen]
        assert all(torch.equal(state[name], before[name]) for name in kept)
        assert any(not torch.equal(state[name], before[name]) for name in state if name.startswith(part))
    assert seen == ["fc", "layer2", "layer1", "stem"]
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_random_weights_are_those_of_the_seed_and_draw_nothing_from_others(network):
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    one, again, other = (cascade.randomize_network(network, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), drawn)
    weight = lambda net: net.fc.weight
    assert torch.equal(weight(one), weight(again))
    assert not torch.equal(weight(one), weight(other))
    assert not torch.equal(weight(one), weight(network))


def test_a_method_that_ignores_the_network_stays_alike_and_grad_cam_does_not(network):
    clips, classes = make_clips(), torch.zeros(6, dtype=torch.long)
    edges = cascade.compare_cascade(network, clips, classes, lambda net, x, y: baselines.make_edge_maps(x))
    assert [step["spearman"] for step in edges["steps"]] == pytest.approx([1] * 4)
    maps = cascade.compare_cascade(network, clips, classes, grad_cam)
    assert maps["steps"][-1]["spearman"] < 0.9
    assert [step["edges"] for step in maps["steps"]] == pytest.approx([1] * 4)


def test_pairs_with_a_constant_map_are_counted_and_have_no_similarity():
    maps = make_clips()[:, 0]
    flat = torch.zeros_like(maps)
    assert cascade.summarize_similarity(maps, flat)["spearman"] is None
    mixed = torch.cat([maps[:3], flat[3:]])
    found = cascade.summarize_similarity(maps, mixed, list("abcdef"))
    assert (found["spearman"], found["constant"]) == (pytest.approx(1), 3)


def test_the_highest_place_hits_or_misses_and_ties_share():
    masks = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    masks[:, 0, :2, :2] = True  # an eighth of the clip
    maps = torch.zeros(3, 2, 4, 4)
    maps[0, 0, 1, 1], maps[0, 1, 3, 3] = 3, 1
    maps[1, 0, 0, 0], maps[1, 1, 2, 2] = 2, 2
    hit, energy = pointing.point_maps(maps, masks)
    assert hit.tolist() == pytest.approx([1, 0.5, 1 / 8])
    assert energy.tolist() == pytest.approx([0.75, 0.5, 1 / 8])  # the third map is empty, as good as a uniform one
    assert pointing.point_maps(-maps, masks)[0].tolist() == pytest.approx([1 / 8] * 3)


def test_differences_of_frames_point_at_what_moves():
    clips = torch.zeros(1, 3, 4, 8, 8)
    masks = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    for t in range(4):
        clips[0, :, t, 2:4, 2 * t : 2 * t + 2] = 1
        masks[0, t, 2:4, 2 * t : 2 * t + 2] = True
    hit, energy = pointing.point_maps(baselines.make_frame_difference(clips), masks)
    assert energy[0] == pytest.approx(0.5)  # it is as bright where the object was
    assert 0 < hit[0] <= 1
    assert (baselines.make_frame_difference(clips[:, :, :1]) == 0).all()


def test_all_checks_of_a_method_at_once(network):
    clips, classes, groups = make_clips(), torch.zeros(6, dtype=torch.long), list("aabbcc")
    masks = torch.zeros(6, 8, 16, 16, dtype=torch.bool)
    masks[..., 4:8, 4:8] = True
    found = checks.check_maps(network, clips, classes, METHODS["gradcam"], masks_BTHW=masks, groups=groups)
    assert (found["videos"], found["resolution"], found["fill"]) == (6, [4, 4, 4], "frozen")
    assert found["pointing"]["uniform"] == pytest.approx(100 / 16)
    assert set(found["pointing"]["hit"]) == {"trained", "random", "difference", "center"}
    assert len(found["deletion"]["curves"]["map"]) == deletion.STEPS + 1
    assert checks.check_maps(network, clips, classes, METHODS["gradcam"])["pointing"] is None


def test_a_check_of_many_videos_explains_some_at_a_time(network):
    """Gradients keep the activations of all clips that are explained at once."""
    seen, clips = [], make_clips(20, 4, 8)

    def explain(net, clips_BCTHW, classes_B):
        seen.append(len(clips_BCTHW))
        return grad_cam(net, clips_BCTHW, classes_B)

    classes = torch.arange(20) % 5
    one = checks.check_maps(network, clips, classes, explain)
    assert max(seen) <= 8
    whole = deletion.compare_deletion(network, clips, classes, grad_cam(network, clips, classes))
    assert one["deletion"]["area"]["map"] == pytest.approx(whole["deletion"]["area"]["map"], rel=1e-4)


def test_responses_are_the_deviations_of_branches_after_their_norm(network):
    clips = make_clips()
    found = responses.measure_responses(network, clips.split(4))
    assert [block["block"] for block in found] == ["layer1.0", "layer2.0"]
    kept = []
    handles = [
        network.layer1[0].conv2.register_forward_hook(lambda module, inputs, output: kept.append(output)),
        network.layer1[0].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0])),
        network.layer2[0].downsample.register_forward_hook(lambda module, inputs, output: kept.append(output)),
    ]
    network(clips)
    for handle in handles:
        handle.remove()
    shortcut, branch, projected = (float(x.std(correction=0)) for x in kept)
    assert found[0]["branch"] == pytest.approx(branch, rel=1e-4)
    assert found[0]["shortcut"] == pytest.approx(shortcut, rel=1e-4)
    assert found[1]["shortcut"] == pytest.approx(projected, rel=1e-4)
    assert found[0]["ratio"] == pytest.approx(branch / shortcut, rel=1e-4)


@pytest.mark.parametrize("options", [dict(norm="none"), dict(se=4, zero_init=True), dict(block="preact")], ids=str)
def test_responses_of_a_branch_that_starts_at_zero_are_0(options):
    network = create_model("r3d_18", 5, **TINY, **options).eval()
    if "block" in options:
        nn.init.zeros_(network.layer1[0].conv2[0].weight)
    found = responses.measure_responses(network, [make_clips()])
    assert found[0]["branch"] == 0 < found[0]["shortcut"]


def test_networks_without_shortcuts_have_no_responses():
    with pytest.raises(UserError, match="residual blocks"):
        responses.measure_responses(create_model("plain3d_18", 5, **TINY).eval(), [make_clips()])
