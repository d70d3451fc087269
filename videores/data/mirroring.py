"""Derive which labels change when a clip is mirrored, and check for it."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from videores.config.schema import DataConfig, ViewsConfig
from videores.data import lists
from videores.errors import UserError, format_suggestion


def make_flip_map(
    rule: Literal["none", "left-right"] | Mapping[str, str | None], classes: Sequence[str]
) -> tuple[int, ...]:
    """Return each label after a flip, -1 where a video must not be flipped.

    `rule` is data.augment.flip_labels: {a: b} swaps the two, {a: null} keeps a from being flipped. Raises UserError for
    classes that are not there.
    """
    if rule == "none":
        return tuple(range(len(classes)))
    if rule == "left-right":
        return derive_flip_map(classes)
    pairs = dict(rule)
    _check_known_classes(pairs, classes)
    swapped = dict(pairs)
    for name, other in pairs.items():
        if other is not None and swapped.setdefault(other, name) != name:
            raise UserError(f"data.augment.flip_labels: {other} must have one partner, got {name} and {swapped[other]}")
    labels: dict[str | None, int] = {None: -1} | {name: label for label, name in enumerate(classes)}
    return tuple(labels[swapped.get(name, name)] for name in classes)


def _check_known_classes(rule, classes):
    for name in {**rule, **dict.fromkeys(rule.values())}:
        if name is not None and name not in classes:
            raise UserError(f"data.augment.flip_labels: there is no class {name!r}{format_suggestion(name, classes)}")


def derive_flip_map(classes):
    """Return the label of each class after a horizontal flip, by the classes' names.

    It is -1 where the flipped video would belong to none of the classes.

    Names that differ by left and right, or clockwise and counterclockwise, are each other's mirror image.
    """
    keys = [_normalize_spelling(name) for name in classes]
    numbers = {key: number for number, key in enumerate(keys)}
    return tuple(_mirror_name(number, key, numbers) for number, key in enumerate(keys))


def find_changed_classes(classes: Sequence[str], flips: Sequence[int] | None = None) -> list[str]:
    """Return the classes whose videos a flip makes another class's, or nobody's.

    `flips` is the flip map, by default the one that follows from the names.
    """
    flips = derive_flip_map(classes) if flips is None else flips
    return [name for number, name in enumerate(classes) if flips[number] != number]


def _mirror_name(number, key, numbers):
    mirrored = re.sub(MIRROR_PATTERN, lambda word: MIRROR_WORDS[word[0]], key)
    if mirrored == key:
        return number
    return numbers.get(
        mirrored, -1 if re.search(rf"\b({MIRROR_PATTERN})", key) else number
    )  # a bright light is no direction


MIRROR_WORDS = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
MIRROR_PATTERN = "|".join(sorted(MIRROR_WORDS, key=len, reverse=True))


def _normalize_spelling(name):
    """Spell `Turn left`, `turn_left` and `TurnLeft` alike: `turn left`.

    anticlockwise becomes counterclockwise.
    """
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s_-]+", " ", name).lower()
    return re.sub(r"(counter|anti) ?clock ?wise", "counterclockwise", name)


def check_mirrored_views(data: DataConfig, views: ViewsConfig, classes: Sequence[str]) -> None:
    """Check that mirrored test crops (crops=10) change no label."""
    if views.crops != 10:
        return
    rule = data.augment.flip_labels
    changed = find_changed_classes(classes, None if rule == "none" else make_flip_map(rule, classes))
    if changed:
        raise UserError("crops=10 mirrors the videos, which changes labels: use crops=5\n  " + lists.preview(changed))
    if data.transform.flip == 0:
        raise UserError(
            "crops=10 mirrors the videos, but data.transform.flip=0 says that left and right matter: use crops=5"
        )
