"""Exchange small integers between the ranks of a training without waiting."""

from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist


class AsyncMaxReducer:
    """Element-wise max over ranks, reduced asynchronously on CPU.

    `get_values` returns this rank's integers. A single rank gets them back at once; several exchange them by gloo while
    the next step is computed, and have the result at its end. All ranks must call `collect` and `send` in turn and
    equally often: a rank that does not within `timeout` is an error for the others.
    """

    def __init__(self, get_values: Callable[[], list[int]], world_size: int, timeout: timedelta) -> None:
        self.get_values = get_values
        self.values = self.work = None
        self.group = dist.new_group(backend="gloo", timeout=timeout) if world_size > 1 else None

    def collect(self):
        """Return the max of what was sent last, or zeros."""
        if self.group is None:
            return self.get_values()
        if self.work is None:
            return [0] * len(self.get_values())
        self.work.wait()
        self.work = None
        return self.values.tolist()

    def send(self):
        """Start reducing the values of now."""
        if self.group is not None:
            self.values = torch.tensor(self.get_values())
            self.work = dist.all_reduce(self.values, dist.ReduceOp.MAX, self.group, async_op=True)

    def max_over_ranks(self, number):
        """Return the largest of all ranks' numbers; waits for them."""
        if self.group is None:
            return number
        value = torch.tensor([number])
        dist.all_reduce(value, dist.ReduceOp.MAX, self.group)
        return int(value)

    def min_over_ranks(self, number):
        """Return the smallest of all ranks' numbers; waits for them."""
        return -self.max_over_ranks(-number)
