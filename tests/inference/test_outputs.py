"""Labeled videos keep the frames and time stamps of their source; preprocessing travels as JSON."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import numbered_frames, numbered_video

from videores.data.probe import probe
from videores.data.video.sequential import open_video
from videores.errors import UserError
from videores.inference.outputs import write_labeled_video
from videores.inference.preprocessing import Preprocessing
from videores.inference.segments import Segment

SEGMENTS = [Segment(0, 0.5, "left", [0.9, 1]), Segment(0.5, 99, None, [0.3, 1])]


def read(path):
    with open_video(path) as opened:
        seconds, frames = zip(*opened.frames, strict=True)
    return np.array(seconds), np.stack(frames)


def assert_labeled_like(path, source):
    assert write_labeled_video(path, source, SEGMENTS) == probe(source).num_frames == probe(path).num_frames
    (theirs, frames), (ours, labeled) = read(source), read(path)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    height, width = frames.shape[1:3]
    assert np.abs(labeled[:, height // 2 : height, :width].astype(int) - frames[:, height // 2 :]).mean() < 12
    return frames, labeled[:, :height, :width]


@pytest.mark.parametrize("name", ["h264_340x256_32frames.mp4", "h264_rotation_90.mov", "mpeg4_640x480_5fps.mp4"])
def test_labeled_real_videos_keep_frames_and_time_stamps(shared_data, tmp_path, name):
    frames, labeled = assert_labeled_like(tmp_path / "out.mp4", shared_data / "videos" / name)
    height = frames.shape[1]
    change = np.abs(labeled[0].astype(int) - frames[0])
    assert change[: height // 12, : height // 3].mean() > 3 * change[height // 2 :].mean()  # the label


def test_labeled_videos_of_uneven_time_stamps_and_odd_size(tmp_path):
    path = tmp_path / "uneven.mkv"
    times = np.cumsum([0, *np.random.default_rng(0).integers(10, 400, 30)])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 65, 49, "bgr0"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for time, image in zip(times, numbered_frames(31, height=49, width=65), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = int(time), stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(read(path)[0], times / 1000, atol=1e-6)
    assert_labeled_like(tmp_path / "out.mp4", path)


def test_labels_change_with_time(tmp_path):
    source = numbered_video(tmp_path / "a", 25, height=96, width=160)
    _, labeled = assert_labeled_like(tmp_path / "out.mp4", source)
    bars = [np.abs(labeled[n, :9].astype(int) - labeled[n + 2, :9]).mean() for n in (8, 11)]
    assert bars[1] > bars[0] + 3  # between 0.44 and 0.52 s


def test_preprocessing_survives_json_and_names_what_is_wrong():
    one = Preprocessing(clip={"frames": 4, "fps": 12.5}, transform={"crop": 32}, views={"clips": 3, "crops": 10})
    assert Preprocessing.from_json(one.to_json(), "here") == one
    assert str(one) == "4x12.5fps@32/128 3x10 softmax-mean"
    assert str(one.with_views(clips="all")) == "4x12.5fps@32/128 allx10 softmax-mean"
    for text in ("{", '{"clip": {"frames": 0}}', '{"clop": {}}'):
        with pytest.raises(UserError, match="here"):
            Preprocessing.from_json(text, "here")
