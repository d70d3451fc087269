"""What contenders read: files, what the probe found in them, the truth about their frames, and what is asked for."""

from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks import peers, videos
from videores.config.schema import ClipConfig, TransformConfig, ViewsConfig
from videores.data import shards
from videores.data.dataset import VideoDataset
from videores.data.lists import Video
from videores.data.prepare import pack
from videores.data.probe import probe
from videores.data.views import list_item_views
from videores.evaluation.protocol import format_sampling


@dataclass(frozen=True)
class Plan:
    """What is made of the videos, without augmentation but for place, scale and flip; one clip a training item.

    By default 16 frames, every second one, 112 x 112 of a short side of 128.
    """

    clip: ClipConfig = field(default_factory=lambda: ClipConfig(frames=16, stride=2))
    transform: TransformConfig = field(default_factory=lambda: TransformConfig(short_side=128, crop=112))
    views: ViewsConfig = field(default_factory=lambda: ViewsConfig(clips=10, crops=3))
    seed: int = 0

    @classmethod
    def of(cls, cfg):
        once = cfg.data.clip.model_copy(update={"repeat": 1})
        return cls(once, cfg.data.transform, cfg.test, cfg.run.seed)

    def plain(self):
        """The same frames and sizes without what changes colours."""
        t = self.transform
        return replace(self, transform=TransformConfig(short_side=t.short_side, crop=t.crop))

    def protocol(self, measurement):
        views = f" {self.views.clips}x{self.views.crops}" if measurement == "test" else ""
        return format_sampling(self.clip, f"{self.transform.crop}/{self.transform.short_side}") + views


class Material:
    def __init__(self, paths, root=Path("/"), infos=None, truths=None):
        self.root, self.names = root, [str(path) for path in paths]
        self.paths = tuple(root / name for name in self.names)
        self.infos = infos or [probe(path) for path in self.paths]
        self.truths = {} if truths is None else truths

    def data_set(self, plan, *, views=None, reader="auto"):
        listed = [Video(name, 0) for name in self.names]
        infos = {video.path: info for video, info in zip(listed, self.infos, strict=True)}
        common = dict(views=views, reader=reader, seed=plan.seed)
        return VideoDataset(self.root, listed, infos, plan.clip, plan.transform, **common)

    def exact_readers(self):
        """Those that are exact for all of the files."""
        return [name for name in self.infos[0].readers if all(name in info.readers for info in self.infos)]

    def without_dropping(self):
        """The same, read as files are for which dropping frames is not exact."""
        other = copy(self)
        other.infos = [replace(info, packet_order=b"") for info in self.infos]
        return other

    def copies(self, make, *arguments):
        return Material(make(path, *arguments) for path in self.paths)

    def packed(self, scratch):
        """The same files in shards."""
        files, out = scratch / "files", scratch / "shards"
        names = [f"{number}/{path.name}" for number, path in enumerate(self.paths)]
        for name, path in zip(names, self.paths, strict=True):
            (files / name).parent.mkdir(parents=True)
            (files / name).symlink_to(path)
        pack.write_shards(files, out, "folder", {}, names)
        root = shards.locate(out)
        infos = [replace(i, stamp=tuple((root / name).stamp)) for i, name in zip(self.infos, names, strict=True)]
        return Material(names, root, infos, self.truths)

    def truth(self, number):
        """thumbnails_THWC of all frames of a file."""
        if number not in self.truths:
            self.truths[number] = peers.truth(self.paths[number])
        return self.truths[number]

    def decode_only(self, number, frames_T):
        """The floor of reading these frames of a file."""
        return peers.decode_only(self.paths[number], min(frames_T), max(frames_T), self.infos[number].keyframes)


@dataclass(frozen=True)
class Requests:
    """What each unit asks the data set for, `keys`, (epoch, number) each, and which frames that are, `frames_UKT`.

    Known from numbered copies of the files, of which the data set draws the same frames: so all contenders, whoever
    wrote them, make the same clips. U units (training clips, or videos) of K clips of T frames.
    """

    keys: list[tuple[int, int]]
    frames_UKT: np.ndarray

    def number(self, unit):
        return self.keys[unit][1]


def training_clips(material, plan, clips, scratch):
    keys = [divmod(k, len(material.paths)) for k in range(clips)]
    return requests(material, plan, None, keys, scratch)


def view_clips(material, plan, scratch):
    """The clips of the test views, once each: its crops are of the same frames."""
    keys = [(0, number) for number in range(len(material.paths))]
    return requests(material, plan, ViewsConfig(clips=plan.views.clips), keys, scratch)


def requests(material, plan, views, keys, scratch):
    numbered = material.copies(videos.numbered_copy, scratch).data_set(plan.plain(), views=views)
    clips = [
        numbered[key]["clips"] if views is None else list_item_views(numbered[key], plan.transform.crop, views)
        for key in keys
    ]
    return Requests(keys, np.stack([[videos.numbers_shown(clip) for clip in clips_KTHWC] for clips_KTHWC in clips]))
