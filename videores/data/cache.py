"""Keep the decoded frames or sound of a data set in memory."""

import numpy as np
import torch

from videores.errors import UserError
from videores.runtime import machine


class FrameCache:
    """Keep all frames, or the sound, of all videos in one block of memory.

    Workers share it; each video is decoded on first use.
    """

    def __init__(self, shapes, shared, dtype=torch.uint8):
        self.shapes = shapes
        self.ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        _check_cache_fits(int(self.ends[-1]) * dtype.itemsize, shared)
        self.frames = torch.empty(int(self.ends[-1]), dtype=dtype)
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


class CacheSubset:
    """Read some videos from a longer list's cache: k here is numbers[k] there."""

    def __init__(self, cache, numbers):
        self.cache, self.numbers = cache, numbers

    def read(self, number, decode):
        return self.cache.read(self.numbers[number], lambda _: decode(number))


def _check_cache_fits(size, shared):
    free, where = machine.read_free_memory(), "memory"
    if shared and machine.read_shared_memory():
        free, where = machine.read_free_shared_memory(), "/dev/shm (data.workers=0 takes other memory)"
    if free is not None and size > 0.9 * free:
        need = f"data.cache=ram needs {size / 1e9:.1f} GB"
        raise UserError(f"{need}, {free / 1e9:.1f} are free in {where}; use data.cache=none")
