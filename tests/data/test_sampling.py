"""Which frames: properties over many lengths, rates and numbers of clips."""

import numpy as np
import pytest

from videores.config.schema import ClipConfig
from videores.data import sampling

LENGTHS = [1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 100, 163, 300]
CLIPS = [1, 2, 3, 4, 5, 10, 15]
LAYOUTS = [(1, 1), (4, 1), (16, 1), (16, 2), (8, 8), (16, 2.5), (8, 0.5), (16, 29.97 / 15)]  # frames, step


def uniform(num_frames, frames, step, clips, short="loop"):
    starts = sampling.space_starts(num_frames, sampling.compute_span(frames, step), clips)
    return sampling.compute_clip_indices(starts, frames, step, num_frames, short)


def random(num_frames, frames, step, clips, seed=0, short="loop"):
    rng = np.random.default_rng(seed)
    starts = sampling.draw_starts(num_frames, sampling.compute_span(frames, step), clips, rng)
    return sampling.compute_clip_indices(starts, frames, step, num_frames, short)


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
    span = sampling.compute_span(frames, step)
    for num_frames in (span, span + 1, span + 50):
        for clip in policy(num_frames, frames, step, 5):
            assert clip[-1] - clip[0] == span - 1
            assert (np.diff(clip) >= 0).all()
            assert set(np.diff(clip)) <= {np.floor(step), np.ceil(step)}


# -- uniform ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "step"), LAYOUTS)
def test_uniform_clips_cover_both_ends(frames, step):
    for num_frames in LENGTHS:
        if num_frames >= sampling.compute_span(frames, step):
            for clips in CLIPS[1:]:
                index_KT = uniform(num_frames, frames, step, clips)
                assert index_KT[0, 0] == 0
                assert index_KT[-1, -1] == num_frames - 1


def test_uniform_starts_are_evenly_spaced():
    for last in range(60):
        for clips in range(2, 12):
            starts = sampling.space_starts(last + 1, 1, clips)
            ideal = np.arange(clips) * last / (clips - 1)
            assert np.abs(starts - ideal).max() <= 0.5
            assert (np.diff(starts) >= 0).all()


def test_uniform_starts_are_their_own_mirror_image():
    for num_frames in range(1, 80):
        for span in (1, 8, 31):
            last = max(num_frames - span, 0)
            for clips in range(1, 12):
                starts = sampling.space_starts(num_frames, span, clips)
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
    starts = sampling.draw_starts(num_frames, 16, draws, np.random.default_rng(0))
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
    assert sampling.compute_step(29.97, stride=3) == 3
    assert sampling.compute_step(30, 1, target_fps=10) == 3


def test_videos_of_10_and_30_fps_show_the_same_times_at_target_10():
    slow = sampling.compute_clip_indices([4], 8, sampling.compute_step(10, 1, 10), 40) / 10
    fast = sampling.compute_clip_indices([12], 8, sampling.compute_step(30, 1, 10), 120) / 30
    np.testing.assert_allclose(slow, fast)


@pytest.mark.parametrize("fps", [6, 10, 12.5, 15, 23.976, 25, 29.97, 50, 60])
def test_resampled_times_are_within_half_a_frame(fps):
    step = sampling.compute_step(fps, 1, 10)
    clip = sampling.compute_clip_indices([0], 16, step, 1000)[0]
    assert np.abs(clip / fps - np.arange(16) / 10).max() <= 0.5 / fps + 1e-9
    assert sampling.compute_span(16, step) == clip[-1] + 1


def test_a_target_rate_above_the_videos_repeats_frames():
    assert sampling.compute_clip_indices([0], 6, sampling.compute_step(10, 1, 20), 100)[0].tolist() == [
        0,
        1,
        1,
        2,
        2,
        3,
    ]


# -- segments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", LENGTHS)
@pytest.mark.parametrize("frames", [1, 2, 3, 8, 16])
def test_segments_give_rising_frames_of_the_video(num_frames, frames):
    rng = np.random.default_rng(0)
    drawn = np.stack([sampling.draw_segments(num_frames, frames, rng) for _ in range(50)])
    for index_KT in (drawn, *(sampling.center_segments(num_frames, frames, clips) for clips in CLIPS)):
        assert index_KT.shape[1] == frames
        assert index_KT.min() >= 0
        assert index_KT.max() < num_frames
        assert (np.diff(index_KT) >= 0).all()


@pytest.mark.parametrize(("num_frames", "frames"), [(16, 8), (17, 8), (100, 3), (300, 16), (5, 5)])
def test_every_frame_is_of_its_own_segment(num_frames, frames):
    rng = np.random.default_rng(0)
    drawn = np.stack([sampling.draw_segments(num_frames, frames, rng) for _ in range(200)])
    for index_KT in (drawn, sampling.center_segments(num_frames, frames, 7)):
        edges = np.arange(frames + 1) * num_frames / frames
        assert (index_KT + 1 > edges[:-1]).all()  # the frame is shown for a while after its segment begins
        assert (index_KT < edges[1:]).all()


@pytest.mark.parametrize(("num_frames", "frames"), [(24, 4), (25, 4), (7, 4), (3, 4)])
def test_frames_are_drawn_by_the_time_that_they_are_shown_in_the_segment(num_frames, frames):
    draws, rng = 20_000, np.random.default_rng(0)
    index_KT = np.stack([sampling.draw_segments(num_frames, frames, rng) for _ in range(draws)])
    for t in range(frames):
        start, end = t * num_frames / frames, (t + 1) * num_frames / frames
        edges = np.clip(np.arange(num_frames + 1), start, end)
        expected = np.diff(edges) / (end - start)
        found = np.bincount(index_KT[:, t], minlength=num_frames) / draws
        np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / draws))


def test_segments_of_a_clip_are_drawn_independently():
    rng = np.random.default_rng(0)
    index_KT = np.stack([sampling.draw_segments(1000, 4, rng) for _ in range(2000)])
    correlation = np.corrcoef(index_KT.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.1


def test_a_single_test_clip_has_the_centres_of_its_segments():
    assert sampling.center_segments(15, 5, 1).tolist() == [[1, 4, 7, 10, 13]]
    assert sampling.center_segments(300, 3, 1).tolist() == [[50, 150, 249]]  # the frame nearer to the middle
    assert sampling.center_segments(4, 4, 1).tolist() == [[0, 1, 2, 3]]
    assert sampling.center_segments(2, 4, 1).tolist() == [[0, 0, 1, 1]]


def test_test_clips_together_are_evenly_spaced_moments():
    for num_frames in (40, 41, 97):
        for clips in CLIPS:
            index_KT = sampling.center_segments(num_frames, 5, clips)
            moments = (np.arange(5 * clips) + 0.5) * num_frames / (5 * clips)
            shown = np.sort(index_KT.ravel())
            assert (shown <= moments).all()
            assert (moments <= shown + 1).all()
            assert (index_KT == np.sort(index_KT.ravel()).reshape(5, clips).T).all()  # clip k has the k-th of each


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
@pytest.mark.parametrize("clips", CLIPS)
def test_segments_of_a_video_and_of_its_reversal_are_seen_alike(frames, clips):
    for num_frames in range(1, 70):
        index_KT = sampling.center_segments(num_frames, frames, clips)
        mirrored_KT = (num_frames - 1 - index_KT)[::-1, ::-1]
        differs = index_KT != mirrored_KT
        if frames * clips % 2 and num_frames % 2 == 0:  # a moment in the very middle, between two frames
            assert differs[clips // 2, frames // 2]
            differs[clips // 2, frames // 2] = False
        assert not differs.any()


# -- policies ---------------------------------------------------------------------------------------------------------


def test_policies_follow_the_configuration():
    rng = lambda: np.random.default_rng(3)
    dense = ClipConfig(frames=8, stride=4)
    start = sampling.draw_starts(200, 29, 1, rng())[0]
    assert sampling.sample_random_clip(200, 30, dense, rng()).tolist() == list(range(start, start + 29, 4))
    assert (sampling.sample_uniform_clips(200, 30, dense, 3) == uniform(200, 8, 4, 3)).all()
    rate = ClipConfig(frames=8, fps=7.5)
    assert sampling.sample_random_clip(200, 30, rate, rng()).tolist() == list(range(start, start + 29, 4))
    segments = ClipConfig(frames=8, sampling="segments")
    assert (sampling.sample_random_clip(200, 30, segments, rng()) == sampling.draw_segments(200, 8, rng())).all()
    assert (sampling.sample_uniform_clips(200, 30, segments, 3) == sampling.center_segments(200, 8, 3)).all()


@pytest.mark.parametrize("speed", [0.5, 1, 1.7, 3])
def test_speed_multiplies_the_distance_between_frames(speed):
    clip = ClipConfig(frames=8, stride=4)
    starts = set()
    for seed in range(300):
        index_T = sampling.sample_random_clip(100, 30, clip, np.random.default_rng(seed), speed)
        assert np.abs(index_T - index_T[0] - np.arange(8) * 4 * speed).max() <= 0.5
        starts.add(index_T[0])
    assert (min(starts), max(starts)) == (
        0,
        100 - sampling.compute_span(8, 4 * speed),
    )  # the whole video, wherever it fits
