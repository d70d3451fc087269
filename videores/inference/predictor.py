"""Predict videos with a trained network, whole or window by window."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from videores.compute.scoring import score_clips
from videores.config.streams import has_sound
from videores.data import sampling, streams, views
from videores.data import workers as workers_of
from videores.data.dataset import VideoDataset
from videores.data.lists import Video
from videores.data.manifest import probe_all
from videores.data.probe import probe
from videores.data.samplers import EvalSampler
from videores.data.shards import Root
from videores.data.video.opening import read_frame_times
from videores.data.video.sequential import OpenVideo, open_video
from videores.errors import UnreadableVideo, UserError
from videores.inference.prediction import Prediction, Times
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork
from videores.inference.stream import score_stream
from videores.inference.windows import Windows


class Predictor:
    """A trained network that predicts videos; `videores.load` makes it.

    A whole video is seen in the views of `.preprocessing`, as the test of a run sees it, so that both give the same
    scores. Windows are clips that follow each other, as `test.clips=all` cuts them, or begin at even intervals.
    """

    def __init__(self, network: TrainedNetwork):
        self.network = network

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the logits."""
        return self.network.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how clips are made from a video."""
        return self.network.preprocessing

    @property
    def model(self) -> Callable[[Tensor], Tensor]:
        """Return the network, float clips_BCTHW -> logits_BN."""
        return self.network.model

    def predict(self, video: str | Path) -> Prediction:
        """Predict a video file, or a folder of frames. Raises UnreadableVideo."""
        path = Path(video)
        ((_, answer),) = self.predict_videos(path.parent, [path.name])
        if isinstance(answer, UnreadableVideo):
            raise answer
        return answer

    def predict_videos(
        self, root: str | Root, paths: Sequence[str], *, workers: int = 0, progress: bool = False
    ) -> Iterator[tuple[str, Prediction | UnreadableVideo]]:
        """Yield (path, prediction, or why there is none) of videos under a folder, in order.

        They are read by `workers` processes, 0: this one.
        """
        sound = has_sound(self.preprocessing.stream)
        infos, bad = probe_all(root, paths, progress=progress, sound=sound)
        other = {path: streams.describe_mismatch(info.flow, self.preprocessing.stream) for path, info in infos.items()}
        bad |= {path: reason for path, reason in other.items() if reason}
        listed = [Video(path, 0) for path in paths if path not in bad]
        dataset = self.preprocessing.make_dataset(root, listed, infos)
        found = self._score(dataset, workers) if listed else iter(())
        for path in paths:
            yield path, UnreadableVideo(Path(str(root), path), bad[path]) if path in bad else next(found)

    def _score(self, dataset: VideoDataset, workers: int) -> Iterator[Prediction | UnreadableVideo]:
        """Yield the answer for each video of a dataset."""
        for video, answer in enumerate(score_videos(self.network, dataset, workers)):
            yield answer if isinstance(answer, UnreadableVideo) else self._make_prediction(dataset, video, answer)

    def _make_prediction(self, dataset: VideoDataset, video: int, logits_KN: np.ndarray) -> Prediction:
        clip, (moments, rate) = self.preprocessing.clip, sampling.measure_timeline(dataset.info(video), dataset.clip)
        step = sampling.compute_step(rate, clip.stride, clip.fps)
        is_short = clip.sampling == "dense" and moments < sampling.compute_span(clip.frames, step)
        find_times = partial(_find_times, dataset, video)
        fusion = self.preprocessing.views.fusion
        return Prediction(logits_KN, fusion, self.classes, find_times, is_short=is_short)

    def predict_windows(
        self, video: str | Path, *, every: float | None = None, batch_size: int | None = None
    ) -> Iterator[Prediction]:
        """Yield the prediction of each window of a video file, in constant memory.

        Raises UnreadableVideo where the file stops to decode; the windows before that have come.
        """
        with open_video(Path(video)) as opened:
            yield from self.score_open_video(opened, self.find_rate(Path(video), opened), every, batch_size)

    def find_rate(self, path: Path, opened: OpenVideo) -> float | None:
        """Return the rate of a file, by which a test would cut its clips, None where time stamps decide."""
        if self.preprocessing.clip.fps is None:
            return opened.rate
        info = probe(path)
        return None if info.uneven_seconds else info.fps

    def score_open_video(
        self, opened: OpenVideo, rate: float | None, every: float | None, batch_size: int | None
    ) -> Iterator[Prediction]:
        """Yield the prediction of each window of an open video."""
        if lack := streams.describe_mismatch(opened.flow, self.preprocessing.stream, with_sound=False):
            raise UnreadableVideo("this video", lack)
        windows = Windows(self.preprocessing.clip, rate, every)
        yield from score_stream(self.network, opened.frames, windows, batch_size or self.network.batch_size)

    def stream(
        self,
        frames: Iterable[np.ndarray] | Iterable[tuple[float, np.ndarray]],
        *,
        fps: float | None = 25.0,
        every: float | None = None,
        batch_size: int = 1,
    ) -> Iterator[Prediction]:
        """Yield the prediction of each window as its last frame comes.

        Args:
            frames: uint8 RGB frame_HWC, `fps` a second, or (seconds, frame_HWC).
            fps: None: the frames have time stamps and no constant rate.
            every: seconds from window to window; None: they follow each other.
            batch_size: windows that are scored at a time.
        """
        if lack := streams.describe_mismatch("", self.preprocessing.stream, with_sound=False):
            raise UserError(f"frames that come: {lack}")
        windows = Windows(self.preprocessing.clip, fps, every)
        timed = (
            frame if isinstance(frame, tuple) else (number / (fps or 25.0), frame)
            for number, frame in enumerate(frames)
        )
        yield from score_stream(self.network, timed, windows, batch_size)


@torch.inference_mode()
def score_videos(
    network: TrainedNetwork, dataset: VideoDataset, workers: int = 0
) -> Iterator[np.ndarray | UnreadableVideo]:
    """Yield float32 rows_KN of what a network answers to the views of each video, or why there are none.

    They are scored in the batches of the test loop, in the order of the dataset.
    """
    assert dataset.views is not None  # as training clips have no order
    protocol, size = dataset.views, network.batch_size
    sampler = EvalSampler(len(dataset), views.compute_batch_size(protocol, size))
    parallel: dict[str, Any] = dict(
        num_workers=workers,
        multiprocessing_context=workers_of.make_worker_context(),
        worker_init_fn=workers_of.init_worker,
    )
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=views.collate_items, **(parallel if workers else {}))
    for batch in loader:
        rows: dict[int, list[np.ndarray]] = defaultdict(list)
        for video_X, _, clips_XTHWC in views.split_batch(batch, dataset.transform.crop, protocol, size):
            clips_XTHWC = streams.map_sources(lambda clips: clips.to(network.device), clips_XTHWC)
            logits_XN = score_clips(network.model, clips_XTHWC, dataset, network.number_format)
            for video, logits_N in zip(video_X.tolist(), logits_XN.float().cpu().numpy(), strict=True):
                rows[video].append(logits_N)
        answers: dict[int, np.ndarray | UnreadableVideo] = {
            video: UnreadableVideo(Path(str(dataset.root), dataset.videos[video].path), reason)
            for video, reason in batch["unreadable"]
        }
        answers |= {video: np.stack(rows[video]) for video in rows}
        yield from (answers[video] for video in sorted(answers))


def _find_times(dataset: VideoDataset, video: int) -> Times:
    """Return the times of a whole video and its clips."""
    info, index_KT = dataset.info(video), dataset.frames_shown(video)
    seconds_T = np.array(read_frame_times(Path(str(dataset.root), dataset.videos[video].path)), dtype=np.float64)
    if len(seconds_T) != info.num_frames:  # hidden frames, or none with a time of its own
        seconds_T = np.nan_to_num(info.seconds_T)
    ends_T = np.append(seconds_T[1:], seconds_T[-1] + (1 / info.fps if info.fps else 0))
    spans = ((float(seconds_T[index_T.min()]), float(ends_T[index_T.max()])) for index_T in index_KT)
    return Times(0.0, float(ends_T[-1]), tuple(spans))
