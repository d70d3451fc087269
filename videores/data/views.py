"""Count and cut the views of a video in validation and test.

An item holds each frame that some view shows once, scaled, and says which frames make which clip; the views are cut
where the network runs, as many at a time as it takes. So neither memory nor what goes through the workers' pipes grows
with the number of views of a frame.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch

from videores.config.schema import ClipConfig, ViewsConfig
from videores.data import sampling, streams, transforms
from videores.data.probe import VideoInfo


def count_views(info: VideoInfo | None, clip: ClipConfig, views: ViewsConfig) -> int:
    """Return the number of views of a video, whose `info` is None if it never decoded."""
    if views.clips != "all":
        clips = views.clips
    else:
        moments, rate = sampling.measure_timeline(info, clip) if info else (1, 1)
        clips = len(sampling.sample_view_clips(moments, rate, clip, views))
    return clips * count_crops(views)


def count_crops(views: ViewsConfig) -> int:
    """Return the number of crops of a clip; the full picture is one."""
    return 1 if views.crops == "full" else views.crops


def compute_batch_size(views: ViewsConfig, batch_size: int) -> int:
    """Return how many videos have `batch_size` views together, at least 1."""
    return 1 if views.clips == "all" else max(1, batch_size // (views.clips * count_crops(views)))


def collate_items(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collate items of several videos, or of none, of any sizes and lengths.

    {"frames": [uint8 scaled_UHWC, or int16 sound_KS], "place": [place_KT], "video": number_B, "label": label_B} of
    those that decode, and "unreadable": [(number, reason)] of those that do not. Where several sources are read, frames
    and places are those of each, {source: frames}.
    """
    shown = [item for item in items if "frames" in item]
    return {
        "frames": [item["frames"] for item in shown],
        "place": [item["place"] for item in shown],
        "video": torch.tensor([item["video"] for item in shown], dtype=torch.long),
        "label": torch.tensor([item["label"] for item in shown], dtype=torch.long),
        "unreadable": [(item["video"], item["unreadable"]) for item in items if "unreadable" in item],
    }


def split_batch(
    batch: Mapping[str, Any], crop: int, views: ViewsConfig, limit: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, Any]]:
    """Yield (video_X, view_X, uint8 clips_XTHWC): all views of a batch in order.

    X is at most `limit` for clips of crop x crop pixels, and fewer for whole pictures, so that the pixels stay as many.
    Of sound it yields int16 sound_XS, and {source: clips} where several sources are read.
    """
    measure = lambda frames: _compute_view_size(frames, crop, views.crops)
    sizes = [streams.map_sources(measure, frames) for frames in batch["frames"]]
    numbers = [len(streams.pick_first(place_KT)) * count_crops(views) for place_KT in batch["place"]]
    for size, items in groupby(range(len(sizes)), sizes.__getitem__):
        height, width = streams.pick_first(size)
        alike = [(item, view) for item in items for view in range(numbers[item])]
        most = max(1, limit * crop**2 // (height * width))
        for start in range(0, len(alike), most):
            yield _cut_views(batch, alike[start : start + most], crop, views)


def list_item_views(item: Mapping[str, Any], crop: int, views: ViewsConfig) -> Any:
    """Return uint8 clips_VTHWC, or int16 sound_VS, all views of an item.

    Of several sources they are {source: clips}.
    """
    return _cut_item(item["frames"], item["place"], crop, views)


def _cut_views(batch, pairs, crop, views):
    """Cut the clips of some (item, view) of a batch.

    Those of an item follow each other.
    """
    runs = [(item, [view for _, view in run]) for item, run in groupby(pairs, itemgetter(0))]
    clips = [_cut_item(batch["frames"][item], batch["place"][item], crop, views, chosen) for item, chosen in runs]
    item_X, view_X = torch.tensor(pairs).unbind(1)
    return batch["video"].cpu()[item_X], view_X, _concatenate(clips)


def _concatenate(clips):
    if isinstance(clips[0], Mapping):
        return {source: _concatenate([one[source] for one in clips]) for source in clips[0]}
    return torch.cat(clips) if len(clips) > 1 else clips[0]


def _compute_view_size(frames, crop, crops):
    """Return the height and width of views; sound counts as the crop."""
    if frames.ndim == 2:
        return crop, crop
    return transforms.compute_view_size(frames.shape[1], frames.shape[2], crop, crops)


def _cut_item(frames, place_KT, crop, views, chosen=None):
    """Cut views of pictures, all where none are chosen; the sound of a clip is that of all its crops."""
    if isinstance(frames, Mapping):
        return {source: _cut_item(frames[source], place_KT[source], crop, views, chosen) for source in frames}
    if frames.ndim == 2:
        chosen = range(len(frames) * count_crops(views)) if chosen is None else chosen
        return frames[[view // count_crops(views) for view in chosen]]
    return transforms.crop_views(frames, place_KT, crop, views.crops, chosen)
