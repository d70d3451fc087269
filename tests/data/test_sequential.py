"""Videos that are read from their first frame on: when each frame is shown."""

import numpy as np
import pytest

from videores.data.video.opening import read_frame_times
from videores.data.video.sequential import SpooledPipe, open_video


@pytest.mark.parametrize("name", ["mpeg4_320x240_25fps_audio.avi", "av1_640x360.mkv", "h264_unordered.mov"])
def test_frames_have_the_times_of_their_packets(shared_data, name):
    """In the first, an AVI with packed B frames, the decoder gives them in another order than the frames."""
    path = shared_data / "videos" / name
    with open_video(path) as opened:
        seconds = [seconds for seconds, _ in opened.frames]
    np.testing.assert_allclose(seconds, read_frame_times(path), atol=1e-9)


def test_an_interrupt_that_a_decoder_swallows_is_raised_at_the_end():
    class Interrupted:
        def read1(self, _):
            raise KeyboardInterrupt

    pipe = SpooledPipe(Interrupted())
    for use in (lambda: pipe.read(1), pipe.drain):
        with pytest.raises(KeyboardInterrupt):
            use()
    pipe.pipe = None  # nothing more is read
    with pytest.raises(KeyboardInterrupt):
        pipe.drain()
