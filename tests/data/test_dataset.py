"""From a data configuration to batches: items, samplers, the frame cache, loaders, and what stops a run."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.videos import numbered_video, read_numbers, write_csv, write_folder, write_ucf101
from torchvision.transforms.v2 import functional as F

from videores.config.schema import DataConfig, ViewsConfig
from videores.data import datamodule, sampling, transforms
from videores.data import dataset as dataset_module
from videores.data.cache import FrameCache
from videores.data.datamodule import VideoData, load_videos
from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.samplers import EvalSampler, TrainSampler
from videores.errors import UserError

WHOLE = dict(short_side=48, crop=48, flip=0)  # frames as they are in the file


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """8 training and 4 test videos of 12 frames, 48 x 48, MPEG-4 in AVI."""
    return write_ucf101(tmp_path_factory.mktemp("tiny"))


def config(values, **more):
    usual = dict(val="none", batch_size=2, workers=0, clip={"frames": 4}, transform=WHOLE)
    return DataConfig(**{**values, **usual, **more})


def module(values, test=None, seed=0, **more):
    data = config(values, **more)
    return VideoData(data, load_videos(data), val=ViewsConfig(), test=test or ViewsConfig(), seed=seed)


def train_set(values, **more):
    return module(values, **more).dataset("train")


def epoch(loader, number=0):
    """Everything of one pass, batch by batch; in training of that epoch."""
    if isinstance(loader.batch_sampler, TrainSampler):
        loader.batch_sampler.position = lambda: (number, 0)
    return [(batch["video"].tolist(), batch["label"].tolist(), clips_of(batch)) for batch in loader]


def clips_of(batch):
    """The clips of a training batch, or the frames that views are cut from."""
    return batch["clips"] if "clips" in batch else torch.cat([frames.flatten() for frames in batch["frames"]])


def views_of(dataset, key):
    item = dataset[key]
    return transforms.crop_views(item["frames"], item["place"], dataset.transform.crop, dataset.views.crops)


def same(one, other):
    return len(one) == len(other) and all(
        (a[0], a[1]) == (b[0], b[1]) and torch.equal(a[2], b[2]) for a, b in zip(one, other, strict=True)
    )


# -- items ------------------------------------------------------------------------------------------------------------


def test_an_item_is_a_clip_of_its_own_video(tiny):
    dataset = train_set(tiny)
    firsts = set()
    for number, video in enumerate(dataset.videos):
        item = dataset[0, number]
        assert (item["label"], item["video"]) == (video.label, number)
        assert item["clips"].shape == (1, 4, 48, 48, 3)
        assert item["clips"].dtype == torch.uint8
        shown = read_numbers(item["clips"][0])
        whole = read_numbers(read_frames(Path(tiny["root"], video.path), range(12)))
        assert shown == whole[shown[0] - whole[0] :][:4]
        firsts.add(whole[0])
    assert len(firsts) == len(dataset) == 8


def test_an_item_depends_on_seed_epoch_and_number_alone(tiny):
    dataset, again, other = train_set(tiny), train_set(tiny), train_set(tiny, seed=1)
    wanted = [(0, 0), (3, 5), (0, 7), (3, 0)]
    clips = {key: dataset[key]["clips"] for key in wanted}
    for key in reversed(wanted):
        assert torch.equal(again[key]["clips"], clips[key])
    assert any(not torch.equal(other[key]["clips"], clips[key]) for key in wanted)


def test_epochs_and_videos_draw_independently(tiny):
    dataset = train_set(tiny)
    starts = np.array([[read_numbers(dataset[e, n]["clips"][0])[0] % 100 for n in range(8)] for e in range(12)])
    assert set(starts.ravel()) == set(range(9))  # every place where 4 of 12 frames fit
    assert len(set(map(tuple, starts))) == 12
    assert len(set(map(tuple, starts.T))) == 8


@pytest.mark.parametrize(("flip", "mirrored"), [(0, {False}), (1, {True}), (0.5, {False, True})])
def test_flips_take_whole_clips_and_happen_as_often_as_asked(tiny, flip, mirrored):
    dataset = train_set(tiny, transform={**WHOLE, "flip": flip})
    found = []
    for e in range(8):
        clip, plain = dataset[e, 1]["clips"][0], train_set(tiny)[e, 1]["clips"][0]
        assert torch.equal(clip, plain) or torch.equal(clip, plain.flip(2))
        found.append(not torch.equal(clip, plain))
    assert set(found) == mirrored


def test_jitter_draws_the_scale_and_keeps_the_size(tiny):
    plain, jittered = (
        train_set(tiny, transform=dict(short_side=24, crop=24, jitter=j, flip=0)) for j in (None, (24, 48))
    )
    clips = [jittered[e, 0]["clips"] for e in range(5)]
    assert {clip.shape for clip in clips} == {(1, 4, 24, 24, 3)}
    assert any(not torch.equal(clip, plain[e, 0]["clips"]) for e, clip in enumerate(clips))


@pytest.mark.parametrize("short", ["loop", "last"])
def test_short_videos_fill_the_clip(tiny, short):
    dataset = train_set(tiny, clip=dict(frames=15, short=short))
    first, *_ = shown = read_numbers(dataset[0, 2]["clips"][0])
    assert [number - first for number in shown[:12]] == list(range(12))
    assert [number - first for number in shown[12:]] == ([0, 1, 2] if short == "loop" else [11] * 3)


def test_clips_at_a_frame_rate_show_the_same_times(tmp_path):
    rows = {"train": [("slow.mp4", "a"), ("fast.mp4", "a")], "test": [("t.mp4", "a")]}
    values = write_csv(tmp_path, rows, header="path,label")
    numbered_video(tmp_path / "slow", 20, fps=10, height=48, width=48)
    numbered_video(tmp_path / "fast", 60, fps=30, height=48, width=48)
    dataset = train_set(values, clip=dict(frames=4, fps=10))
    for number, step in ((0, 1), (1, 3)):
        assert set(np.diff(read_numbers(dataset[0, number]["clips"][0]))) == {step}


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_repeated_clips_of_a_video_come_from_one_decode(tiny, monkeypatch, cache):
    transform = dict(short_side=40, crop=32, jitter=(34, 44))
    one, four = (train_set(tiny, clip=dict(frames=4, repeat=k), transform=transform, cache=cache) for k in (1, 4))
    reads = counted(monkeypatch, dataset_module, "read_frames")
    items = [four[e, 3] for e in range(10)]
    assert len(reads) == (10 if cache == "none" else 1)
    assert {item["clips"].shape for item in items} == {(4, 4, 32, 32, 3)}
    for e, item in enumerate(items):
        assert torch.equal(item["clips"][0], one[e, 3]["clips"][0])  # the first is what it is without repeats
        assert set(item) == {"clips", "label", "video"}
    starts = np.array([[four.draw(e, 3, k).index_T[0] for k in range(4)] for e in range(10)])
    assert len(set(map(tuple, starts.T))) == 4
    for e, k in ((0, 1), (4, 3)):  # as if each had been read alone
        draw = four.draw(e, 3, k)
        frames = read_frames(Path(tiny["root"], four.videos[3].path), draw.index_T)
        assert torch.equal(items[e]["clips"][k], transforms.crop_and_scale(frames, draw.box, 32, draw.flip))


def test_a_batch_size_counts_videos(tiny):
    loader = module(tiny, clip=dict(frames=4, repeat=3)).train_dataloader()
    assert {batch["clips"].shape[:2] for batch in loader} == {(2, 3)}
    assert len(loader) == 4


def test_segments_show_the_whole_video(tiny):
    dataset = train_set(tiny, clip=dict(frames=4, sampling="segments"))
    shown = np.array([read_numbers(dataset[e, 3]["clips"][0]) for e in range(20)]) % 100
    assert all(set(column) == set(range(3 * t, 3 * t + 3)) for t, column in enumerate(shown.T))


def test_speed_is_drawn_for_each_clip(tmp_path):
    values = write_folder(tmp_path, parts={"train": 1, "test": 1}, frames=60)
    dataset = train_set(values, clip=dict(frames=8, stride=2, repeat=2), augment=dict(speed=(0.5, 2)))
    steps = []
    for e in range(100):
        for k in range(2):
            index_T = dataset.draw(e, 0, k).index_T
            steps.append((index_T[-1] - index_T[0]) / 7)
    share = np.sort(np.log2(np.array(steps) / 2) / 2 + 0.5)
    assert np.abs(share - np.linspace(0, 1, 200)).max() < 1.7 / np.sqrt(200) + 0.05  # spans are whole frames
    frames = np.array(read_numbers(dataset[7, 0]["clips"][1])) % 100
    assert frames.tolist() == dataset.draw(7, 0, 1).index_T.tolist()


# -- test views -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (3, 1), (1, 3), (2, 3), (10, 3)])
def test_views_are_clips_times_crops_clip_by_clip(tmp_path, clips, crops):
    values = write_folder(tmp_path, parts={"train": 1, "test": 1}, width=80, frames=20)
    dm = module(values, test=ViewsConfig(clips=clips, crops=crops), transform=dict(short_side=36, crop=32))
    dataset = dm.dataset("test")
    index_KT = sampling.compute_clip_indices(sampling.space_starts(20, 4, clips), 4, 1, 20)
    for number, video in enumerate(dataset.videos):
        frames = torch.from_numpy(read_frames(tmp_path / video.path, range(20))).permute(0, 3, 1, 2)
        scaled = F.resize(frames, [36], antialias=True).permute(0, 2, 3, 1)
        lefts = [14] if crops == 1 else [0, 14, 28]  # of 36 x 60 pixels
        expected = [scaled[index, 2:34, left : left + 32] for index in index_KT for left in lefts]
        assert torch.equal(views_of(dataset, (0, number)), torch.stack(expected))
    assert index_KT[-1, -1] == 19 or clips == 1


def counted(monkeypatch, module, name):
    """Arguments of all calls of a function from now on."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **keys: calls.append(args) or function(*args, **keys))
    return calls


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_overlapping_views_share_one_decode_and_each_frame_is_scaled_once(tmp_path, monkeypatch, cache):
    values = write_folder(tmp_path, parts={"train": 1, "test": 1}, width=80, frames=20)
    dm = module(values, test=ViewsConfig(clips=10, crops=3), transform=dict(short_side=36, crop=32), cache=cache)
    dataset = dm.dataset("test")
    reads, scaled = counted(monkeypatch, dataset_module, "read_frames"), counted(monkeypatch, transforms, "scale_frame")
    dataset[0, 1]
    assert [list(indices) for _, indices in reads] == [list(range(20))]
    assert len(scaled) == 20


def test_views_of_segments_cover_the_video(tmp_path):
    values = write_folder(tmp_path, parts={"train": 1, "test": 1}, frames=20)
    dataset = module(values, clip=dict(frames=4, sampling="segments"), test=ViewsConfig(clips=2)).dataset("test")
    first, second = (np.array(read_numbers(clip)) % 100 for clip in views_of(dataset, (0, 0)))
    assert first.tolist() == [1, 6, 11, 16]
    assert second.tolist() == [3, 8, 13, 18]


def test_views_are_the_same_in_every_epoch(tiny):
    dataset = module(tiny, test=ViewsConfig(clips=2), transform=dict(short_side=40, crop=32, flip=1)).dataset("test")
    assert torch.equal(views_of(dataset, (0, 1)), views_of(dataset, (5, 1)))


def test_evaluation_batches_shrink_with_the_views(tiny):
    for views, sizes in ((ViewsConfig(), [4]), (ViewsConfig(clips=2), [2, 2]), (ViewsConfig(clips=10), [1] * 4)):
        loader = module(tiny, test=views, batch_size=4).test_dataloader()
        assert [len(batch["video"]) for batch in loader] == sizes


# -- samplers ---------------------------------------------------------------------------------------------------------

LAYOUTS = [(40, 4, 1), (41, 4, 2), (47, 3, 5), (8, 8, 1), (9, 2, 4), (7, 1, 3)]  # length, batch size, world size


def batches(length, batch_size, world, seed=0, first=0):
    """batches[rank][step] of one epoch."""
    return [list(TrainSampler(length, batch_size, rank, world, seed, first)) for rank in range(world)]


def flat(nested):
    return [key for rank in nested for batch in rank for key in batch]


@pytest.mark.parametrize(("length", "batch_size", "world"), LAYOUTS)
def test_training_ranks_are_disjoint_and_drop_only_the_rest(length, batch_size, world):
    ranks = batches(length, batch_size, world)
    steps = length // (batch_size * world)
    assert [len(rank) for rank in ranks] == [steps] * world
    assert len(TrainSampler(length, batch_size, 0, world)) == steps
    assert {len(batch) for rank in ranks for batch in rank} == {batch_size}
    seen = [number for _, number in flat(ranks)]
    assert len(seen) == len(set(seen)) == steps * batch_size * world
    assert set(seen) <= set(range(length))


def test_each_epoch_has_another_order():
    passes = [[key for batch in TrainSampler(20, 4, epoch=epoch) for key in batch] for epoch in (3, 4, 5)]
    assert [{e for e, _ in keys} for keys in passes] == [{3}, {4}, {5}]
    orders = [[number for _, number in keys] for keys in passes]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_a_pass_begins_at_the_position_it_is_told_and_the_sampler_is_as_long_as_an_epoch():
    sampler = TrainSampler(20, 4, epoch=1)
    whole = list(sampler)
    sampler.position = lambda: (1, 3)
    assert list(sampler) == whole[3:]
    assert len(sampler) == 5
    sampler.position = lambda: (2, 0)
    assert {epoch for batch in sampler for epoch, _ in batch} == {2}


SKEWED = [0] * 30 + [1] * 8 + [3] * 3  # no video of class 2


def balanced(batch_size=4, world=1, labels=SKEWED, epoch=0, seed=0):
    """The numbers of one epoch, over all ranks."""
    ranks = [TrainSampler(len(labels), batch_size, rank, world, seed, epoch, labels) for rank in range(world)]
    return [number for sampler in ranks for batch in sampler for _, number in batch]


@pytest.mark.parametrize(("batch_size", "world"), [(4, 1), (3, 2), (5, 4), (1, 1)])
def test_a_balanced_epoch_has_every_class_and_of_a_class_every_video_equally_often(batch_size, world):
    numbers = balanced(batch_size, world)
    assert len(numbers) == len(SKEWED) // (batch_size * world) * batch_size * world
    of_class = Counter(SKEWED[number] for number in numbers)
    assert set(of_class) == {0, 1, 3}
    assert max(of_class.values()) - min(of_class.values()) <= 1
    for label in of_class:
        times = [numbers.count(number) for number, other in enumerate(SKEWED) if other == label]
        assert max(times) - min(times) <= 1


def test_the_rest_of_a_balanced_epoch_falls_on_other_classes_in_other_epochs():
    largest = [Counter(SKEWED[n] for n in balanced(1, 1, epoch=epoch)).most_common()[-1][0] for epoch in range(20)]
    assert set(largest) == {0, 1, 3}


def test_a_balanced_order_is_of_its_seed_and_epoch_and_the_same_for_all_ranks():
    assert balanced() == balanced()
    assert balanced() != balanced(epoch=1)
    assert balanced() != balanced(seed=1)
    assert sorted(balanced(4, 1)) == sorted(balanced(2, 2))


def test_equal_classes_are_each_shown_once_when_balanced():
    assert sorted(balanced(4, 1, [0, 1, 2, 3] * 5)) == list(range(20))


def test_the_order_depends_on_the_seed():
    assert flat(batches(20, 4, 1, seed=0)) != flat(batches(20, 4, 1, seed=1))


def test_what_is_dropped_differs_between_epochs():
    left = [set(range(21)) - {number for _, number in flat(batches(21, 4, 1, first=e))} for e in range(20)]
    assert {len(rest) for rest in left} == {1}
    assert len(set.union(*left)) > 5


@pytest.mark.parametrize("world", [2, 4, 8])
def test_a_global_batch_does_not_depend_on_how_many_ranks_share_it(world):
    alone, shared = batches(50, 8, 1)[0], batches(50, 8 // world, world)
    assert len(shared[0]) == len(alone)
    for step, batch in enumerate(alone):
        assert sorted(key for rank in shared for key in rank[step]) == sorted(batch)


@pytest.mark.parametrize(("accumulate", "world"), [(4, 1), (2, 2), (8, 1)])
def test_a_step_does_not_depend_on_how_many_batches_make_it(accumulate, world):
    """53 = 6 * 8 + 5: the rest of an epoch makes no step, however it would fill batches."""
    alone = batches(53, 8, 1)[0]
    size = 8 // accumulate // world
    samplers = [TrainSampler(53, size, rank, world, accumulate=accumulate) for rank in range(world)]
    ranks = [list(sampler) for sampler in samplers]
    assert {len(one) for one in (*samplers, *ranks)} == {6 * accumulate}
    for step, batch in enumerate(alone):
        share = slice(step * accumulate, (step + 1) * accumulate)
        assert sorted(key for rank in ranks for part in rank[share] for key in part) == sorted(batch)


@pytest.mark.parametrize(("length", "batch_size", "world"), [*LAYOUTS, (3, 4, 5), (1, 1, 2), (0, 2, 1)])
def test_evaluation_ranks_see_each_video_once(length, batch_size, world):
    samplers = [EvalSampler(length, batch_size, rank, world) for rank in range(world)]
    ranks = [list(sampler) for sampler in samplers]
    assert sorted(flat(ranks)) == [(0, number) for number in range(length)]
    assert [len(sampler) for sampler in samplers] == [len(rank) for rank in ranks]
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1
    assert all(len(batch) <= batch_size for rank in ranks for batch in rank)
    # Only a rank without videos has an empty batch, one: it takes part in what all ranks do together.
    assert all(rank == [[]] or all(rank) for rank in ranks)


# -- loaders ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_epochs(tiny):
    loader = module(tiny, transform=dict(short_side=40, crop=32, jitter=(34, 44))).train_dataloader()
    return epoch(loader), epoch(loader, 1)


def test_epochs_differ(two_epochs):
    first, second = two_epochs
    assert sorted(number for videos, *_ in first for number in videos) == list(range(8))
    assert not same(first, second)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(tiny, two_epochs, workers):
    dm = module(tiny, transform=dict(short_side=40, crop=32, jitter=(34, 44)), workers=workers)
    loader = dm.train_dataloader()
    assert loader.num_workers == workers
    assert all(same(epoch(loader, number), expected) for number, expected in enumerate(two_epochs))


def test_test_batches_do_not_depend_on_workers(tiny):
    alone, helped = (epoch(module(tiny, workers=w, test=ViewsConfig(clips=2)).test_dataloader()) for w in (0, 2))
    assert same(alone, helped)
    assert [videos for videos, *_ in alone] == [[0], [1], [2], [3]]


def test_an_error_in_a_worker_names_the_file(tmp_path):
    values = write_ucf101(tmp_path)
    dm = module(values, workers=1)
    broken = dm.dataset("train").videos[3].path
    Path(values["root"], broken).write_bytes(b"no video")
    with pytest.raises(Exception, match=broken):
        epoch(dm.train_dataloader())


def test_on_the_device_batches_become_normalised_floats(tiny):
    dm = module(tiny)
    batch = next(iter(dm.train_dataloader()))
    moved = dm.on_after_batch_transfer(batch, 0)
    t = dm.data.transform
    assert moved["clips"].shape == (2, 1, 3, 4, 48, 48)
    assert torch.equal(moved["clips"], transforms.normalize_clips(batch["clips"], t.mean, t.std))
    assert torch.equal(moved["label"], batch["label"])


def test_without_validation_videos_there_is_no_validation_loader(tiny):
    assert module(tiny).val_dataloader() == []
    assert sum(len(videos) for videos, *_ in epoch(module(tiny, val=0.5).val_dataloader())) == 4


@pytest.mark.parametrize("batch_size", [9, 1000])
def test_a_batch_larger_than_the_training_set_is_refused(tiny, batch_size):
    with pytest.raises(UserError, match=rf"data\.batch_size: .*{batch_size} training videos.* 8"):
        datamodule.check_enough_videos(module(tiny).videos, batch_size)


# -- the frame cache --------------------------------------------------------------------------------------------------


def test_the_cache_changes_no_item(tiny):
    plain, cached = (train_set(tiny, cache=cache) for cache in ("none", "ram"))
    for key in [(0, 0), (1, 0), (0, 7), (2, 3), (1, 0)]:
        assert torch.equal(plain[key]["clips"], cached[key]["clips"])
    assert cached.cache.filled.tolist() == [n in (0, 3, 7) for n in range(8)]


def test_the_cache_reads_a_video_once(tmp_path):
    values = write_folder(tmp_path)
    dataset = train_set(values, cache="ram")
    before = dataset[0, 2]["clips"]
    (tmp_path / dataset.videos[2].path).unlink()
    assert torch.equal(dataset[0, 2]["clips"], before)


def test_the_cache_holds_videos_of_several_sizes(tmp_path):
    paths = [numbered_video(tmp_path / f"{n}", n, start=10 * n, height=32 + 4 * n, width=60) for n in (3, 1, 8)]
    infos = [probe(path) for path in paths]
    cache = FrameCache([(info.num_frames, info.height, info.width, 3) for info in infos], shared=False)
    for _ in range(2):
        for number, path in reversed(list(enumerate(paths))):
            frames = read_frames(path, range(cache.shapes[number][0]))
            assert (cache.read(number, lambda _, frames=frames: frames) == frames).all()


def test_workers_fill_one_cache_together(tiny, two_epochs):
    dm = module(tiny, cache="ram", workers=2, transform=dict(short_side=40, crop=32, jitter=(34, 44)))
    loader = dm.train_dataloader()
    assert same(epoch(loader), two_epochs[0])
    dataset = dm.dataset("train")
    assert dataset.cache.filled.all()  # seen from this process, which decoded nothing
    for number, video in enumerate(dataset.videos):
        frames = dataset.cache.read(number, pytest.fail)
        assert (frames == read_frames(Path(tiny["root"], video.path), range(12))).all()
    assert same(epoch(loader, 1), two_epochs[1])


@pytest.mark.parametrize("shared", [False, True])
def test_a_cache_larger_than_memory_is_refused_before_it_is_made(one_frame, shared):
    with pytest.raises(UserError, match=r"data\.cache=ram needs [\d.]+ GB.*data\.cache=none"):
        FrameCache([(10**12, 48, 48, 3)], shared=shared)


# -- what stops a run -------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path):
    """A set with two bad training videos and a bad test video: the values, and the paths."""
    values = write_ucf101(tmp_path)
    paths = ["Run/v_Run_g02_c01.avi", "Walk/v_Walk_g03_c02.avi", "Run/v_Run_g01_c02.avi"]
    for path in paths:
        Path(values["root"], path).write_bytes(b"" if path == paths[0] else b"no video")
    return values, paths


def test_bad_training_videos_stop_a_run_and_are_all_named_with_reasons(damaged):
    values, (empty, broken, tested) = damaged
    with pytest.raises(UserError, match=r"2 videos do not decode.*data\.on_unreadable=skip") as caught:
        load_videos(config(values))
    message = str(caught.value)
    assert f"{empty}: the file is empty" in message
    assert f"{broken}: " in message
    assert f"\nand 1 test videos:\n  {tested}: " in message


def test_bad_validation_videos_stop_a_run(damaged):
    values, paths = damaged
    for val in (0.3, 0.7):
        with pytest.raises(UserError, match="2 videos do not decode") as caught:
            load_videos(config(values, val=val))
        assert "(val)" in str(caught.value)
        assert all(path in str(caught.value) for path in paths[:2])


def test_bad_videos_are_skipped_on_request_and_recorded(damaged, capsys):
    values, (empty, broken, tested) = damaged
    videos = load_videos(config(values, on_unreadable="skip"))
    assert set(videos.unreadable["train"]) == {empty, broken}
    assert set(videos.unreadable["test"]) == {tested}
    listed = {video.path for video in videos.index.train}
    assert len(listed) == 6
    assert not listed & {empty, broken}
    warning = capsys.readouterr().err
    assert "3 videos do not decode" in warning
    assert all(path in warning for path in damaged[1])


def test_training_goes_on_with_the_readable_rest(damaged):
    loader = module(damaged[0], on_unreadable="skip").train_dataloader()
    assert sorted(number for videos, *_ in epoch(loader) for number in videos) == list(range(6))


def test_a_bad_test_video_is_warned_of_and_stays_in_the_list(tmp_path, capsys):
    values = write_ucf101(tmp_path)
    bad = "Run/v_Run_g01_c02.avi"
    Path(values["root"], bad).write_bytes(b"no video")
    dm = module(values)
    assert bad in [video.path for video in dm.videos.index.test]  # expected
    assert list(dm.videos.unreadable["test"]) == [bad]
    assert len(dm.dataset("test")) == 3  # scored
    assert f"{bad}: " in capsys.readouterr().err


def test_missing_videos_are_skipped_on_request(tmp_path):
    values = write_ucf101(tmp_path)
    Path(values["root"], "Run/v_Run_g02_c01.avi").unlink()
    videos = load_videos(config(values, on_unreadable="skip"))
    assert videos.unreadable["train"] == {"Run/v_Run_g02_c01.avi": "there is no such file"}


def test_testing_alone_looks_at_test_videos_alone(damaged):
    values, (*_, tested) = damaged
    videos = load_videos(config(values), parts=("test",))
    assert list(videos.unreadable) == ["test"]
    assert (len(videos.readable("test")), len(videos.index.test)) == (3, 4)
    assert tested not in videos.infos


def test_no_readable_training_video_is_an_error(tmp_path):
    values = write_ucf101(tmp_path)
    for path in Path(values["root"]).rglob("*.avi"):
        path.write_bytes(b"no video")
    with pytest.raises(UserError, match="no training video decodes"):
        load_videos(config(values, on_unreadable="skip"))


def test_a_reader_that_is_wrong_for_some_files_is_refused_and_they_are_named(tiny):
    with pytest.raises(UserError, match=r"data\.reader=decord.*data\.reader=auto") as caught:
        load_videos(config(tiny, reader="decord"))
    assert "Run/v_Run_g02_c01.avi" in str(caught.value)


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_a_reader_that_is_exact_is_accepted_and_gives_the_same_items(tmp_path, reader):
    values = write_folder(tmp_path, width=64)  # decord fails on widths that 32 does not divide
    named, auto = train_set(values, reader=reader), train_set(values)
    assert named.reader == reader
    assert torch.equal(named[0, 3]["clips"], auto[0, 3]["clips"])


def test_a_second_look_at_a_data_set_is_the_same(tiny):
    assert datamodule.load_videos(config(tiny)) == datamodule.load_videos(config(tiny))
