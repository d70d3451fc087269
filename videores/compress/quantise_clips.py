"""Choose and read the clips that set the ranges of quantised values: never those of the test."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videores.config.schema import DataConfig
from videores.data import datamodule, manifest, views
from videores.data.dataset import VideoDataset
from videores.data.lists import Video, preview
from videores.errors import UserError
from videores.inference.preprocessing import Preprocessing


@dataclass(frozen=True)
class CalibrationClips:
    """Clips of videos, cut as the test cuts them."""

    dataset: VideoDataset
    preprocessing: Preprocessing  # whose views are `clips` of a video

    @property
    def videos(self) -> list[str]:
        """Return the names of the videos."""
        return [video.path for video in self.dataset.videos]

    @property
    def digest(self) -> str:
        """Return a hash of the names of the videos and their frames."""
        rows = [(video.path, self.dataset.info(n).digest) for n, video in enumerate(self.dataset.videos)]
        return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Return the number of clips."""
        return sum(self.dataset.view_counts())

    def read(self) -> Iterator[np.ndarray]:
        """Yield float32 clips_KCTHW of each video."""
        for number in range(len(self.dataset)):
            item = self.dataset.fixed_views(0, number)
            clips_KTHWC = views.list_item_views(item, self.preprocessing.transform.crop, self.preprocessing.views)
            yield np.ascontiguousarray(self.preprocessing.normalize(clips_KTHWC).numpy())


def choose_clips(
    data: DataConfig, preprocessing: Preprocessing, count: int, given: Sequence[Path] = ()
) -> CalibrationClips:
    """Choose calibration clips of a run's training videos, or of given ones.

    `count` clips, each of another video, evenly over the list; of fewer videos as many of each as it takes, or a few
    more in all.

    Raises:
        UserError: if `count` is 0, a given video is one of the test, or one does not decode.
    """
    if count < 1:
        raise UserError(f"--clips must be >= 1: without clips the ranges of activations are unknown, got {count}")
    found = datamodule.load_videos(data, parts=("train",))
    root, listed, infos = data.root, found.index.train, found.infos
    if given:
        root, listed = ".", tuple(Video(str(path), 0) for path in given)
        infos = _probe_given(listed)
        _check_untested(data, infos, found.index.test)
    size = min(count, len(listed))
    chosen = [listed[len(listed) * number // size] for number in range(size)]
    clips = preprocessing.with_views(clips=-(-count // size), crops=1)
    return CalibrationClips(clips.make_dataset(root, chosen, infos, data.reader), clips)


def _probe_given(videos):
    infos, bad = manifest.probe_all(".", [video.path for video in videos])
    for path, reason in bad.items():
        raise UserError(f"--calibrate {path} must decode: {reason}")
    return infos


def _check_untested(data, infos, tested):
    """Raise UserError for videos with the frames of a test video."""
    digests = {info.digest for info in manifest.probe_all(data.root, [video.path for video in tested])[0].values()}
    wrong = [path for path, info in infos.items() if info.digest in digests]
    if wrong:
        raise UserError(
            "--calibrate must not name videos of the test, whose accuracy would no longer be that of unseen videos; "
            f"leave them out:\n  {preview(wrong, 5)}"
        )
