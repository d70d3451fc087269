"""What is done on the device: hue, mixup and cutmix by their equations, and the loss of mixed labels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as TF

from videores.config.schema import AugmentConfig
from videores.data import mixing
from videores.data.dataset import collate_training
from videores.training.module import expand_labels


def clips(batch=3, views=2, frames=4, size=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, views, frames, size, size, 3), generator=generator, dtype=torch.uint8)


def drawn(views=(3, 2), size=10, seed=0, **keys):
    return mixing.draw_mix(AugmentConfig(**keys), views, size, np.random.default_rng(seed))


def finished(mix, label=None, classes=4, **keys):
    batch = {"clips": clips(**keys), "label": torch.tensor([0, 3, 1]) if label is None else label, "mix": mix}
    return mixing.finish_batch(batch, classes)


# -- draws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_the_share_of_mixup_is_of_a_beta_distribution(alpha):
    rng = np.random.default_rng(0)
    augment = AugmentConfig(mixup=alpha)
    share = np.array([mixing.draw_mix(augment, (2, 1), 2, rng)["share"] for _ in range(4000)])
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    if alpha == 1:
        assert np.abs(np.sort(share) - np.linspace(0, 1, 4000)).max() < 1.7 / np.sqrt(4000)


@pytest.mark.parametrize("keys", [dict(mixup=0.8), dict(cutmix=1), dict(mixup=0.2, cutmix=1)])
def test_every_clip_has_one_partner_and_all_the_same_weights(keys):
    for seed in range(30):
        mix = drawn(seed=seed, **keys)
        assert sorted(mix["partner"].flatten().tolist()) == list(range(6))
        assert mix["weight"].shape == (10, 10)
        assert mix["share"] == pytest.approx(mix["weight"].double().mean().item(), abs=1e-7)


def test_with_both_each_batch_takes_one_of_them_and_half_of_them_each():
    kinds = [len(drawn(seed=seed, mixup=1, cutmix=1)["weight"].unique()) == 1 for seed in range(400)]
    assert 160 < sum(kinds) < 240


def test_the_weights_of_cutmix_are_0_in_one_box_and_1_around_it():
    for seed in range(200):
        weight_HW = drawn(size=32, seed=seed, cutmix=1)["weight"]
        inside = weight_HW == 0
        assert (inside | (weight_HW == 1)).all()
        assert (inside == inside.any(1)[:, None] & inside.any(0)[None]).all()  # rows x columns
        for line in (inside.any(0), inside.any(1)):  # without gaps
            assert line.int().diff().abs().sum() <= 2


def test_a_cutmix_box_has_the_area_that_was_drawn_and_its_centre_anywhere():
    rng, rows = np.random.default_rng(0), []
    for share in rng.uniform(0, 1, 3000):
        weight_HW = mixing.cutmix(share, 100, rng)
        side = 2 * (int(100 * np.sqrt(1 - share)) // 2)
        row, column = (np.flatnonzero((weight_HW == 0).any(axis)) for axis in (1, 0))
        assert len(row) <= side
        assert len(column) <= side
        if len(row) and row[0] > 0 and row[-1] < 99 and column[0] > 0 and column[-1] < 99:
            assert len(row) == len(column) == side  # nothing of it was cut off
            assert 1 - weight_HW.mean() == pytest.approx(1 - share, abs=0.04)
        rows.append((row[0] + row[-1]) / 2 if len(row) and side < 20 else None)
    centres = np.sort([row for row in rows if row is not None]) / 100
    assert np.abs(centres - np.linspace(0, 1, len(centres))).max() < 2 / np.sqrt(len(centres)) + 0.05


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_cutmix_at_the_ends(share):
    weight = np.mean([mixing.cutmix(share, 20, np.random.default_rng(seed)).mean() for seed in range(50)])
    assert weight == 1 if share else weight < 0.6  # the edge still cuts half of a whole box off


# -- equations --------------------------------------------------------------------------------------------------------


def test_mixup_is_its_equation():
    mix = drawn(mixup=1)
    lam, before = mix["share"].item(), clips().flatten(0, 1).double()
    after = finished(mix)
    expected = lam * before + (1 - lam) * before[mix["partner"].flatten()]
    torch.testing.assert_close(after["clips"].flatten(0, 1).double(), expected, atol=1e-4, rtol=0)
    one_hot = torch.eye(4)[torch.tensor([0, 0, 3, 3, 1, 1])]
    label = lam * one_hot + (1 - lam) * one_hot[mix["partner"].flatten()]
    torch.testing.assert_close(after["label"], label.unflatten(0, (3, 2)))


def test_cutmix_takes_pixels_from_two_clips_and_weighs_their_labels_by_the_area():
    for seed in range(20):
        mix = drawn(seed=seed, cutmix=1)
        after = finished(mix)
        own, before = (mix["weight"] == 1)[..., None], clips().flatten(0, 1)
        expected = torch.where(own, before, before[mix["partner"].flatten()])
        assert torch.equal(after["clips"].flatten(0, 1), expected.float())  # in every frame the same box
        classes = torch.tensor([[0, 0], [3, 3], [1, 1]])
        partners = classes.flatten()[mix["partner"]]
        for place in np.ndindex(3, 2):
            share = own.float().mean()
            expected = share * F.one_hot(classes[place], 4) + (1 - share) * F.one_hot(partners[place], 4)
            torch.testing.assert_close(after["label"][place], expected)


def test_mixed_labels_are_probabilities():
    for seed in range(20):
        label_BKN = finished(drawn(seed=seed, mixup=0.4, cutmix=1))["label"]
        assert label_BKN.shape == (3, 2, 4)
        assert (label_BKN >= 0).all()
        torch.testing.assert_close(label_BKN.sum(-1), torch.ones(3, 2))


def test_labels_of_clips_may_differ_within_a_video():
    mix = drawn(mixup=1)
    label_BK = torch.tensor([[0, 1], [2, 3], [0, 0]])
    got = finished(mix, label_BK)["label"].flatten(0, 1)
    one_hot = torch.eye(4)[label_BK.flatten()]
    torch.testing.assert_close(got, mix["share"] * one_hot + (1 - mix["share"]) * one_hot[mix["partner"].flatten()])


def test_a_batch_without_draws_stays_as_it_is():
    batch = {"clips": clips(), "label": torch.tensor([0, 1, 2]), "video": torch.tensor([4, 5, 6])}
    after = mixing.finish_batch(batch, 3)
    assert list(after) == list(batch)
    assert all(after[key] is batch[key] for key in batch)


def test_nothing_of_the_draws_reaches_the_network_and_the_loaders_batch_is_not_changed():
    batch = {"clips": clips(), "label": torch.zeros(3, dtype=torch.long), "mix": drawn(mixup=1)}
    batch |= {"hue": torch.zeros(3, 2), "video": torch.tensor([4, 5, 6])}
    assert set(mixing.finish_batch(batch, 3)) == {"clips", "label", "video"}
    assert set(batch) == {"clips", "label", "video", "mix", "hue"}
    assert torch.equal(batch["clips"], clips())


# -- the mixture of a batch -------------------------------------------------------------------------------------------


def items(draws):
    return [{"clips": torch.zeros(2, 4, 10, 10, 3), "label": 0, "video": i, "draw": d} for i, d in enumerate(draws)]


def test_a_mixture_depends_on_the_first_items_draw_alone():
    augment = AugmentConfig(mixup=0.5, cutmix=1)
    mixtures = [collate_training(items(draws), augment, 10)["mix"] for draws in ((5, 6, 7), (5, 8, 9), (6, 5, 7))]
    equal = lambda one, other: all(torch.equal(one[key], other[key]) for key in one)
    assert equal(mixtures[0], mixtures[1])
    assert not equal(mixtures[0], mixtures[2])


def test_without_mixing_a_batch_carries_no_mixture():
    assert set(collate_training(items((1, 2)), AugmentConfig(), 10)) == {"clips", "label", "video", "draw"}


# -- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixed_label_is_the_mixture_of_the_losses(smoothing):
    mix = drawn(mixup=1)
    label_BKN = finished(mix)["label"]
    logits_XN = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    mixed = F.cross_entropy(logits_XN, expand_labels(label_BKN, 2), label_smoothing=smoothing)
    label_X = expand_labels(torch.tensor([0, 3, 1]), 2)
    own, other = (
        F.cross_entropy(logits_XN, label, label_smoothing=smoothing)
        for label in (label_X, label_X[mix["partner"].flatten()])
    )
    torch.testing.assert_close(mixed, mix["share"] * own + (1 - mix["share"]) * other)


def test_labels_of_clips_go_video_by_video():
    assert expand_labels(torch.tensor([4, 7]), 3).tolist() == [4, 4, 4, 7, 7, 7]
    assert expand_labels(torch.tensor([[4, 5], [6, 7]]), 2).tolist() == [4, 5, 6, 7]
    assert expand_labels(torch.zeros(4, 2, 9), 2).shape == (8, 9)


# -- hue --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-0.5, -0.21, 0.0, 0.05, 1 / 3, 0.5])
def test_hue_is_torchvisions(shift):
    before = clips()
    theirs = TF.adjust_hue(before.movedim(-1, -3).float() / 255, shift).movedim(-3, -1) * 255
    ours = mixing.shift_hue(before, torch.full((3, 2), shift))
    torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0)


def test_each_clip_has_its_own_hue():
    before, hue_BK = clips(), torch.tensor([[0.0, 0.1], [0.2, -0.3], [0.5, 0.0]])
    after = mixing.shift_hue(before, hue_BK)
    for place in np.ndindex(3, 2):
        alone = mixing.shift_hue(before[place][None, None], hue_BK[place][None, None])
        assert torch.equal(after[place], alone[0, 0])
    torch.testing.assert_close(after[0, 0], before[0, 0].float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(after[2, 1], before[2, 1].float(), atol=1e-3, rtol=0)


def test_a_third_of_the_circle_moves_the_channels_on():
    before = clips()
    after = mixing.shift_hue(before, torch.full((3, 2), 1 / 3))
    torch.testing.assert_close(after, before.float().roll(1, dims=-1), atol=1e-3, rtol=0)


def test_greys_have_no_hue():
    grey = clips()[..., :1].expand(-1, -1, -1, -1, -1, 3)
    torch.testing.assert_close(mixing.shift_hue(grey, torch.full((3, 2), 0.3)), grey.float())
