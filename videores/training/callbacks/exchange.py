"""What the processes of a training decide together, without waiting for each other or for a device."""

import torch
import torch.distributed as dist


class AsyncMaxReducer:
    """The largest of what any process wishes, number by number, the same on all of them.

    `wishes` is a function that returns small integers. Alone, they are granted at once; several processes exchange
    them over CPU memory (gloo) while the next step is computed, and learn of them at its end. All must call `collect`
    and `send` in turn, equally often; one that does not for `timeout` (a timedelta) is an error for the others.
    """

    def __init__(self, wishes, world_size, timeout):
        self.wishes, self.numbers, self.work = wishes, None, None
        self.group = dist.new_group(backend="gloo", timeout=timeout) if world_size > 1 else None

    def collect(self):
        """What was sent last, or zeros; alone, what is wished now."""
        if self.group is None:
            return self.wishes()
        if self.work is None:
            return [0] * len(self.wishes())
        self.work.wait()
        self.work = None
        return self.numbers.tolist()

    def send(self):
        if self.group is not None:
            self.numbers = torch.tensor(self.wishes())
            self.work = dist.all_reduce(self.numbers, dist.ReduceOp.MAX, self.group, async_op=True)

    def largest(self, number):
        """Of the numbers that all processes give, at once."""
        if self.group is None:
            return number
        numbers = torch.tensor([number])
        dist.all_reduce(numbers, dist.ReduceOp.MAX, self.group)
        return int(numbers)

    def smallest(self, number):
        return -self.largest(-number)
