"""Compare an exported file with the network that it was made of, on clips of real videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videores.compute.scoring import score_clips
from videores.config.streams import has_sound
from videores.data import streams
from videores.data.lists import Video
from videores.data.probe import VideoInfo
from videores.errors import UserError
from videores.inference.exported import ExportedNetwork
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork

BATCHES = (1, 2, 5)  # sizes that are compared
TOLERANCE = 1e-4  # of logits, times the largest where that is above 1
QUANTISED_TOLERANCE = 0.2  # the same for 8-bit integers, whose answers are then compared by tools/evaluate.py
RESIZE_TOLERANCE = 0.01  # of probabilities, where ONNX scales frames and rounds grey levels otherwise


@dataclass(frozen=True)
class SampleClips:
    """Clips of a video: as decoded, and as the test loop cuts them."""

    frames_BTHWC: Tensor | None  # uint8, of the video's size; None of sound
    clips_BTHWC: Tensor  # uint8, scaled and cut; or int16 sound_BS


def read_samples(
    root: str | Path, videos: Sequence[str], infos: dict[str, VideoInfo], preprocessing: Preprocessing
) -> list[SampleClips]:
    """Read 1, 2 and 5 clips of videos under a folder, of one after the other."""
    chosen = [videos[number % len(videos)] for number in range(len(BATCHES))]
    return [_read_sample(root, path, infos, preprocessing, count) for path, count in zip(chosen, BATCHES, strict=True)]


def _read_sample(root, path, infos, preprocessing, count):
    views = preprocessing.with_views(clips=count, crops=1, starts="uniform")
    dataset = views.make_dataset(root, [Video(path, 0)], infos)
    if has_sound(preprocessing.stream):
        return SampleClips(None, dataset.fixed_views(0, 0)["frames"])
    frames_UHWC, place_KT = dataset.frames(0, dataset.frames_shown(0), lambda frame_HWC: frame_HWC)
    return _cut_sample(preprocessing, frames_UHWC, place_KT)


def _cut_sample(preprocessing, frames_UHWC, place_KT):
    scaled_UHWC = np.stack([preprocessing.scale(frame_HWC) for frame_HWC in frames_UHWC])
    clips_KTHWC = preprocessing.with_views(crops=1).cut_views(scaled_UHWC, place_KT)
    return SampleClips(torch.as_tensor(frames_UHWC[place_KT]), clips_KTHWC)


def draw_samples(preprocessing: Preprocessing) -> list[SampleClips]:
    """Draw clips of noise, where there are no videos."""
    if has_sound(preprocessing.stream):
        return [SampleClips(None, streams.draw_noise(count, preprocessing)) for count in BATCHES]
    rng, clip, side = np.random.default_rng(0), preprocessing.clip, preprocessing.transform.short_side
    return [
        _cut_sample(
            preprocessing,
            rng.integers(0, 256, (count * clip.frames, side + 7, side + 30, 3), dtype=np.uint8),
            np.arange(count * clip.frames).reshape(count, -1),
        )
        for count in BATCHES
    ]


@torch.inference_mode()
def compare_answers(
    path: Path, exported: ExportedNetwork, trained: TrainedNetwork, samples: Sequence[SampleClips]
) -> dict[int, float]:
    """Return the largest difference between a file and its network, by batch size.

    Raises UserError where it is larger than the tolerance of the kind of file.
    """
    differences = {}
    for sample in samples:
        logits_BN = score_clips(trained.model, sample.clips_BTHWC, trained.preprocessing, "fp32")
        expected_BN, tolerance = logits_BN, _select_tolerance(exported, logits_BN)
        if exported.about.input == "frames":
            assert sample.frames_BTHWC is not None  # as frames are not exported with sound
            expected_BN, answer_BN = logits_BN.softmax(1), exported(sample.frames_BTHWC)
        else:
            answer_BN = score_clips(exported, sample.clips_BTHWC, trained.preprocessing, "fp32")
        difference = float((answer_BN - expected_BN).abs().max())
        if not difference <= tolerance:
            raise UserError(
                f"{path} was not written: its {exported.about.output} must be within {tolerance:.1g} of the network's, "
                f"got {difference:.1g} at a batch of {len(answer_BN)}: {_name_remedy(exported)}"
            )
        differences[len(answer_BN)] = difference
    return differences


def _name_remedy(exported):
    return "give more --clips" if exported.about.quantised else "export without --fold, or as safetensors"


def _select_tolerance(exported, logits_BN):
    """Return the tolerance of a file's answer: none where it computes what the network computes."""
    about = exported.about
    if exported.path.suffix == ".onnx" and about.input == "frames":
        return RESIZE_TOLERANCE
    exact = exported.path.suffix == ".pt2" and not about.folded and about.input == "clips"
    relative = QUANTISED_TOLERANCE if about.quantised else TOLERANCE
    return 0.0 if exact else relative * max(1.0, float(logits_BN.abs().max()))
