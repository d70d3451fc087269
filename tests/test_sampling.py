"""Which frames: properties over many lengths, rates and numbers of clips."""

import numpy as np
import pytest

from videores.data import sampling

LENGTHS = [1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 100, 163, 300]
CLIPS = [1, 2, 3, 4, 5, 10, 15]
LAYOUTS = [(1, 1), (4, 1), (16, 1), (16, 2), (8, 8), (16, 2.5), (8, 0.5), (16, 29.97 / 15)]  # frames, step


def uniform(num_frames, frames, step, clips, short="loop"):
    starts = sampling.uniform_starts(num_frames, sampling.span_of(frames, step), clips)
    return sampling.clip_indices(starts, frames, step, num_frames, short)


def random(num_frames, frames, step, clips, seed=0, short="loop"):
    rng = np.random.default_rng(seed)
    starts = sampling.random_starts(num_frames, sampling.span_of(frames, step), clips, rng)
    return sampling.clip_indices(starts, frames, step, num_frames, short)


# -- what holds for every policy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", ["loop", "last"])
@pytest.mark.parametrize("policy", [uniform, random])
@pytest.mark.parametrize(("frames", "step"), LAYOUTS)
def test_shape_and_bounds(policy, frames, step, short):
    for num_frames in LENGTHS:
        for clips in CLIPS:
            index_KT = policy(num_frames, frames, step, clips, short=short)
            assert index_KT.shape == (clips, frames)
            assert np.issubdtype(index_KT.dtype, np.integer)
            assert index_KT.min() >= 0
            assert index_KT.max() < num_frames


@pytest.mark.parametrize("policy", [uniform, random])
@pytest.mark.parametrize(("frames", "step"), LAYOUTS)
def test_clips_that_fit_are_never_wrapped(policy, frames, step):
    span = sampling.span_of(frames, step)
    for num_frames in (span, span + 1, span + 50):
        for clip in policy(num_frames, frames, step, 5):
            assert clip[-1] - clip[0] == span - 1
            assert (np.diff(clip) >= 0).all()
            assert set(np.diff(clip)) <= {np.floor(step), np.ceil(step)}


# -- uniform ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "step"), LAYOUTS)
def test_uniform_clips_cover_both_ends(frames, step):
    for num_frames in LENGTHS:
        if num_frames >= sampling.span_of(frames, step):
            for clips in CLIPS[1:]:
                index_KT = uniform(num_frames, frames, step, clips)
                assert index_KT[0, 0] == 0
                assert index_KT[-1, -1] == num_frames - 1


def test_uniform_starts_are_evenly_spaced():
    for last in range(60):
        for clips in range(2, 12):
            starts = sampling.uniform_starts(last + 1, 1, clips)
            ideal = np.arange(clips) * last / (clips - 1)
            assert np.abs(starts - ideal).max() <= 0.5
            assert (np.diff(starts) >= 0).all()


def test_uniform_starts_are_their_own_mirror_image():
    for num_frames in range(1, 80):
        for span in (1, 8, 31):
            last = max(num_frames - span, 0)
            for clips in range(1, 12):
                starts = sampling.uniform_starts(num_frames, span, clips)
                mirrored = last - starts[::-1]
                middle = clips // 2 if clips % 2 and last % 2 else None  # has no place in the exact middle
                differs = np.flatnonzero(starts != mirrored).tolist()
                assert differs == ([] if middle is None else [middle])


@pytest.mark.parametrize(("frames", "step", "clips"), [(8, 1, 2), (8, 2, 4), (16, 1, 10), (4, 3, 6)])
def test_a_video_and_its_reversal_are_seen_alike(frames, step, clips):
    for num_frames in (50, 51):
        index_KT = uniform(num_frames, frames, step, clips)
        reversed_KT = num_frames - 1 - index_KT  # the frames that the reversed video shows at these places
        assert sorted(map(tuple, index_KT)) == sorted(map(tuple, reversed_KT[:, ::-1]))


def test_a_single_clip_is_central():
    assert uniform(100, 16, 2, 1)[0].tolist() == list(range(34, 66, 2))  # 34 frames before it, 35 after
    for num_frames in range(31, 60):
        clip = uniform(num_frames, 16, 2, 1)[0]
        assert num_frames - 1 - clip[-1] - clip[0] in (0, 1)


# -- random -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [16, 17, 20, 45])
def test_random_starts_cover_every_place_uniformly(num_frames):
    places, draws = num_frames - 15, 20_000
    starts = sampling.random_starts(num_frames, 16, draws, np.random.default_rng(0))
    counts = np.bincount(starts, minlength=places)
    assert len(counts) == places
    expected = draws / places
    chi2, freedom = ((counts - expected) ** 2 / expected).sum(), places - 1
    assert chi2 <= freedom + 4 * np.sqrt(2 * freedom)


def test_random_clips_follow_their_generator():
    assert (random(300, 16, 2, 3, seed=5) == random(300, 16, 2, 3, seed=5)).all()
    assert (random(300, 16, 2, 3, seed=5) != random(300, 16, 2, 3, seed=6)).any()


def test_random_clips_of_one_video_are_independent():
    starts = random(300, 16, 1, 1000)[:, 0]
    assert len(set(starts)) > 200
    assert abs(np.corrcoef(starts[:-1], starts[1:])[0, 1]) < 0.1


# -- short videos -----------------------------------------------------------------------------------------------------


def test_short_video_loops():
    assert uniform(3, 8, 1, 1)[0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert uniform(5, 4, 2, 1)[0].tolist() == [0, 2, 4, 1]


def test_short_video_shows_its_last_frame():
    assert uniform(3, 8, 1, 1, short="last")[0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("policy", [uniform, random])
def test_short_video_always_begins_with_its_first_frame(policy):
    index_KT = policy(10, 16, 1, 4)
    assert (index_KT == index_KT[0]).all()
    assert index_KT[0, 0] == 0


@pytest.mark.parametrize("short", ["loop", "last"])
def test_one_frame_video_is_repeated(short):
    assert (uniform(1, 16, 2, 3, short) == 0).all()


# -- frame rates ------------------------------------------------------------------------------------------------------


def test_without_a_target_rate_the_stride_counts():
    assert sampling.step_of(29.97, stride=3) == 3
    assert sampling.step_of(30, 1, target_fps=10) == 3


def test_videos_of_10_and_30_fps_show_the_same_times_at_target_10():
    slow = sampling.clip_indices([4], 8, sampling.step_of(10, 1, 10), 40) / 10
    fast = sampling.clip_indices([12], 8, sampling.step_of(30, 1, 10), 120) / 30
    np.testing.assert_allclose(slow, fast)


@pytest.mark.parametrize("fps", [6, 10, 12.5, 15, 23.976, 25, 29.97, 50, 60])
def test_resampled_times_are_within_half_a_frame(fps):
    step = sampling.step_of(fps, 1, 10)
    clip = sampling.clip_indices([0], 16, step, 1000)[0]
    assert np.abs(clip / fps - np.arange(16) / 10).max() <= 0.5 / fps + 1e-9
    assert sampling.span_of(16, step) == clip[-1] + 1


def test_a_target_rate_above_the_videos_repeats_frames():
    assert sampling.clip_indices([0], 6, sampling.step_of(10, 1, 20), 100)[0].tolist() == [0, 1, 1, 2, 2, 3]
