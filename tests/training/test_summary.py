"""What a run says about itself: every fact is there, in few lines."""

import pytest

from videores.config import parse
from videores.training import summary

VALUES = {
    "data": {"name": "tiny", "format": "csv", "root": "data"},
    "model": {"name": "r3d_18"},
    "train": {"epochs": 3},
}
FACTS = summary.Facts(
    videos={"train": 1900, "val": 200, "test": 50},
    held_out=7,
    gap_videos=200,
    classes=10,
    readers={"decord": 2000, "pyav": 150},
    parameters=1000,
    trainable=250,
    gmacs=40.701,
    step="32 videos a step, learning rate 0.02",
    steps=59,
    norm_parts=2,
    processes=2,
    device="cpu",
    precision="bf16",
    channels_last=True,
    folder="runs/tiny",
)


def start(facts=FACTS, **sections):
    values = {name: {**VALUES.get(name, {}), **sections.get(name, {})} for name in {*VALUES, *sections}}
    return summary.format_start(parse.build_config(values, "test"), facts)


def test_the_start_fits_on_a_screen_and_says_every_fact():
    said = start(test={"clips": 10, "crops": 3})
    assert len(said.splitlines()) <= 12
    for fact in (
        "tiny: 1,900 train, 200 val, 50 test videos, 10 classes; read by decord (2000), pyav (150)",
        "validation videos are of 7 groups; with 200 training videos beside them, for the gap",
        "r3d_18: 1,000 parameters, 25.0 % trained; 40.70 GMAC a clip of 16x112x112",
        "3 epochs of sgd, cosine; 59 steps an epoch, 177 in all",
        "32 videos a step, learning rate 0.02",
        "batch norm sees 2 parts of a step, one by one",
        "test: 10 clips x 3 crops = 30 views, 1,221.03 GMAC a video",
        "2 process(es) on cpu, bf16, channels last; writes runs/tiny",
    ):
        assert fact in said


def test_tools_that_are_on_are_named_and_others_are_not():
    said = start(
        train={"label_smoothing": 0.1},
        model={"dropout": 0.5},
        data={"clip": {"repeat": 2}, "augment": {"mixup": 0.8, "randaugment": [2, 9]}, "transform": {"flip": 0}},
    )
    assert "weight_decay=0.0001, label_smoothing=0.1, dropout=0.5, repeat=2, randaugment=[2, 9], mixup=0.8\n" in said
    assert "flip=0.5" in start()


def test_without_validation_the_summary_says_what_is_tested():
    said = start(FACTS._replace(videos={"train": 9, "val": 0, "test": 2}, gap_videos=0))
    assert "nothing is held out" in said
    assert "no gap is measured" in said


@pytest.mark.parametrize("views", [{"clips": "all"}, {"crops": "full"}])
def test_views_without_a_number_cost_what_no_number_says(views):
    (line,) = [line for line in start(test=views).splitlines() if line.startswith("cost")]
    assert "GMAC" not in line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (725, "12 min 5 s"), (12000, "3 h 20 min"), (187200, "2 d 4 h")],
)
def test_durations_have_two_units_at_most(seconds, words):
    assert summary.format_duration(seconds) == words
