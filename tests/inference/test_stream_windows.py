"""Windows of videos that overlap: each is scored as its clip alone, whatever the stream takes from the next frame."""

import numpy as np
import pytest
import torch

from videores.compute.scoring import score_clips
from videores.config.streams import STREAMS
from videores.errors import UserError
from videores.inference.predictor import Predictor
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork
from videores.models import create_model

CAUSAL = {"shift": 2, "causal": True}


def make_predictor(stream, **options):
    torch.manual_seed(0)
    channels = STREAMS[stream].channels
    network = create_model("f_r2d_18", 3, layers=(1,), width=8, stem="small", channels=channels, **options).eval()
    preprocessing = Preprocessing(stream=stream, clip={"frames": 6}, transform={"short_side": 16, "crop": 16})
    return Predictor(TrainedNetwork("random", network, ("a", "b", "c"), preprocessing))


@pytest.mark.parametrize("options", [{}, CAUSAL], ids=["frames", "causal"])
@pytest.mark.parametrize("stream", [name for name in STREAMS if name not in ("flow", "audio")])
def test_a_window_is_scored_as_its_clip_alone(stream, options):
    predictor = make_predictor(stream, **options)
    frames = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    found = list(predictor.stream(frames, fps=25, every=2 / 25))
    assert len(found) > 2
    for number, window in enumerate(found):
        clip = torch.from_numpy(frames[2 * number : 2 * number + 6])[None]
        with torch.inference_mode():
            alone = score_clips(predictor.model, clip, predictor.preprocessing, "fp32")
        np.testing.assert_allclose(window.logits_KN, alone.numpy(), atol=1e-5)


def test_frames_that_come_are_no_flow():
    with pytest.raises(UserError, match="--flow"):
        list(make_predictor("flow").stream([np.zeros((16, 16, 3), np.uint8)]))
