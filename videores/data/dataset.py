"""Read items: one video with its K views.

Randomness is a function of seed, epoch and video.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from videores.config.schema import AugmentConfig, ClipConfig, TransformConfig, ViewsConfig
from videores.config.streams import StreamName
from videores.data import corruptions, mixing, sampling, streams, transforms
from videores.data.augment import augment_clip
from videores.data.decode import read_frames
from videores.data.lists import Video
from videores.data.probe import VideoInfo
from videores.data.samplers import AUGMENT_STREAM, MIX_STREAM, SAMPLING_STREAM, make_rng
from videores.data.shards import Root
from videores.data.video import sandbox
from videores.data.views import count_views
from videores.errors import UnreadableVideo

ITEM_TIMEOUT = 300  # seconds for one item


class _ClipParameters(NamedTuple):
    """Hold what chance decides of a clip; `rng` draws the changes of its pixels."""

    index_T: np.ndarray
    box: tuple[int, int, int, int]
    flip: bool
    hue: float
    gain: float
    rng: np.random.Generator


class VideoDataset(Dataset):
    """Read items of videos: training clips, or all views of a test.

    Without `views`, an item has clip.repeat random clips, view k drawn from hash(seed, epoch, video, k). With `views`,
    it has the distinct "frames" of the test views and their "place" in the clips, never augmented; views.py cuts the
    clips from them. With `marks_unreadable`, a video that does not decode has "unreadable", the reason, instead.
    Nothing depends on the worker that makes the item. Training items have label_K instead of the label where flips
    change labels (`flips`, of mirroring.make_flip_map), and what is drawn for the device: "hue" is hue_K, "gain"
    gain_K, "draw" the seed of the batch's mixture.
    """

    def __init__(
        self,
        root: Root,
        videos: Sequence[Video],
        infos: Mapping[str, VideoInfo],
        clip: ClipConfig,
        transform: TransformConfig,
        *,
        stream: StreamName = "rgb",
        views: ViewsConfig | None = None,
        augment: AugmentConfig = AugmentConfig(),  # noqa: B008 (it is frozen)
        flips: Sequence[int] | None = None,
        reader: str = "auto",
        seed: int = 0,
        cache: Any = None,
        marks_unreadable: bool = False,
    ):
        self.root, self.videos, self.infos = root, videos, infos
        self.stream, self.clip, self.transform, self.views = stream, clip, transform, views
        self.augment, self.flips = augment, flips
        self.reader, self.seed, self.cache, self.marks_unreadable = reader, seed, cache, marks_unreadable

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, key):
        with _limit_item_time():
            return self.item(*key)

    def item(self, epoch, number):
        make = self.random_views if self.views is None else self.fixed_views
        try:
            made = make(epoch, number)
        except UnreadableVideo as error:
            if not self.marks_unreadable:
                raise
            made = {"unreadable": error.reason}
        return {"label": self.videos[number].label, **made, "video": number}

    def info(self, number):
        return self.infos[self.videos[number].path]

    # Training

    def random_views(self, epoch, number):
        draws = [self.draw(epoch, number, view) for view in range(self.clip.repeat)]
        around = transforms.compute_hull([draw.box for draw in draws])
        index_KT = np.stack([draw.index_T for draw in draws])
        keep = lambda frame: transforms.crop_padded_box(frame, around, self.fill())
        frames_UHWC, place_KT = self.frames(number, index_KT, keep)
        clips = [self.cut(frames_UHWC, around, place_T, draw) for place_T, draw in zip(place_KT, draws, strict=True)]
        item = {"clips": torch.stack(clips) if len(clips) > 1 else clips[0][None]}
        if self.flips:
            label = self.videos[number].label
            item["label"] = torch.tensor([self.flips[label] if draw.flip else label for draw in draws])
        if self.augment.hue:
            item["hue"] = torch.tensor([draw.hue for draw in draws])
        if self.augment.gain:
            item["gain"] = torch.tensor([draw.gain for draw in draws])
        if self.augment.has_mixing:
            item["draw"] = int(make_rng(MIX_STREAM, self.seed, epoch, number).integers(2**63))
        return item

    def draw(self, epoch, number, view):
        """Draw the place and the augmentation of one view.

        The first view's place is drawn as if there were no others, and as if nothing were augmented.
        """
        place = make_rng(SAMPLING_STREAM, self.seed, epoch, number, *([view] if view else []))
        look = make_rng(AUGMENT_STREAM, self.seed, epoch, number, view)
        info, augment = self.info(number), self.augment
        speed = np.exp(look.uniform(*np.log(augment.speed or (1, 1))))
        hue = look.uniform(-augment.hue, augment.hue)
        gain = look.uniform(*augment.gain) if augment.gain else 1.0
        index_T = sampling.sample_random_clip(*sampling.measure_timeline(info, self.clip), self.clip, place, speed)
        index_T = sampling.find_shown_frames(index_T, info, self.clip)
        if "depth" in augment.flip_axes and look.random() < 0.5:
            index_T = index_T[::-1]
        box = transforms.draw_training_box(info.height, info.width, self.transform, augment, place)
        flip = bool(place.random() < self.transform.flip) and self.may_flip(number)
        return _ClipParameters(index_T, box, flip, hue, gain, look)

    def may_flip(self, number):
        return self.flips is None or self.flips[self.videos[number].label] >= 0

    def cut(self, frames_UHWC, around, place_T, draw):
        """Cut the clip of those frames, of which the box `around` is there.

        A frame that is shown twice is worked on once.
        """
        chosen, place_T = np.unique(place_T, return_inverse=True)
        some = chosen if len(chosen) < len(frames_UHWC) else None
        top, left, *size = draw.box
        box = (top - around[0], left - around[1], *size)
        clip = transforms.crop_and_scale(frames_UHWC, box, self.transform.crop, draw.flip, some)
        if draw.flip:
            streams.mirror_values(clip, self.stream)
        clip = augment_clip(clip, self.augment, self.fill(), draw.rng)
        return clip if np.array_equal(place_T, np.arange(len(clip))) else clip[place_T]

    def fill(self):
        """Return the RGB color outside of frames, which becomes 0."""
        return [round(255 * value) for value in self.transform.mean]

    # Test

    def frames_shown(self, number):
        """Return index_KT of the test clips."""
        info, seed = self.info(number), corruptions.derive_seed(self.seed, self.videos[number].path)
        moments = sampling.sample_view_clips(*sampling.measure_timeline(info, self.clip), self.clip, self.views)
        index_KT = sampling.find_shown_frames(moments, info, self.clip)
        return corruptions.select_shown_frames(index_KT, info.num_frames, self.views, seed)

    def fixed_views(self, _, number):
        short_side, seed = self.transform.short_side, corruptions.derive_seed(self.seed, self.videos[number].path)
        index_KT = self.frames_shown(number)
        scaled_UHWC, place_KT = self.frames(number, index_KT, lambda frame: transforms.scale_frame(frame, short_side))
        scaled_UHWC = corruptions.corrupt_frames(scaled_UHWC, np.unique(index_KT), self.views, seed)
        return {"frames": torch.as_tensor(scaled_UHWC), "place": torch.from_numpy(place_KT)}

    def view_counts(self):
        """Return the number of views of each video."""
        return [count_views(self.info(number), self.clip, self.views) for number in range(len(self))]

    # Both

    def frames(self, number, index_KT, keep):
        """Read each distinct frame of some clips, in one decode.

        Returns what `keep` makes of them, and place_KT: which is where.
        """
        wanted, place = np.unique(index_KT, return_inverse=True)
        if self.cache is None:
            kept_UHWC = self.read(number, wanted, keep=keep)
        else:
            frames_THWC = self.cache.read(number, self.read_all)
            kept_UHWC = np.stack([keep(frames_THWC[i]) for i in wanted])
        return kept_UHWC, place.reshape(index_KT.shape)

    def read_all(self, number):
        return self.read(number, np.arange(self.info(number).num_frames))

    def read(self, number, indices, **how):
        path = self.videos[number].path
        return read_frames(self.root / path, indices, reader=self.reader, info=self.infos[path], **how)


@contextmanager
def _limit_item_time(seconds=ITEM_TIMEOUT):
    """End a worker that hangs, even in native code.

    The parent notices that the worker has died and stops the run; a time-out in the parent would delay that check.
    """
    guarded = get_worker_info() is not None
    if guarded:
        sandbox.set_alarm(seconds)
    try:
        yield
    finally:
        if guarded:
            sandbox.set_alarm(0)


def collate_training(items, augment, crop):
    """Collate a batch; where mixing is on, draw its mixture with the first item's seed."""
    batch = default_collate(items)
    if augment.has_mixing:
        rng = make_rng(MIX_STREAM, int(batch.pop("draw")[0]))
        batch["mix"] = mixing.draw_mix(augment, batch["clips"].shape[:2], crop, rng)
    return batch
