"""The timeline of three joined clips of motion8 tells them apart."""

import json

import numpy as np
import pytest
from helpers.commands import succeeded, tool

from videores.data.video.encode import write_video
from videores.data.video.sequential import open_video

MOTIONS = ("left", "up", "grow")


def join_clips(place):
    """Writes three.mp4, a clip of each of MOTIONS; returns the seconds at which they change, and of a window."""
    videos = place / "datasets" / "motion8" / "videos" / "test"
    frames = []
    for motion in MOTIONS:
        with open_video(sorted(videos.glob(f"*_{motion}.mp4"))[0]) as opened:
            frames += [frame for _, frame in opened.frames]
    write_video(place / "three.mp4", np.stack(frames), 25, options={"qp": "10", "g": "1", "bf": "0"})
    return (0.64, 1.28), 12 / 25


def check_timeline(place):
    changes, window = join_clips(place)
    options = ("--timeline", "--every", "0.04", "--video", "--json", "three.json")
    process = succeeded(tool("predict.py", "runs/r2plus1d_motion", "three.mp4", *options, cwd=place))
    records = json.loads((place / "three.json").read_text())["records"]
    segments = [one for one in records if one["kind"] == "segment"]
    named = [(one["top"][0]["class"], one["start"], one["end"]) for one in segments if one["top"][0]["class"]]
    long = [one for one in named if one[2] - one[1] > window / 2]
    assert [motion for motion, _, _ in long] == list(MOTIONS)
    for change, (_, _, end), (_, start, _) in zip(changes, long[:-1], long[1:], strict=True):
        assert abs(end - change) < window
        assert abs(start - change) < window
    assert "48 frames" in process.stdout
    assert (place / "results" / "predict" / "three_timeline.png").stat().st_size > 10_000


@pytest.mark.slow
def test_boundaries_of_joined_clips_are_within_a_window(tmp_path):
    succeeded(tool("train.py", "--cfg", "r2plus1d_motion.yaml", cwd=tmp_path, timeout=900))
    check_timeline(tmp_path)
