"""Build loaders from a data configuration: index, probe, check, share out."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader
from typing_extensions import Self

from videores.config.schema import Config, DataConfig, ViewsConfig
from videores.config.streams import has_sound, list_sources
from videores.data import audio, index, lists, manifest, mirroring, mixing, probe, shards, streams, views
from videores.data import workers as workers_of
from videores.data.cache import CacheSubset, FrameCache
from videores.data.dataset import VideoDataset, collate_training
from videores.data.decode import check_reader_installed
from videores.data.samplers import EvalSampler, TrainSampler
from videores.data.synthetic import datasets
from videores.errors import UserError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Videos:
    """Hold a data set whose files were probed.

    Videos that do not decode are left out of train and val, and kept in test.
    """

    index: lists.Index
    infos: dict[str, probe.VideoInfo]
    unreadable: dict[str, dict[str, str]] = field(default_factory=dict)  # part -> path -> reason
    flows: dict[str, probe.VideoInfo] = field(default_factory=dict)  # of data.flow

    def readable(self, part):
        return tuple(v for v in getattr(self.index, part) if v.path in self.infos)


def load_videos(data: DataConfig, parts: Sequence[str] = PARTS) -> Videos:
    """Read the lists and probe the files of some parts.

    Raises UserError that names every bad training file.
    """
    check_reader_installed(data.reader)
    found = index.read_index(data)
    mirroring.make_flip_map(
        data.augment.flip_labels, found.classes
    )  # refuses unknown classes before anything is probed
    paths = {part: [v.path for v in getattr(found, part)] for part in parts}
    listed = [path for part in parts for path in paths[part]]
    infos, bad = manifest.probe_all(data.root, listed, sound=has_sound(data.stream))
    flows, bad_flows = _probe_flow(data, list(infos))
    bad |= bad_flows
    infos = {path: info for path, info in infos.items() if path not in bad}
    unreadable = {part: {path: bad[path] for path in paths[part] if path in bad} for part in parts}
    _apply_unreadable_policy(unreadable, data.on_unreadable)
    _report_warnings(infos)
    for files in (infos, flows):
        _check_reader_exact(files, data.reader)
    streams.check_content(infos, data.stream)
    streams.check_content(flows, "flow", "data.flow")
    streams.check_pairs(infos, flows)
    _check_frame_rates(infos, data.clip.fps)
    # digests are of pictures; the embedded sets have equal ones on purpose
    if data.format not in datasets.SETS and data.stream != "audio":
        _warn_equal_videos(found, infos)
    videos = Videos(found, infos, unreadable, flows)
    for part, what in (("train", "training"), ("test", "test")):
        if part in parts and not videos.readable(part):
            raise UserError(f"data.root={data.root}: no {what} video decodes; see why by tools/prepare.py")
    if "train" not in parts:
        return videos
    return replace(videos, index=replace(found, train=videos.readable("train"), val=videos.readable("val")))


def _probe_flow(data, paths):
    """Return {path: VideoInfo} and {path: reason} of the flow beside other streams.

    Raises UserError that names the files that are missing.
    """
    if data.flow is None:
        return {}, {}
    root = shards.locate(data.flow)
    missing = [path for path in paths if not probe.read_file_stamp(root / path)]
    if missing:
        raise UserError(
            f"data.flow={data.flow} lacks {len(missing)} files; write them by tools/prepare.py --flow:\n  "
            + lists.preview(missing)
        )
    flows, bad = manifest.probe_all(root, paths)
    return flows, {path: f"its flow: {reason}" for path, reason in bad.items()}


def _apply_unreadable_policy(unreadable, policy):
    """Raise UserError for bad training and validation videos, or skip them on request.

    Bad test videos count as wrong: the dataset of the test list marks them (`marks_unreadable`), ScoreAccumulator
    keeps NaN for them, and the exit code is 1.
    """
    fatal = [
        f"{path}: {reason} ({part})"
        for part in PARTS
        if part != "test"
        for path, reason in unreadable.get(part, {}).items()
    ]
    tested = [f"{path}: {reason} (test: counts as wrong)" for path, reason in unreadable.get("test", {}).items()]
    if fatal and policy == "stop":
        also = f"\nand {len(tested)} test videos:\n  {lists.preview(tested)}" if tested else ""
        raise UserError(
            f"{len(fatal)} videos do not decode; repair or remove them, or set data.on_unreadable=skip:\n  "
            + "\n  ".join(fatal)
            + also
        )
    bad = fatal + tested
    if bad:
        print(f"warning: {len(bad)} videos do not decode:\n  {lists.preview(bad)}", file=sys.stderr)


def _report_warnings(infos):
    noted = [f"{path}: {info.warnings[0]}" for path, info in infos.items() if info.warnings]
    if noted:
        print(f"warning: {len(noted)} videos are read with warnings:\n  {lists.preview(noted, 5)}", file=sys.stderr)


def _check_reader_exact(infos, reader):
    wrong = [path for path, info in infos.items() if reader != "auto" and reader not in info.readers]
    if wrong:
        raise UserError(
            f"data.reader={reader} returns wrong frames for {len(wrong)} videos; use data.reader=auto:\n  "
            + lists.preview(wrong)
        )


def _warn_equal_videos(found, infos):
    """Name videos with equal frames that are in two lists or have two labels."""
    pairs = index.find_equal_videos(found, {path: info.digest for path, info in infos.items()})
    wrong = [
        f"{one.path} ({part}, {found.classes[one.label]}) = {two.path} ({other}, {found.classes[two.label]})"
        for part, one, other, two in pairs
        if part != other or one.label != two.label
    ]
    if wrong:
        what = f"{len(wrong)} pairs of videos with equal frames have two labels or are in two lists"
        lists.warn(f"{what}; remove one of each:\n  {lists.preview(wrong)}")


def check_enough_videos(videos: Videos, batch: int) -> None:
    """Check that the training videos make a step of `batch` videos."""
    count = len(videos.readable("train"))
    if count < batch:
        raise UserError(f"data.batch_size: a step takes {batch} training videos, there are {count}; lower it")


def _check_frame_rates(infos, target_fps):
    without = [path for path, info in infos.items() if target_fps and not info.fps]
    if without:
        raise UserError(f"data.clip.fps needs frame rates; use data.clip.stride for:\n  {lists.preview(without)}")


class VideoData(pl.LightningDataModule):
    """Load the videos of a run; the batches are exact on any number of ranks."""

    def __init__(
        self,
        data: DataConfig,
        videos: Videos,
        *,
        val: ViewsConfig | None,
        test: ViewsConfig | None,
        seed: int = 0,
        accumulate: int = 1,
        gap: Sequence[int] = (),
        decoded: Self | None = None,
    ):
        super().__init__()
        self.data, self.videos, self.seed, self.accumulate, self.gap = data, videos, seed, accumulate, gap
        self.decoded = decoded
        self.views = {"train": None, "val": val, "test": test, "gap": val}
        self.datasets: dict[str, VideoDataset] = {}

    @classmethod
    def from_config(cls, cfg: Config, videos: Videos, gap: Sequence[int] = (), *, decoded: Self | None = None) -> Self:
        """Make the data module of a configuration; `gap` numbers training videos.

        `decoded` is a module of the same videos, whose frames in memory (data.cache) are used.
        """
        seed, accumulate = cfg.run.seed, cfg.train.accumulate
        views = {"val": cfg.val, "test": cfg.test}
        return cls(cfg.data, videos, **views, seed=seed, accumulate=accumulate, gap=gap, decoded=decoded)

    def dataset(self, part):
        if part not in self.datasets:
            self.datasets[part] = self.make_dataset(part)
        return self.datasets[part]

    def make_dataset(self, part):
        first, *others = list_sources(self.data.stream)
        return self.make_source(part, first, [self.make_source(part, other) for other in others])

    def make_source(self, part, source, others=()):
        data, listed, infos = self.data, self.listed(part), self.infos(source)
        return VideoDataset(
            shards.locate(data.root if infos is self.videos.infos else data.flow),
            listed,
            infos,
            data.clip,
            data.transform,
            stream=data.stream,
            source=source,
            timeline=self.videos.infos,
            others=others,
            audio=data.audio,
            views=self.views[part],
            augment=streams.select_augment(data.augment, data.stream, source),
            flips=self.flips(),
            reader=data.reader,
            seed=self.seed,
            cache=self.cache(part, listed, source),
            marks_unreadable=part == "test",
        )

    def infos(self, source):
        return self.videos.flows if source == "flow" and self.data.flow is not None else self.videos.infos

    def listed(self, part):
        if part == "gap":
            return tuple(self.listed("train")[number] for number in self.gap)
        return self.videos.readable(part)

    def cache(self, part, listed, source):
        if self.data.cache != "ram" or not listed:
            return None
        if self.decoded:
            return self.decoded.dataset(part).of(source).cache
        if part == "gap":
            return CacheSubset(self.dataset("train").of(source).cache, self.gap)
        infos, shared = [self.infos(source)[v.path] for v in listed], self.data.workers > 0
        if source == "audio":
            shapes = [(audio.count_video_samples(info, self.data.audio.rate),) for info in infos]
            return FrameCache(shapes, shared, torch.int16)
        return FrameCache([(info.num_frames, info.height, info.width, 3) for info in infos], shared)

    def flips(self):
        rule = self.data.augment.flip_labels
        return None if rule == "none" else mirroring.make_flip_map(rule, self.videos.index.classes)

    def ranks(self):
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self):
        sampler = self.train_sampler()
        if self.trainer:
            sampler.position = partial(_find_next_batch, self.trainer.fit_loop, len(sampler))
        return self.training_loader(sampler, persistent_workers=self.data.workers > 0)

    def train_sampler(self, epoch=0):
        dataset = self.dataset("train")
        labels = [video.label for video in dataset.videos] if self.data.balanced else None
        size, ranks = self.data.batch_size, self.ranks()
        return TrainSampler(len(dataset), size, *ranks, self.seed, epoch, labels, self.accumulate)

    def training_loader(self, sampler, **options):
        collate_fn = partial(collate_training, augment=self.data.augment, crop=self.data.transform.crop)
        return self.loader(self.dataset("train"), sampler, collate_fn, **options)

    def training_batches(self, epoch, count, device):
        """Yield the first `count` batches of an epoch (None: all), as in training.

        They are on the device.
        """
        sampler = list(islice(self.train_sampler(epoch), count))
        for batch in self.training_loader(sampler):
            yield self.on_after_batch_transfer(self.transfer_batch_to_device(batch, device, 0), 0)

    def val_dataloader(self):
        if not self.videos.index.val:
            return []
        return [self.eval_loader("val"), self.eval_loader("gap")] if self.gap else self.eval_loader("val")

    def test_dataloader(self):
        return self.eval_loader("test")

    def eval_loader(self, part):
        dataset, batch_size = self.dataset(part), views.compute_batch_size(self.views[part], self.data.batch_size)
        return self.loader(dataset, EvalSampler(len(dataset), batch_size, *self.ranks()), views.collate_items)

    def loader(self, dataset, sampler, collate_fn, persistent_workers=False):
        workers = min(self.data.workers, max(1, len(sampler))) if self.data.workers else 0
        return _ResumableLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate_fn,
            num_workers=workers,
            persistent_workers=persistent_workers and workers > 0,
            multiprocessing_context=workers_of.make_worker_context() if workers else None,
            worker_init_fn=workers_of.init_worker if workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch, dataloader_idx):
        if "clips" not in batch:  # of validation or test, whose views are cut as they are scored
            return batch
        batch = mixing.finish_batch(batch, len(self.videos.index.classes))
        return {**batch, "clips": streams.make_input(batch["clips"], self.data)}


class _ResumableLoader(DataLoader):
    """Tell Lightning that a loader can resume within an epoch.

    Its sampler asks for the position.
    """

    def state_dict(self):
        return {}

    def load_state_dict(self, state_dict):
        pass


def _find_next_batch(fit_loop, batches):
    """Return the (epoch, batch in it) that Lightning's training loop comes to next.

    `batches` is how many an epoch has. It is also right where the loop restarts.
    """
    epochs = fit_loop.epoch_progress.current
    done = fit_loop.epoch_loop.batch_progress.current.processed if fit_loop.restarting else 0
    if done < batches:
        return epochs.processed, done
    # An epoch whose validation is still to come has not been counted.
    return epochs.processed + int(epochs.ready > epochs.processed), 0
