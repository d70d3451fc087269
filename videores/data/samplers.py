"""Select the videos of each batch on each rank, as a function of seed and epoch."""

import numpy as np
from torch.utils.data import Sampler

# streams of random numbers: an epoch's order; a clip's place, look; a batch's mix; a clip's change (data.pretext)
ORDER_STREAM, SAMPLING_STREAM, AUGMENT_STREAM, MIX_STREAM, PRETEXT_STREAM = 1, 2, 3, 4, 5


def make_rng(*numbers):
    return np.random.default_rng(numbers)


class TrainSampler(Sampler):
    """Yield batches of (epoch, number): a permutation dealt to the ranks.

    The permutation is one of hash(seed, epoch); its incomplete rest is left out.

    A step takes `accumulate` batches of each rank, the same videos as one batch of that many times the size; what is
    left over of an epoch makes no step. With `labels`, the class of each video, an epoch is as long, and has of every
    class equally many. `position` is asked for (epoch, batches that are done) as a pass begins; else each is the whole
    of `epoch`.
    """

    def __init__(self, length, batch_size, rank=0, world_size=1, seed=0, epoch=0, labels=None, accumulate=1):
        self.length, self.batch_size, self.rank, self.world_size = length, batch_size, rank, world_size
        self.seed, self.labels, self.accumulate = seed, labels, accumulate
        self.position = lambda: (epoch, 0)

    def __len__(self):
        return self.length // (self.batch_size * self.world_size * self.accumulate) * self.accumulate

    def __iter__(self):
        epoch, done = self.position()
        order = self.order(make_rng(ORDER_STREAM, self.seed, epoch), len(self) * self.batch_size * self.world_size)
        batches = order.reshape(len(self), self.batch_size, self.world_size)[:, :, self.rank]
        return iter([[(epoch, int(number)) for number in batch] for batch in batches[done:]])

    def order(self, rng, count):
        if self.labels is not None:
            return _draw_balanced_order(self.labels, count, rng)
        return rng.permutation(self.length)[:count]


def _draw_balanced_order(labels, count, rng):
    """Draw `count` numbers of videos in random order, equally many of each class.

    The rest of the division falls on classes drawn at random; of a class each video comes equally often, in the same
    sense.
    """
    members = [np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))]
    quotas = [int((np.arange(count) % len(members) == place).sum()) for place in rng.permutation(len(members))]
    drawn = [_draw_evenly(numbers, quota, rng) for numbers, quota in zip(members, quotas, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def _draw_evenly(numbers, count, rng):
    """Draw `count` of the numbers: whole permutations of them, the last one cut off."""
    return np.concatenate([rng.permutation(numbers) for _ in range(count // len(numbers) + 1)])[:count]


class EvalSampler(Sampler):
    """Yield batches of (0, number): every world_size-th video, from `rank` on.

    Each comes once; the last batch may be short.

    A rank without videos has one empty batch, so that it takes part in what all ranks do together.
    """

    def __init__(self, length: int, batch_size: int, rank: int = 0, world_size: int = 1):
        self.numbers, self.batch_size = range(rank, length, world_size), batch_size

    def __len__(self):
        return max(1, -(-len(self.numbers) // self.batch_size))

    def __iter__(self):
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return iter([[(0, number) for number in self.numbers[s : s + self.batch_size]] for s in starts])
