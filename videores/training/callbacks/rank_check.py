"""Before the first step, all processes of a run make sure that they are about to do the same."""

import platform

import lightning.pytorch as pl
import torch.distributed as dist

from videores.errors import UserError


class RankCheck(pl.Callback):
    """`facts` are {what: value} that must be equal everywhere: nodes may have data and run folders of their own, and a
    list that differs in one video would deal some videos twice and others never."""

    def __init__(self, facts):
        self.facts = facts

    def setup(self, trainer, module, stage):
        if trainer.world_size > 1:
            everyone = [None] * trainer.world_size
            dist.all_gather_object(everyone, (platform.node(), self.facts))
            check_ranks_agree(everyone)


def check_ranks_agree(everyone):
    """`everyone` has (host, facts) of each process. All raise the same UserError."""
    _, facts = everyone[0]
    for what, value in facts.items():
        others = [f"process {rank} on {there}: {its[what]}" for rank, (there, its) in enumerate(everyone)]
        if any(its[what] != value for _, its in everyone):
            raise UserError(
                f"the processes of this run differ in {what}:\n  " + "\n  ".join(others) + "\n"
                "Every node needs the same videos and lists and, to resume, the run's checkpoints: on a shared disk "
                "or copied (docs/distributed.md)"
            )
