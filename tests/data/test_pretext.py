"""Pretext tasks: which frames a change shows, labels that are drawn and evenly spread, and what is refused."""

from collections import Counter

import numpy as np
import pytest
from helpers.videos import read_numbers, write_csv

from videores.config.schema import DataConfig
from videores.data import datamodule, index, pretext
from videores.data.datamodule import VideoData
from videores.errors import UserError

FRAMES = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """12 training videos of 12 groups, two of which are held out, and 6 test videos; a frame shows its number."""
    folder = tmp_path_factory.mktemp("pretext")
    rows = {
        part: [(f"{part}{i:02}.mp4", "ab"[i % 2], f"{part}{i}") for i in range(n)]
        for part, n in (("train", 12), ("test", 6))
    }
    write_csv(folder, rows, frames=FRAMES, height=32, width=32)
    return folder


def settings(root, task="transformations", **more):
    clip = {"frames": 9, **more.pop("clip", {})}
    values = dict(name="tiny", format="csv", root=str(root), val=0.2, workers=0, pretext=task, clip=clip)
    transform = dict(short_side=32, crop=32, flip=0)
    return DataConfig(**{**values, "transform": transform, **more})


def expected(task, label, index_T):
    """Offsets that a clip should show, from its first frame in time, by the words of the class."""
    if task == "order":
        return [int(part) * 6 - 6 + i for part in label.split()[1:] for i in range(3)]
    ahead = [2 * t if "twice" in label else t for t in range(9)]
    if label == "there and back":
        return [0, 1, 2, 3, 4, 3, 2, 1, 0]
    return ahead[::-1] if label.startswith("reversed") else ahead


@pytest.mark.parametrize("task", pretext.TASKS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_the_frames_that_a_clip_shows_are_those_of_its_class(root, task, part):
    data = settings(root, task, clip={"repeat": 3})
    videos = datamodule.load_videos(data)
    views = {"val": None, "test": None} if part == "train" else {"val": None, "test": _views(3)}
    dataset = VideoData(data, videos, **views).dataset(part)
    seen = Counter()
    for epoch in range(4 if part == "train" else 1):
        for number in range(len(dataset)):
            item = dataset[epoch, number]
            labels = np.broadcast_to(item["label"], 3)
            clips = item["clips"] if part == "train" else item["frames"][item["place"]]
            for label, clip_THWC in zip(labels, clips, strict=True):
                name, shown = videos.index.classes[label], np.array(read_numbers(clip_THWC))
                seen[name] += 1
                if name == "shuffled":
                    assert sorted(shown - shown.min()) == list(range(9)) != list(shown - shown.min())
                else:
                    assert list(shown - shown.min()) == expected(task, name, shown)
    assert set(seen) == set(pretext.TASKS[task])


def _views(clips):
    from videores.config.schema import ViewsConfig

    return ViewsConfig(clips=clips)


def test_a_clip_s_change_is_a_function_of_seed_epoch_video_and_view(root):
    videos = datamodule.load_videos(data := settings(root, clip={"repeat": 2}))
    draws = {}
    for seed in (0, 0, 1):
        dataset = VideoData(data, videos, val=None, test=None, seed=seed).dataset("train")
        keys = [(epoch, number, view) for epoch in range(3) for number in range(10) for view in range(2)]
        draws.setdefault(seed, []).append([dataset.draw(*key).label for key in keys])
    assert draws[0][0] == draws[0][1] != draws[1][0]
    assert Counter(draws[0][0]).keys() == set(range(6))


def test_labels_of_validation_and_test_are_even_and_hang_on_names_alone(root):
    found, plain = (index.read_index(settings(root, task)) for task in ("transformations", None))
    assert found.classes == tuple(pretext.TASKS["transformations"]) == index.read_classes(settings(root))
    for part in ("train", "val", "test"):
        ours, theirs = getattr(found, part), getattr(plain, part)
        assert [video.path for video in ours] == [video.path for video in theirs]
        counts = Counter(video.label for video in ours).values()
        assert max(counts) - min([*counts, *[0] * (len(ours) < 6)]) <= 1


@pytest.mark.parametrize(
    ("clip", "needed"), [({"frames": 13}, 25), ({"stride": 2}, 33), ({"frames": 15, "stride": 1}, 29)]
)
def test_too_few_frames_are_refused_by_name_and_count(root, clip, needed):
    with pytest.raises(UserError, match=rf"data\.pretext(?s:.)*train00\.mp4: {FRAMES} frames, {needed} needed"):
        datamodule.load_videos(settings(root, clip=clip))


def test_without_held_out_groups_a_pretext_is_refused(root):
    with pytest.raises(UserError, match=r"data\.pretext.*groups.*data\.val"):
        datamodule.load_videos(settings(root, val="none"))
