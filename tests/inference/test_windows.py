"""Windows of frames that come one by one are the clips that `test.clips=all` cuts from the whole video."""

import numpy as np
import pytest

from videores.config.schema import ClipConfig, ViewsConfig
from videores.data import sampling
from videores.data.probe import VideoInfo
from videores.errors import UserError
from videores.inference.windows import Windows

ALL = ViewsConfig(clips="all")


def make_info(seconds_T, fps, uneven):
    return VideoInfo(
        num_frames=len(seconds_T),
        fps=fps,
        **dict(width=64, height=48, rotation=0, mirrored=False, pixel_aspect="1:1", has_audio=False),
        **dict(readers=("pyav",), reader="pyav", seek_points=b"", packet_order=b"", digest="", stamp=(0, 0)),
        uneven_seconds=np.asarray(seconds_T, float).tobytes() if uneven else b"",
    )


def cut_whole(info, clip):
    moments = sampling.sample_view_clips(*sampling.measure_timeline(info, clip), clip, ALL)
    return sampling.find_shown_frames(moments, info, clip).tolist()


def cut_online(windows, seconds_T):
    """index_T of each window, none of which shows a frame that is still to come, and its seconds."""
    found = []
    for number, seconds in enumerate(seconds_T):
        for window in windows.add(seconds):
            assert window.index_T.max() <= number
            found.append(window)
    found += windows.end()
    return [window.index_T.tolist() for window in found], [(window.start, window.end) for window in found]


@pytest.mark.parametrize("short", ["loop", "last"])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": 5}, {"fps": 10.0}, {"fps": 24.0}, {"fps": 60.0}])
def test_windows_are_the_clips_of_the_whole_video(options, short):
    clip = ClipConfig(frames=8, short=short, **options)
    for count in [*range(1, 60), 97, 200]:
        seconds_T = np.arange(count) / 25
        windows = Windows(clip, 25.0)
        found, _ = cut_online(windows, seconds_T)
        assert found == cut_whole(make_info(seconds_T, 25.0, False), clip), count


@pytest.mark.parametrize("fps", [5.0, 15.0, 40.0])
def test_windows_by_time_stamps_are_the_clips_of_the_whole_video(fps):
    clip, rng = ClipConfig(frames=6, fps=fps), np.random.default_rng(0)
    for count in [2, 3, 7, 20, 55, 120]:
        seconds_T = np.concatenate([[0], np.cumsum(rng.uniform(0.01, 0.2, count - 1))])
        mean_rate = float((count - 1) / seconds_T[-1])
        found, _ = cut_online(Windows(clip, None), seconds_T)
        assert found == cut_whole(make_info(seconds_T, mean_rate, True), clip), count


def test_windows_begin_at_even_intervals_whatever_the_frame_rate():
    seconds_T = np.concatenate([np.arange(50) / 25, 2 + np.arange(20) / 10])  # a camera that slows down
    found, spans = cut_online(Windows(ClipConfig(frames=5), None, every=0.5), seconds_T)
    assert [start for start, _ in spans] == pytest.approx([0, 0.52, 1, 1.52, 2, 2.5, 3, 3.5], abs=0.021)
    assert found[-1] == list(range(65, 70))
    assert spans[0] == pytest.approx((0, 0.2))


def test_after_a_gap_no_window_begins_twice():
    found, _ = cut_online(Windows(ClipConfig(frames=2), 25.0, every=0.1), [0, 0.04, 0.08, 5.0, 5.04, 5.08, 5.12])
    assert found == [[0, 1], [3, 4], [5, 6]]


@pytest.mark.parametrize("every", [None, 0.04, 0.5, 7.0])
def test_frames_that_no_window_needs_are_let_go(every):
    windows = Windows(ClipConfig(frames=8, stride=2), 25.0, every)
    for number in range(2000):
        assert all(window.index_T.min() >= windows.first_kept for window in windows.add(number / 25))
        assert number - windows.first_kept <= 2 * windows.length


def test_an_empty_video_has_no_window_and_segments_need_the_whole_video():
    assert list(Windows(ClipConfig(), 25.0).end()) == []
    with pytest.raises(UserError, match=r"data\.clip\.sampling"):
        Windows(ClipConfig(sampling="segments"), 25.0)
