"""Damage to test videos: it is what the names say, grows with the severity, and follows from seed and video alone."""

import io

import numpy as np
import pytest
from PIL import Image

from videores.config.schema import ViewsConfig
from videores.data import corruptions

PIXELS = ("noise", "blur", "brightness", "compression")


def picture(frames=3, height=160, width=200):
    """Smooth shapes with edges, in colour."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + t) * np.cos(y / (4 + c)) for t in range(frames) for c in range(3)]
    grey = np.stack(waves).reshape(frames, 3, height, width).transpose(0, 2, 3, 1)
    return np.where(grey > 0.4, 210, 90 + 60 * grey).astype(np.uint8)


def damaged(frames, corruption, severity, seed=(0, 1), numbers=None):
    views = ViewsConfig(corruption=corruption, severity=severity)
    numbers = range(len(frames)) if numbers is None else numbers
    return np.asarray(corruptions.corrupt_frames(frames, numbers, views, seed))


def difference(one, other):
    return np.abs(one.astype(float) - other).mean()


@pytest.mark.parametrize("corruption", PIXELS)
def test_damage_grows_with_severity_and_keeps_the_form(corruption):
    frames = picture()
    found = [damaged(frames, corruption, severity) for severity in range(1, 6)]
    assert {(clip.shape, clip.dtype) for clip in found} == {(frames.shape, np.dtype(np.uint8))}
    amounts = [difference(clip, frames) for clip in found]
    assert amounts[0] > 0.5
    assert amounts == sorted(amounts)
    assert amounts[4] > 1.2 * amounts[0]


@pytest.mark.parametrize("corruption", PIXELS)
def test_damage_of_a_frame_does_not_hang_on_the_others(corruption):
    frames = picture(4)
    together = damaged(frames, corruption, 3, numbers=[5, 8, 9, 20])
    assert (damaged(frames[2:3], corruption, 3, numbers=[9])[0] == together[2]).all()


def test_noise_differs_over_frames_videos_and_seeds_and_repeats_itself():
    frames = np.full((2, 32, 32, 3), 128, dtype=np.uint8)
    first = damaged(frames, "noise", 2)
    assert (damaged(frames, "noise", 2) == first).all()
    assert (first[0] != first[1]).any()
    assert (damaged(frames, "noise", 2, seed=(0, 2)) != first).any()
    assert (damaged(frames, "noise", 2, seed=(1, 1)) != first).any()
    assert abs(first.astype(float).mean() - 128) < 2
    assert first.astype(float).std() == pytest.approx(0.12 * 255, rel=0.05)


def test_brightness_raises_the_value_and_keeps_the_hue():
    frames = np.array([[[[100, 50, 0], [0, 0, 0], [250, 125, 0]]]], dtype=np.uint8)
    got = damaged(frames, "brightness", 2)[0, 0]  # 0.2 of 255 is 51
    assert got.tolist() == [[151, 76, 0], [51, 51, 51], [255, 128, 0]]


def test_blur_keeps_the_mean_and_scales_with_the_picture():
    flat = np.full((1, 32, 48, 3), 77, dtype=np.uint8)
    assert (damaged(flat, "blur", 5) == 77).all()
    point = np.zeros((1, 224, 224, 3), dtype=np.uint8)
    point[0, 112, 112] = 255
    spread = damaged(point, "blur", 1)[0, 112, 112, 0] / 255
    assert spread == pytest.approx(1 / (2 * np.pi), abs=0.01)  # a Gaussian of one pixel
    assert damaged(np.zeros((1, 1, 1, 3), dtype=np.uint8), "blur", 5).shape == (1, 1, 1, 3)


def test_compression_is_jpeg():
    frames = picture(1)
    got = damaged(frames, "compression", 5)
    with Image.open(encoded(frames[0], 7)) as image:
        assert (got[0] == np.asarray(image)).all()


def encoded(frame, quality):
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return file


def test_without_damage_frames_are_the_same_memory():
    frames = picture(1)
    for name in ("none", "frame_drop"):
        assert corruptions.corrupt_frames(frames, [0], ViewsConfig(corruption=name), (0, 0)) is frames


def test_frames_are_lost_as_often_as_severity_says():
    index_KT = np.arange(4000)[None]
    shares = []
    for severity in range(1, 6):
        views = ViewsConfig(corruption="frame_drop", severity=severity)
        got = corruptions.select_shown_frames(index_KT, 4000, views, (0, 1))[0]
        assert got[0] == 0
        assert (got <= index_KT[0]).all()
        assert (np.diff(got) >= 0).all()
        assert set(got[got != np.arange(4000)]) <= set(
            got[got == np.arange(4000)]
        )  # shown instead: frames that are kept
        shares.append(float((got != index_KT[0]).mean()))
    assert shares == pytest.approx(corruptions.DROP_PROBABILITIES, abs=0.03)


def test_a_seed_follows_from_the_path_and_not_from_the_place_in_a_list():
    assert corruptions.derive_seed(3, "a/b.avi") == corruptions.derive_seed(3, "a/b.avi")
    assert len({corruptions.derive_seed(seed, path) for seed in (0, 1) for path in ("a", "b", "c")}) == 6


@pytest.mark.parametrize("frames", [1, 2, 7, 8])
def test_orders_of_any_length(frames):
    index_KT = np.arange(3 * frames).reshape(3, frames)
    rng = lambda: np.random.default_rng(0)
    of = lambda order: corruptions.reorder_frames(index_KT, order, rng())
    assert of("normal") is index_KT
    assert (of("reversed") == np.flip(index_KT, 1)).all()
    assert (of("frozen") == index_KT[:, [frames // 2]]).all()
    assert (of("static") == index_KT[:, [0]]).all()
    assert (of("subsampled") == index_KT - index_KT[:1] % 2).all()
    assert (np.sort(of("shuffled"), axis=1) == index_KT).all()
