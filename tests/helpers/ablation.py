"""Ablation tables made of text."""

from videores.ablation import spec


def make(**values):
    """A table with the given keys."""
    usual = dict(title="t", question="q?", shows="s", columns=["video"], scales=SCALES)
    return spec.Table.model_validate({**usual, **values})


TWO = [{"name": "a"}, {"name": "b", "set": {"model.width": 8}}]
BASE = "r2plus1d_motion.yaml"
SCALES = {name: {"base": BASE} for name in spec.SCALES}
