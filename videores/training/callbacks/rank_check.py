"""Check before the first step that all ranks of a run are about to do the same."""

import platform
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist

from videores.errors import UserError


class RankCheck(pl.Callback):
    """Compare `facts` ({name: value}) over ranks.

    Nodes may have data and run folders of their own, and a list that differs in one video would deal some videos twice
    and others never.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def setup(self, trainer, module, stage):
        if trainer.world_size > 1:
            gathered = [None] * trainer.world_size
            dist.all_gather_object(gathered, (platform.node(), self.facts))
            check_ranks_agree(gathered)


def check_ranks_agree(gathered: list[tuple[str, dict[str, Any]]]) -> None:
    """Raise the same UserError on all ranks where facts differ.

    gathered: (host, facts) of each rank.
    """
    for name, value in gathered[0][1].items():
        if any(facts[name] != value for _, facts in gathered):
            lines = [f"rank {rank} on {host}: {facts[name]}" for rank, (host, facts) in enumerate(gathered)]
            raise UserError(
                f"the ranks of this run differ in {name}:\n  " + "\n  ".join(lines) + "\n"
                "Give every node the same videos and lists and, to resume, the run's checkpoints: on a shared disk or "
                "copied (docs/guide/distributed.md)"
            )
