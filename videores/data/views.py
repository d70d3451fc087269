"""Views of a video in validation and test: how many there are, and their way to the network.

An item holds each frame that some view shows once, scaled, and says which frames make which clip; the views are cut
where the network runs, as many at a time as it takes. So neither memory nor what goes through the workers' pipes grows
with the number of views of a frame.
"""

from itertools import groupby
from operator import itemgetter

import torch

from videores.data import sampling, transforms


def count_views(info, clip, views):
    """How many views a video has under a config.ViewsConfig; `info` is None for one that never decoded."""
    if views.clips != "all":
        clips = views.clips
    else:
        clips = len(sampling.sample_view_clips(info.num_frames, info.fps, clip, views)) if info else 1
    return clips * count_crops(views)


def count_crops(views):
    return 1 if views.crops == "full" else views.crops


def compute_batch_size(views, batch_size):
    """Videos in a batch: as many as have `batch_size` views together."""
    return 1 if views.clips == "all" else max(1, batch_size // (views.clips * count_crops(views)))


def collate_items(items):
    """Items of several videos as one batch, of none too; sizes and numbers of frames may differ.

    {"frames": [uint8 scaled_UHWC], "place": [place_KT], "video": number_B, "label": label_B} of those that decode, and
    "unreadable": [(number, reason)] of those that do not.
    """
    shown = [item for item in items if "frames" in item]
    return {
        "frames": [item["frames"] for item in shown],
        "place": [item["place"] for item in shown],
        "video": torch.tensor([item["video"] for item in shown], dtype=torch.long),
        "label": torch.tensor([item["label"] for item in shown], dtype=torch.long),
        "unreadable": [(item["video"], item["unreadable"]) for item in items if "unreadable" in item],
    }


def split_batch(batch, crop, views, limit):
    """Yields (video_X, view_X, uint8 clips_XTHWC): all views of a batch, video by video, view by view.

    X is at most `limit` for clips of crop x crop pixels, and fewer for whole pictures, so that the pixels stay as many.
    """
    sizes = [transforms.compute_view_size(*frames.shape[1:3], crop, views.crops) for frames in batch["frames"]]
    numbers = [len(place_KT) * count_crops(views) for place_KT in batch["place"]]
    for (height, width), items in groupby(range(len(sizes)), sizes.__getitem__):
        alike = [(item, view) for item in items for view in range(numbers[item])]
        most = max(1, limit * crop**2 // (height * width))
        for start in range(0, len(alike), most):
            yield cut_views(batch, alike[start : start + most], crop, views.crops)


def list_item_views(item, crop, views):
    """uint8 clips_VTHWC of an item, all of its views."""
    return transforms.crop_views(item["frames"], item["place"], crop, views.crops)


def cut_views(batch, pairs, crop, crops):
    """The clips of some (item, view) of a batch, of which each item's follow each other."""
    runs = [(item, [view for _, view in run]) for item, run in groupby(pairs, itemgetter(0))]
    clips = [
        transforms.crop_views(batch["frames"][item], batch["place"][item], crop, crops, chosen) for item, chosen in runs
    ]
    item_X, view_X = torch.tensor(pairs).unbind(1)
    return batch["video"].cpu()[item_X], view_X, torch.cat(clips) if len(clips) > 1 else clips[0]
