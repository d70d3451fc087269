"""Frames to clips: boxes, one draw for all frames of a clip, scaling, normalisation."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from videores.data import transforms

SIZES = [(240, 320), (320, 240), (128, 171), (256, 256), (332, 128), (212, 612), (37, 53), (8, 300)]
SCALES = [(128, 112), (112, 112), (256, 224), (32, 32), (171, 1)]  # short side, crop


def textured(frames=3, height=60, width=80, seed=0):
    """Smooth pictures, as camera frames are; neighbours of white noise would be scaled quite differently."""
    noise = torch.rand(frames, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = F.resize(noise, [height, width], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
    return (smooth.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()


# -- boxes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("short_side", "crop"), SCALES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_random_boxes_lie_inside_and_have_the_scaled_crops_size(height, width, short_side, crop):
    rng = np.random.default_rng(0)
    for _ in range(50):
        top, left, side = transforms.random_box(height, width, short_side, crop, rng)
        assert 0 <= top <= top + side <= height
        assert 0 <= left <= left + side <= width
        assert side == max(1, round(crop * min(height, width) / short_side))


def test_random_boxes_reach_every_place():
    rng = np.random.default_rng(0)
    boxes = [transforms.random_box(12, 14, 10, 8, rng) for _ in range(500)]
    assert {side for *_, side in boxes} == {10}
    assert {top for top, *_ in boxes} == {0, 1, 2}
    assert {left for _, left, _ in boxes} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("short_side", "crop"), SCALES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_centre_box_is_central(height, width, short_side, crop):
    ((top, left, side),) = transforms.view_boxes(height, width, short_side, crop, 1)
    assert height - side - 2 * top in (0, 1)
    assert width - side - 2 * left in (0, 1)


@pytest.mark.parametrize(("short_side", "crop"), SCALES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_three_boxes_lie_along_the_longer_side(height, width, short_side, crop):
    first, centre, last = transforms.view_boxes(height, width, short_side, crop, 3)
    assert [centre] == transforms.view_boxes(height, width, short_side, crop, 1)
    side, along, across = centre[2], int(width >= height), int(width < height)
    assert first[2] == last[2] == side
    assert first[along] == 0
    assert last[along] + side == max(height, width)
    assert first[across] == last[across] == centre[across]


def test_a_whole_crop_of_three_covers_a_3_to_2_picture():
    boxes = transforms.view_boxes(100, 150, 100, 100, 3)
    assert boxes == [(0, 0, 100), (0, 25, 100), (0, 50, 100)]


# -- cutting ----------------------------------------------------------------------------------------------------------


def test_a_box_of_the_crops_size_is_cut_without_scaling():
    frames = textured()
    clip = transforms.cut(frames, (5, 9, 32), 32)
    assert clip.dtype == torch.uint8
    assert (clip.numpy() == frames[:, 5:37, 9:41]).all()


def test_a_whole_square_video_at_its_own_size_is_not_touched():
    frames = textured(height=32, width=32)
    assert (transforms.cut(frames, *transforms.view_boxes(32, 32, 32, 32, 1), 32).numpy() == frames).all()


@pytest.mark.parametrize("crop", [32, 24, 50])
def test_a_flip_mirrors_the_unflipped_clip(crop):
    plain, flipped = (transforms.cut(textured(), (5, 9, 32), crop, flip=flip) for flip in (False, True))
    assert (flipped == plain.flip(2)).all()
    assert (flipped != plain).any()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [32, 24])
def test_all_frames_of_a_clip_are_cut_alike(crop, flip):
    still = np.repeat(textured(1), 5, axis=0)
    clip = transforms.cut(still, (3, 11, 32), crop, flip=flip)
    assert (clip == clip[:1]).all()


def test_a_frame_does_not_depend_on_the_others():
    frames = textured(6)
    clip = transforms.cut(frames, (3, 11, 40), 24)
    assert (clip[2:4] == transforms.cut(frames[2:4], (3, 11, 40), 24)).all()


@pytest.mark.parametrize("crop", [16, 32, 64])
def test_clips_are_contiguous_and_have_the_crops_size(crop):
    clip = transforms.cut(textured(), (0, 0, 32), crop)
    assert clip.shape == (3, crop, crop, 3)
    assert clip.is_contiguous()


def test_the_frames_are_not_changed():
    frames = textured()
    before = frames.copy()
    transforms.cut(frames, (0, 0, 40), 24, flip=True)
    assert (frames == before).all()


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (180, 320)])
@pytest.mark.parametrize(("short_side", "crop"), [(128, 112), (64, 56), (112, 112)])
def test_cut_then_scale_is_close_to_torchvisions_scale_then_cut(height, width, short_side, crop):
    frames = textured(2, height, width)
    ours = transforms.cut(frames, *transforms.view_boxes(height, width, short_side, crop, 1), crop)
    scaled = F.resize(torch.from_numpy(frames).permute(0, 3, 1, 2), [short_side], antialias=True)
    theirs = F.center_crop(scaled, [crop, crop]).permute(0, 2, 3, 1)
    one_pixel = sum(theirs.float().diff(dim=dim).abs().mean() for dim in (1, 2))
    assert (ours.float() - theirs.float()).abs().mean() < 0.5 * one_pixel + 0.5  # torchvision rounds to whole pixels


# -- normalisation ----------------------------------------------------------------------------------------------------

MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


def test_normalise_is_the_formula():
    clips = torch.randint(0, 256, (2, 3, 4, 6, 5, 3), dtype=torch.uint8)
    got = transforms.normalise(clips, MEAN, STD)
    assert got.shape == (2, 3, 3, 4, 6, 5)
    assert got.dtype == torch.float32
    exact = (clips.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    torch.testing.assert_close(got.double(), exact.movedim(-1, 2), atol=2e-6, rtol=0)


def test_normalised_values_are_those_of_torchvision():
    clips = torch.randint(0, 256, (1, 1, 4, 6, 5, 3), dtype=torch.uint8)
    theirs = F.normalize(F.to_dtype(clips[0, 0].permute(0, 3, 1, 2), torch.float32, scale=True), MEAN, STD)
    torch.testing.assert_close(transforms.normalise(clips, MEAN, STD)[0, 0].transpose(0, 1), theirs, atol=2e-6, rtol=0)


def test_channels_stay_innermost_in_memory():
    got = transforms.normalise(torch.zeros(2, 3, 4, 6, 5, 3, dtype=torch.uint8), MEAN, STD)
    assert got.stride(2) == 1
    assert got.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)
