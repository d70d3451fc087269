"""Frames to clips: boxes, one draw for all frames of a clip, scaling, normalisation."""

from collections import Counter

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from videores.config.schema import AugmentConfig, TransformConfig
from videores.data import transforms

SIZES = [(240, 320), (320, 240), (128, 171), (256, 256), (332, 128), (212, 612), (37, 53), (8, 300)]
SCALES = [(128, 112), (112, 112), (256, 224), (32, 32), (171, 1)]  # short side, crop


def textured(frames=3, height=60, width=80, seed=0):
    """Smooth pictures, as camera frames are; neighbours of white noise would be scaled quite differently."""
    noise = torch.rand(frames, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = F.resize(noise, [height, width], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
    return (smooth.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()


# -- boxes of training clips ------------------------------------------------------------------------------------------


def is_inside(box, height, width):
    top, left, box_height, box_width = box
    return 0 <= top < top + box_height <= height and 0 <= left < left + box_width <= width


@pytest.mark.parametrize(("short_side", "crop"), SCALES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_random_boxes_lie_inside_and_have_the_scaled_crops_size(height, width, short_side, crop):
    rng = np.random.default_rng(0)
    for _ in range(50):
        box = transforms.draw_box(height, width, short_side, crop, rng)
        assert is_inside(box, height, width)
        assert box[2] == box[3] == max(1, round(crop * min(height, width) / short_side))


def test_random_boxes_reach_every_place():
    rng = np.random.default_rng(0)
    boxes = [transforms.draw_box(12, 14, 10, 8, rng) for _ in range(500)]
    assert {size for *_, box_height, box_width in boxes for size in (box_height, box_width)} == {10}
    assert {top for top, *_ in boxes} == {0, 1, 2}
    assert {left for _, left, *_ in boxes} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("area", [(0.08, 1), (0.5, 0.5), (1, 1)])
@pytest.mark.parametrize("aspect", [(3 / 4, 4 / 3), (1, 1), (2, 3)])
def test_resized_boxes_lie_inside_and_keep_area_and_aspect(height, width, area, aspect):
    rng = np.random.default_rng(0)
    for _ in range(50):
        box = transforms.draw_resized_box(height, width, area, aspect, rng)
        assert is_inside(box, height, width)
        found = transforms.draw_rectangle(height, width, area, aspect, rng)
        if found:
            *_, h, w = found
            assert area[0] * height * width - (h + w) / 2 - 1 <= h * w <= area[1] * height * width + (h + w) / 2 + 1
            assert aspect[0] * (h - 0.5) - 0.5 <= w <= aspect[1] * (h + 0.5) + 0.5


def test_area_is_uniform_and_aspect_is_so_on_a_logarithmic_scale():
    rng = np.random.default_rng(0)
    boxes = np.array([transforms.draw_rectangle(1000, 1000, (0.1, 0.4), (0.5, 2), rng) for _ in range(4000)])
    height, width = boxes[:, 2], boxes[:, 3]
    area, aspect = height * width / 1e6, np.log2(width / height)
    for values, low, high in ((area, 0.1, 0.4), (aspect, -1, 1), (boxes[:, 0] / (1000 - height), 0, 1)):
        share = np.sort((values - low) / (high - low))
        assert np.abs(share - np.linspace(0, 1, 4000)).max() < 1.7 / np.sqrt(4000)  # Kolmogorov-Smirnov


def test_resized_boxes_are_torchvisions_in_distribution():
    ours, theirs, rng = [], [], np.random.default_rng(0)
    torch.manual_seed(0)
    their = v2.RandomResizedCrop(112)
    for _ in range(3000):
        ours.append(transforms.draw_resized_box(240, 320, (0.08, 1), (3 / 4, 4 / 3), rng))
        drawn = their.make_params([torch.empty(3, 240, 320)])
        theirs.append([drawn[name] for name in ("top", "left", "height", "width")])
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        one, other = (np.quantile(np.array(boxes), quantile, axis=0) for boxes in (ours, theirs))
        np.testing.assert_allclose(one, other, atol=12)


@pytest.mark.parametrize(("height", "width", "box"), [(100, 400, (0, 133, 100, 133)), (400, 100, (133, 0, 133, 100))])
def test_where_no_box_fits_the_largest_central_one_is_taken(height, width, box):
    assert transforms.draw_rectangle(height, width, (1, 1), (3 / 4, 4 / 3), np.random.default_rng(0)) is None
    assert transforms.draw_resized_box(height, width, (1, 1), (3 / 4, 4 / 3), np.random.default_rng(0)) == box
    assert transforms.draw_resized_box(60, 80, (1, 1), (4 / 3, 4 / 3), np.random.default_rng(0)) == (0, 0, 60, 80)


def test_multi_scale_boxes_are_corners_and_centres_of_neighbouring_scales():
    rng, scales = np.random.default_rng(0), (1, 0.875, 0.75, 0.66)
    boxes = [transforms.draw_multi_scale_box(240, 320, scales, rng) for _ in range(4000)]
    sides = [round(240 * scale) for scale in scales]
    sizes = Counter(box[2:] for box in boxes)
    assert set(sizes) == {(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1}
    assert min(sizes.values()) > 0.7 * max(sizes.values())
    for top, left, h, w in boxes:
        places = {(0, 0), (0, 320 - w), (240 - h, 0), (240 - h, 320 - w), (round((240 - h) / 2), round((320 - w) / 2))}
        assert (top, left) in places


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_multi_scale_boxes_lie_inside(height, width):
    rng = np.random.default_rng(0)
    assert all(
        is_inside(transforms.draw_multi_scale_box(height, width, (1, 0.01), rng), height, width) for _ in range(50)
    )


def test_the_keys_choose_the_box():
    draw = lambda **keys: transforms.draw_training_box(
        240, 320, TransformConfig(), AugmentConfig(**keys), np.random.default_rng(4)
    )
    rng = lambda: np.random.default_rng(4)
    assert draw(resized_crop=(0.1, 1)) == transforms.draw_resized_box(240, 320, (0.1, 1), (3 / 4, 4 / 3), rng())
    assert draw(multi_scale=(1, 0.5)) == transforms.draw_multi_scale_box(240, 320, (1, 0.5), rng())
    after = rng()
    after.integers(128, 128, endpoint=True)  # the draw of the scale, though it has one value
    assert draw() == transforms.draw_box(240, 320, 128, 112, after)


def test_the_hull_is_the_smallest_box_around_all():
    assert transforms.compute_hull([(5, 9, 32, 20)]) == (5, 9, 32, 20)
    assert transforms.compute_hull([(5, 9, 32, 20), (0, 12, 10, 30), (20, 10, 30, 1)]) == (0, 9, 50, 33)


# -- cutting ----------------------------------------------------------------------------------------------------------


def test_a_box_of_the_crops_size_is_cut_without_scaling():
    frames = textured()
    clip = transforms.crop_and_scale(frames, (5, 9, 32, 32), 32)
    assert clip.dtype == torch.uint8
    assert (clip.numpy() == frames[:, 5:37, 9:41]).all()


def test_a_box_need_not_be_square():
    frames = textured()
    expected = F.resize(torch.from_numpy(frames[:, 5:25, 9:49]).permute(0, 3, 1, 2), [32, 32], antialias=True)
    assert torch.equal(transforms.crop_and_scale(frames, (5, 9, 20, 40), 32), expected.permute(0, 2, 3, 1))


def test_some_frames_are_cut_as_all_are():
    frames = textured(6)
    chosen = np.array([1, 2, 5])
    some = transforms.crop_and_scale(frames, (3, 11, 40, 40), 24, chosen=chosen)
    assert torch.equal(some, transforms.crop_and_scale(frames, (3, 11, 40, 40), 24)[chosen])


@pytest.mark.parametrize("crop", [32, 24, 50])
def test_a_flip_mirrors_the_unflipped_clip(crop):
    plain, flipped = (transforms.crop_and_scale(textured(), (5, 9, 32, 32), crop, flip=flip) for flip in (False, True))
    assert (flipped == plain.flip(2)).all()
    assert (flipped != plain).any()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [32, 24])
def test_all_frames_of_a_clip_are_cut_alike(crop, flip):
    still = np.repeat(textured(1), 5, axis=0)
    clip = transforms.crop_and_scale(still, (3, 11, 32, 32), crop, flip=flip)
    assert (clip == clip[:1]).all()


def test_a_frame_does_not_depend_on_the_others():
    frames = textured(6)
    clip = transforms.crop_and_scale(frames, (3, 11, 40, 40), 24)
    assert (clip[2:4] == transforms.crop_and_scale(frames[2:4], (3, 11, 40, 40), 24)).all()


@pytest.mark.parametrize("crop", [16, 32, 64])
def test_clips_are_contiguous_and_have_the_crops_size(crop):
    clip = transforms.crop_and_scale(textured(), (0, 0, 32, 32), crop)
    assert clip.shape == (3, crop, crop, 3)
    assert clip.is_contiguous()


def test_the_frames_are_not_changed():
    frames = textured()
    before = frames.copy()
    transforms.crop_and_scale(frames, (0, 0, 40, 40), 24, flip=True)
    assert (frames == before).all()


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (180, 320)])
@pytest.mark.parametrize(("short_side", "crop"), [(128, 112), (64, 56), (112, 112)])
def test_cutting_first_is_close_to_scaling_first(height, width, short_side, crop):
    """So that a network sees in the test what it was trained on."""
    frames = textured(2, height, width)
    side = round(crop * min(height, width) / short_side)
    ours = transforms.crop_and_scale(frames, ((height - side) // 2, (width - side) // 2, side, side), crop)
    theirs = views(frames, short_side, crop, 1)[0]
    one_pixel = sum(theirs.float().diff(dim=dim).abs().mean() for dim in (1, 2))
    assert (ours.float() - theirs.float()).abs().mean() < 0.5 * one_pixel + 0.5  # test crops lie on whole pixels


# -- test views -------------------------------------------------------------------------------------------------------


def views(frames_THWC, short_side, crop, crops):
    """The views of one clip of all frames."""
    scaled = np.stack([transforms.scale_frame(frame, short_side) for frame in frames_THWC])
    return transforms.crop_views(scaled, np.arange(len(frames_THWC))[None], crop, crops)


@pytest.mark.parametrize(("height", "width"), [*SIZES[:6], (61, 61)])
@pytest.mark.parametrize(("short_side", "crop"), [(128, 112), (60, 33), (61, 61), (171, 1)])
def test_the_centre_view_is_torchvisions_scale_then_cut(height, width, short_side, crop):
    frames = textured(2, height, width)
    scaled = F.resize(torch.from_numpy(frames).permute(0, 3, 1, 2), [short_side], antialias=True)
    theirs = F.center_crop(scaled, [crop, crop]).permute(0, 2, 3, 1)
    assert torch.equal(views(frames, short_side, crop, 1)[0], theirs)


@pytest.mark.parametrize(("short_side", "crop"), [(128, 112), (60, 33), (61, 61)])
@pytest.mark.parametrize(("height", "width"), SIZES[:6])
def test_three_views_lie_along_the_longer_side(height, width, short_side, crop):
    frames = textured(2, height, width)
    scaled = np.stack([transforms.scale_frame(frame, short_side) for frame in frames])
    first, centre, last = views(frames, short_side, crop, 3)
    assert torch.equal(centre, views(frames, short_side, crop, 1)[0])
    room = (min(scaled.shape[1:3]) - crop) / 2
    across = round(room)
    for view, along in ((first, 0), (last, max(scaled.shape[1:3]) - crop)):
        top, left = (along, across) if height > width else (across, along)
        assert (view.numpy() == scaled[:, top : top + crop, left : left + crop]).all()


def test_a_whole_crop_of_three_covers_a_3_to_2_picture():
    assert transforms.compute_view_corners(100, 150, 100, 3) == [(0, 0), (0, 25), (0, 50)]


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (40, 40)])
def test_frames_that_have_the_size_are_not_scaled(height, width):
    frames = textured(2, height, width)
    assert np.shares_memory(transforms.scale_frame(frames[0], 40), frames[0])
    clip = views(frames, 40, 40, 1)[0].numpy()
    assert (clip == frames[:, round((height - 40) / 2) :, round((width - 40) / 2) :][:, :40, :40]).all()


def test_views_of_a_clip_have_its_frames_in_its_order():
    scaled = textured(5, 40, 60)
    place_KT = np.array([[0, 1, 2, 3], [3, 4, 0, 0]])
    got = transforms.crop_views(scaled, place_KT, 32, 3)
    assert (got.shape, got.dtype, got.is_contiguous()) == ((6, 4, 32, 32, 3), torch.uint8, True)
    for k, place_T in enumerate(place_KT):
        alone = transforms.crop_views(scaled[place_T], np.arange(4)[None], 32, 3)
        assert torch.equal(got[3 * k : 3 * k + 3], alone)


# -- normalisation ----------------------------------------------------------------------------------------------------

MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


def test_normalise_is_the_formula():
    clips = torch.randint(0, 256, (2, 3, 4, 6, 5, 3), dtype=torch.uint8)
    got = transforms.normalize_clips(clips, MEAN, STD)
    assert got.shape == (2, 3, 3, 4, 6, 5)
    assert got.dtype == torch.float32
    exact = (clips.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    torch.testing.assert_close(got.double(), exact.movedim(-1, 2), atol=2e-6, rtol=0)


def test_normalised_values_are_those_of_torchvision():
    clips = torch.randint(0, 256, (1, 1, 4, 6, 5, 3), dtype=torch.uint8)
    theirs = F.normalize(F.to_dtype(clips[0, 0].permute(0, 3, 1, 2), torch.float32, scale=True), MEAN, STD)
    torch.testing.assert_close(
        transforms.normalize_clips(clips, MEAN, STD)[0, 0].transpose(0, 1), theirs, atol=2e-6, rtol=0
    )


def test_channels_stay_innermost_in_memory():
    got = transforms.normalize_clips(torch.zeros(2, 3, 4, 6, 5, 3, dtype=torch.uint8), MEAN, STD)
    assert got.stride(2) == 1
    assert got.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)


def test_each_of_the_last_five_crops_of_ten_mirrors_one_of_the_first_five():
    scaled_UHWC = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 28, 3), dtype=np.uint8))
    views_VTHWC = transforms.crop_views(scaled_UHWC, torch.tensor([[0, 2]]), 16, 10)
    for first, last in zip(views_VTHWC[:5], views_VTHWC[5:], strict=True):
        assert torch.equal(last, first.flip(2))
        assert not torch.equal(last, first)
