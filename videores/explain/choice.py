"""Choose the videos to explain: those of a command line, or a run's worst mistakes and some of each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from videores.config.parse import load_config
from videores.data import shards
from videores.errors import UserError
from videores.evaluation.fusion import fuse_views
from videores.evaluation.metrics import find_worst_mistakes
from videores.evaluation.offline import select_fusion
from videores.evaluation.predictions import FILE_NAME, read_predictions
from videores.evaluation.protocol import format_protocol, slugify
from videores.inference.inputs import list_inputs


class Choice(NamedTuple):
    """A video to explain."""

    root: shards.Root
    path: str  # under the root
    truth: str | None = None  # its class, where a list says it
    group: str | None = None


def choose_inputs(given: Sequence[str]) -> list[Choice]:
    """Return the videos that are named, as files, folders or patterns.

    Raises UserError for names of nothing, and for a pipe.
    """
    inputs = list_inputs(given, network=False)
    if any(not one.is_file for one in inputs):
        raise UserError("- is read only once, and an explanation reads a video three times: save it to a file")
    return [Choice(one.path.parent, one.path.name) for one in inputs]


def choose_tested(run: Path, worst: int = 0, per_class: int = 0, overrides: Sequence[str] = ()) -> list[Choice]:
    """Return videos of a run's test.

    They are its `worst` mistakes, the surest first, and the first `per_class` videos of each class. `overrides` are
    such as data.root=... for videos that moved. Raises UserError for a run that was not tested.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"--worst and --per-class need a run folder with its test, and {run} is none: give videos")
    cfg = load_config(run / "config.yaml", overrides)
    folder = run / "test" / slugify(format_protocol(cfg))
    if not (folder / FILE_NAME).is_file():
        raise UserError(f"{run} must be tested, and {folder} has no {FILE_NAME}: python tools/evaluate.py --run {run}")
    p = read_predictions(folder)
    fusion = select_fusion([p])
    scores_VN = fuse_views(p.logits, fusion, p.views_V)
    mistakes = [video for video, *_ in find_worst_mistakes(scores_VN, p.label, fusion, worst)]
    if len(mistakes) < worst:
        print(f"--worst {worst}: the test has {len(mistakes)} mistakes")
    known = np.flatnonzero(np.isfinite(scores_VN).all(1))
    samples = [video for label in range(len(p.classes)) for video in known[p.label[known] == label][:per_class]]
    root = shards.locate(cfg.data.root)
    chosen = dict.fromkeys(int(video) for video in [*mistakes, *samples])
    about = lambda video: (str(p.video[video]), str(p.classes[p.label[video]]), str(p.group[video]))
    return [Choice(root, *about(video)) for video in chosen]
