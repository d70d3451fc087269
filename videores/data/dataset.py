"""One item is one video with its K views; samplers without padding; randomness is a function, not a state."""

import re
import shutil
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate

from videores.data import sampling, transforms
from videores.data.decode import read_frames
from videores.errors import UserError

ORDER, SAMPLE = 1, 2  # streams of random numbers: of an epoch's order, and of one sample


class VideoDataset(Dataset):
    """Items are {"clips": uint8 clips_KTHWC, "label", "video"}, asked for by (epoch, number in the list).

    `views` None: one random clip, from hash(seed, epoch, video); else the test protocol's clips x crops, clip by clip.
    Nothing depends on the worker that makes the item.
    """

    def __init__(self, root, videos, infos, clip, transform, *, views=None, reader="auto", seed=0, cache=None):
        self.root, self.videos, self.infos = root, videos, infos
        self.clip, self.transform, self.views = clip, transform, views
        self.reader, self.seed, self.cache = reader, seed, cache

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, key):
        epoch, number = key
        make = self.random_views if self.views is None else self.fixed_views
        return {"clips": make(epoch, number), "label": self.videos[number].label, "video": number}

    def random_views(self, epoch, number):
        rng = np.random.default_rng([SAMPLE, self.seed, epoch, number])
        t = self.transform
        frames_KTHWC = self.frames(number, lambda n, span: sampling.random_starts(n, span, 1, rng))
        low, high = t.jitter or (t.short_side, t.short_side)
        short_side = rng.integers(low, high, endpoint=True)
        box = transforms.random_box(*frames_KTHWC.shape[2:4], short_side, t.crop, rng)
        return transforms.cut(frames_KTHWC[0], box, t.crop, flip=rng.random() < t.flip)[None]

    def fixed_views(self, _, number):
        t, views = self.transform, self.views
        frames_KTHWC = self.frames(number, lambda n, span: sampling.uniform_starts(n, span, views.clips))
        boxes = transforms.view_boxes(*frames_KTHWC.shape[2:4], t.short_side, t.crop, views.crops)
        return torch.stack([transforms.cut(clip, box, t.crop) for clip in frames_KTHWC for box in boxes])

    def frames(self, number, starts):
        """The frames of the clips that begin at `starts(num_frames, span)`, all from one decode."""
        video, clip = self.videos[number], self.clip
        info = self.infos[video.path]
        step = sampling.step_of(info.fps, clip.stride, clip.fps)
        first = starts(info.num_frames, sampling.span_of(clip.frames, step))
        index_KT = sampling.clip_indices(first, clip.frames, step, info.num_frames, clip.short)
        if self.cache is not None:
            return self.cache.read(number, self.read_all)[index_KT]
        frames = read_frames(self.root / video.path, index_KT.ravel(), reader=self.reader, info=info)
        return frames.reshape(*index_KT.shape, *frames.shape[1:])

    def read_all(self, number):
        path = self.videos[number].path
        info = self.infos[path]
        return read_frames(self.root / path, np.arange(info.num_frames), reader=self.reader, info=info)


class FrameCache:
    """All frames of all videos in one block of memory, which worker processes share; each is decoded on first use."""

    def __init__(self, infos, shared):
        self.shapes = [(info.num_frames, info.height, info.width, 3) for info in infos]
        self.ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        refuse_too_large(int(self.ends[-1]), shared)
        self.frames = torch.empty(int(self.ends[-1]), dtype=torch.uint8)
        self.filled = torch.zeros(len(self.shapes), dtype=torch.bool)
        if shared:
            self.frames.share_memory_(), self.filled.share_memory_()

    def read(self, number, decode):
        shape, end = self.shapes[number], int(self.ends[number])
        frames_THWC = self.frames[end - int(np.prod(shape)) : end].view(shape).numpy()
        if not self.filled[number]:  # two workers may both decode it: they write the same bytes
            frames_THWC[:] = decode(number)
            self.filled[number] = True
        return frames_THWC


def refuse_too_large(size, shared):
    free, where = free_memory(), "memory"
    if shared and Path("/dev/shm").is_dir():
        free, where = shutil.disk_usage("/dev/shm").free, "/dev/shm (data.workers=0 takes other memory)"
    if free is not None and size > 0.9 * free:
        need = f"data.cache=ram needs {size / 1e9:.1f} GB"
        raise UserError(f"{need}, {free / 1e9:.1f} are free in {where}; use data.cache=none")


def free_memory():
    """Bytes that can be had without swapping; None where the system does not say (it is not Linux)."""
    information = Path("/proc/meminfo")
    if not information.exists():
        return None
    return 1024 * int(re.search(r"MemAvailable: +(\d+)", information.read_text())[1])


class TrainSampler(Sampler):
    """Batches of (epoch, number): a permutation of hash(seed, epoch), dealt to the ranks, without its incomplete rest.

    Each pass is the next epoch; `epoch` sets the first one (a resumed run's).
    """

    def __init__(self, length, batch_size, rank=0, world_size=1, seed=0, epoch=0):
        self.length, self.batch_size, self.rank, self.world_size = length, batch_size, rank, world_size
        self.seed, self.epoch = seed, epoch

    def __len__(self):
        return self.length // (self.batch_size * self.world_size)

    def __iter__(self):
        # A generator, since DataLoader also makes iterators that it does not use: only a pass that begins counts.
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(self.length)
        order = order[: len(self) * self.batch_size * self.world_size]
        batches = order.reshape(len(self), self.batch_size, self.world_size)[:, :, self.rank]
        yield from ([(epoch, int(number)) for number in batch] for batch in batches)


class EvalSampler(Sampler):
    """Batches of (0, number): every world_size-th video from `rank` on, each once; the last batch may be short.

    A rank without videos has one empty batch, so that it takes part in what all ranks do together.
    """

    def __init__(self, length, batch_size, rank=0, world_size=1):
        self.numbers, self.batch_size = range(rank, length, world_size), batch_size

    def __len__(self):
        return max(1, -(-len(self.numbers) // self.batch_size))

    def __iter__(self):
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return iter([[(0, number) for number in self.numbers[s : s + self.batch_size]] for s in starts])


def collate(items):
    if items:
        return default_collate(items)
    nothing = torch.empty(0, dtype=torch.long)
    return {"clips": torch.empty(0, 1, 1, 1, 1, 3, dtype=torch.uint8), "label": nothing, "video": nothing}
