"""The start-up summary: every fact is there, in few lines."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from videores.config import parse
from videores.data.lists import Index, Video
from videores.training import summary
from videores.training.module import Run

VALUES = {
    "data": {"name": "tiny", "format": "csv", "root": "data", "batch_size": 16},
    "model": {"name": "r3d_18"},
    "train": {"epochs": 3, "lr": 0.02},
    "trainer": {"precision": "bf16"},
}


FACTS_IN_ORDER = """tiny 1,900 200 50 10 decord 2000 pyav 150 7 200 r3d_18 1,000 25.0 40.70 16x112x112 3 sgd cosine 59
177 32 0.02 2 weight_decay=0.0001 flip=0.5 10 3 30 1,221.03 2 cpu bf16 last runs/tiny"""


def start(train_videos=1900, val_videos=200, **sections):
    """The summary of a run on two ranks."""
    values = {name: {**VALUES.get(name, {}), **sections.get(name, {})} for name in {*VALUES, *sections}}
    counts = {"train": train_videos, "val": val_videos, "test": 50}
    videos = {part: tuple(Video(f"{i}.mp4", 0, f"g{i % 7}") for i in range(count)) for part, count in counts.items()}
    index = Index(classes=tuple("abcdefghij"), **videos)
    module = nn.Module()
    module.model = nn.Sequential(nn.Linear(25, 30, bias=False), nn.BatchNorm1d(125))
    module.model[0].requires_grad_(False)
    data = SimpleNamespace(videos=SimpleNamespace(index=index), gap=range(val_videos))
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    run = Run(parse.build_config(values, "test"), Path("runs/tiny"), module, data, trainer)
    return summary.format_start(run, 40.701, {"decord": 2000, "pyav": 150})


def test_the_start_fits_on_a_screen_and_says_every_fact():
    text = start(test={"clips": 10, "crops": 3})
    assert len(text.splitlines()) <= 12
    place = 0
    for fact in FACTS_IN_ORDER.split():
        place = text.index(fact, place) + len(fact)


def test_options_that_are_on_are_named_and_others_are_not():
    text = start(
        train={"label_smoothing": 0.1},
        model={"dropout": 0.5},
        data={"clip": {"repeat": 2}, "augment": {"mixup": 0.8, "randaugment": [2, 9]}, "transform": {"flip": 0}},
    )
    assert "weight_decay=0.0001, label_smoothing=0.1, dropout=0.5, repeat=2, randaugment=[2, 9], mixup=0.8\n" in text


def test_without_validation_and_without_a_number_of_views():
    assert "nothing is held out" in start(90, 0)
    for views in ({"clips": "all"}, {"crops": "full"}):
        (line,) = [line for line in start(test=views).splitlines() if line.startswith("cost")]
        assert "GMAC" not in line


@pytest.mark.parametrize(("videos", "points"), [(1, "98"), (6, "40"), (29, "18"), (30, None), (0, None)])
def test_few_validation_videos_are_said_to_choose_uncertainly(videos, points):
    text = start(90, videos)
    assert ("uncertain" in text) == (points is not None)
    assert points is None or f"+-{points} points" in text


def test_durations_have_two_units_at_most():
    durations = {0.2: "0 s", 59.4: "59 s", 60: "1 min", 725: "12 min 5 s", 12000: "3 h 20 min", 187200: "2 d 4 h"}
    assert {seconds: summary.format_duration(seconds) for seconds in durations} == durations
