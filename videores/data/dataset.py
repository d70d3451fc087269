"""Read items: one video with its K views.

Randomness is a function of seed, epoch and video.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from videores.config.schema import AudioConfig, AugmentConfig, ClipConfig, TransformConfig, ViewsConfig
from videores.config.streams import Source, Streams, list_sources
from videores.data import audio as audio_of
from videores.data import corruptions, mixing, sampling, streams, transforms
from videores.data.augment import augment_clip
from videores.data.decode import read_frames, read_sound
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
    rng: np.random.Generator


class VideoDataset(Dataset):
    """Read items of videos: training clips, or all views of a test.

    Without `views`, an item has clip.repeat random clips, view k drawn from hash(seed, epoch, video, k). With `views`,
    it has the distinct "frames" of the test views and their "place" in the clips, never augmented; views.py cuts the
    clips from them. Of the stream audio, "clips" and "frames" are int16 sound_KS of clips that are drawn alike. With
    `marks_unreadable`, a video that does not decode has "unreadable", the reason, instead. Nothing depends on the
    worker that makes the item. Training items have label_K instead of the label where flips change labels (`flips`, of
    mirroring.make_flip_map), and what is drawn for the device: "hue" is hue_K, "draw" is the seed of the batch's
    mixture.

    Where several sources are read, "clips", "frames" and "place" are {source: what an item of that source has}. This
    dataset is of the first source, `others` are of the same videos. All draw the same, as draws depend on nothing but
    the above. `timeline` are the infos that moments and boxes are drawn by, where the files are not the videos.
    """

    def __init__(
        self,
        root: Root,
        videos: Sequence[Video],
        infos: Mapping[str, VideoInfo],
        clip: ClipConfig,
        transform: TransformConfig,
        *,
        stream: Streams = "rgb",
        source: Source | None = None,
        timeline: Mapping[str, VideoInfo] | None = None,
        others: Sequence["VideoDataset"] = (),
        audio: AudioConfig = AudioConfig(),  # noqa: B008 (it is frozen)
        views: ViewsConfig | None = None,
        augment: AugmentConfig = AugmentConfig(),  # noqa: B008 (the same)
        flips: Sequence[int] | None = None,
        reader: str = "auto",
        seed: int = 0,
        cache: Any = None,
        marks_unreadable: bool = False,
    ):
        self.root, self.videos, self.infos = root, videos, infos
        self.source, self.timeline, self.others = source or list_sources(stream)[0], timeline or infos, others
        self.stream, self.clip, self.transform, self.views = stream, clip, transform, views
        self.audio, self.augment, self.flips = audio, augment, flips
        self.reader, self.seed, self.cache, self.marks_unreadable = reader, seed, cache, marks_unreadable

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, key):
        with _limit_item_time():
            return self.item(*key)

    def item(self, epoch, number):
        try:
            made = self.read_item(epoch, number)
        except UnreadableVideo as error:
            if not self.marks_unreadable:
                raise
            made = {"unreadable": error.reason}
        return {"label": self.videos[number].label, **made, "video": number}

    def read_item(self, epoch, number):
        make = self.random_views if self.views is None else self.fixed_views
        made = make(epoch, number)
        if not self.others:
            return made
        by_source = {self.source: made} | {other.source: other.read_item(epoch, number) for other in self.others}
        drawn = {key: value for one in reversed(by_source.values()) for key, value in one.items()}
        read = [key for key in ("clips", "frames", "place") if key in made]
        return drawn | {key: {source: one[key] for source, one in by_source.items()} for key in read}

    def info(self, number):
        return self.timeline[self.videos[number].path]

    def of(self, source):
        """Return the dataset of a source."""
        return next(dataset for dataset in (self, *self.others) if dataset.source == source)

    # Training

    def random_views(self, epoch, number):
        draws = [self.draw(epoch, number, view) for view in range(self.clip.repeat)]
        index_KT = np.stack([draw.index_T for draw in draws])
        if self.source == "audio":
            return {"clips": torch.from_numpy(self.sound(number, index_KT))}
        clips = self.draw_clips(number, index_KT, draws)
        item = {"clips": torch.stack(clips) if len(clips) > 1 else clips[0][None]}
        if self.flips:
            label = self.videos[number].label
            item["label"] = torch.tensor([self.flips[label] if draw.flip else label for draw in draws])
        if self.augment.hue:
            item["hue"] = torch.tensor([draw.hue for draw in draws])
        if self.augment.has_mixing:
            item["draw"] = int(make_rng(MIX_STREAM, self.seed, epoch, number).integers(2**63))
        return item

    def draw_clips(self, number, index_KT, draws):
        """Read the frames of some draws and cut their clips."""
        around = transforms.compute_hull([draw.box for draw in draws])
        frames_UHWC, place_KT = self.frames(number, index_KT, lambda frame: transforms.crop_box(frame, around))
        return [self.cut(frames_UHWC, around, place_T, draw) for place_T, draw in zip(place_KT, draws, strict=True)]

    def draw(self, epoch, number, view):
        """Draw the place and the augmentation of one view.

        The first view's place is drawn as if there were no others, and as if nothing were augmented.
        """
        place = make_rng(SAMPLING_STREAM, self.seed, epoch, number, *([view] if view else []))
        look = make_rng(AUGMENT_STREAM, self.seed, epoch, number, view)
        info, augment = self.info(number), self.augment
        speed = np.exp(look.uniform(*np.log(augment.speed or (1, 1))))
        hue = look.uniform(-augment.hue, augment.hue)
        index_T = sampling.sample_random_clip(*sampling.measure_timeline(info, self.clip), self.clip, place, speed)
        index_T = sampling.find_shown_frames(index_T, info, self.clip)
        box = transforms.draw_training_box(info.height, info.width, self.transform, augment, place)
        own = self.infos[self.videos[number].path]
        box = transforms.scale_box(box, (info.height, info.width), (own.height, own.width))
        flip = bool(place.random() < self.transform.flip) and self.may_flip(number)
        return _ClipParameters(index_T, box, flip, hue, look)

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
            streams.mirror_values(clip, self.source)
        fill = [round(255 * value) for value in self.transform.mean]
        clip = augment_clip(clip, self.augment, fill, draw.rng)
        return clip[place_T] if len(place_T) > len(chosen) else clip

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
        if self.source == "audio":
            sound_KS = torch.from_numpy(self.sound(number, index_KT))
            return {"frames": sound_KS, "place": torch.arange(len(sound_KS))[:, None]}
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

    def sound(self, number, index_KT):
        """Return int16 sound_KS of clips.

        It is 0 before and after the video's pictures, and where there is no sound.
        """
        info, count = self.info(number), self.audio.count_samples(self.clip)
        if not (length := audio_of.count_video_samples(info, self.audio.rate)):
            return np.zeros((len(index_KT), count), np.int16)
        first_K = audio_of.find_first_samples(info, self.clip, self.audio, index_KT[:, 0])
        low, high = max(0, first_K.min()), min(length, first_K.max() + count)
        if low >= high:
            return np.zeros((len(first_K), count), np.int16)
        if self.cache is None:
            sound_S = self.read_sound(number, low, high)
        else:
            low, sound_S = 0, self.cache.read(number, self.read_all_sound)
        sound_S = np.pad(sound_S, (max(0, low - first_K.min()), max(0, first_K.max() + count - low - len(sound_S))))
        place_K = first_K - min(low, first_K.min())
        return np.stack([sound_S[place : place + count] for place in place_K])

    def read_all_sound(self, number):
        return self.read_sound(number, 0, audio_of.count_video_samples(self.info(number), self.audio.rate))

    def read_sound(self, number, low, high):
        path = self.videos[number].path
        return read_sound(self.root / path, low, high - low, self.audio.rate, info=self.infos[path])

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
        batch["mix"] = mixing.draw_mix(augment, streams.pick_first(batch["clips"]).shape[:2], crop, rng)
    return batch
