"""The start-up summary: every fact is there, in few lines."""

from pathlib import Path

from videores.compute.precision import PrecisionSetting
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
    setting=PrecisionSetting("bf16", True),
    folder=Path("runs/tiny"),
)
FACTS_IN_ORDER = """tiny 1,900 200 50 10 decord 2000 pyav 150 7 200 r3d_18 1,000 25.0 40.70 16x112x112 3 sgd cosine 59
177 32 0.02 2 weight_decay=0.0001 flip=0.5 10 3 30 1,221.03 2 cpu bf16 last runs/tiny"""


def start(facts=FACTS, **sections):
    values = {name: {**VALUES.get(name, {}), **sections.get(name, {})} for name in {*VALUES, *sections}}
    return summary.format_start(parse.build_config(values, "test"), facts)


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
    assert "nothing is held out" in start(FACTS._replace(videos={"train": 9, "val": 0, "test": 2}, gap_videos=0))
    for views in ({"clips": "all"}, {"crops": "full"}):
        (line,) = [line for line in start(test=views).splitlines() if line.startswith("cost")]
        assert "GMAC" not in line


def test_durations_have_two_units_at_most():
    durations = {0.2: "0 s", 59.4: "59 s", 60: "1 min", 725: "12 min 5 s", 12000: "3 h 20 min", 187200: "2 d 4 h"}
    assert {seconds: summary.format_duration(seconds) for seconds in durations} == durations
