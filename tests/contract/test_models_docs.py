"""docs/networks.md names every network, key and value there is, no other, and its snippets run."""

import re
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import torch
import yaml

from videores.config import parse
from videores.config.network import NetworkOptions, Pool
from videores.models.pytorchvideo import NAMES
from videores.models.registry import create_model
from videores.models.resnet import MODELS
from videores.models.temporal import ORDERLESS

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()


def rows(heading):
    """The cells of each row of the table whose first column is called so."""
    table = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def words(cell):
    return re.findall(r"`([^`]+)`", cell)


def names_in(cell):
    """`r3d_18`, `_34` is r3d_18, r3d_34."""
    names = []
    for word in words(cell):
        names.append(names[-1].rsplit("_", 1)[0] + word if word.startswith("_") else word)
    return names


def snippet(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[1]


def test_every_network_is_named_and_no_other():
    named = [name for row in rows("names") for name in names_in(row[0])]
    assert sorted(named) == sorted([*MODELS, *NAMES])


def test_numbers_of_parameters_are_those_of_the_complexity_page():
    costs = (Path(__file__).parents[2] / "docs" / "complexity.md").read_text().splitlines()
    for names, *_, parameters in rows("names"):
        count = re.search(r"[\d,]+$", parameters)[0]
        fits = [name for name in names_in(names) for line in costs if f"| {name} |" in line and f"| {count} |" in line]
        assert fits, names


def test_every_key_has_a_row_with_all_its_values():
    documented = {words(row[0])[0]: words(row[1]) for row in rows("key")}
    kinds = get_type_hints(NetworkOptions, include_extras=True)
    assert {key: set(values) for key, values in documented.items()} == {
        f"model.{key}": set(literals(kind)) for key, kind in kinds.items()
    }


def literals(kind):
    """The words that a type allows."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return [word for part in get_args(kind) for word in literals(part)]


def test_every_pooling_says_whether_it_knows_the_order():
    knows = {name: row[3] for row in rows("`model.pool`") for name in words(row[0])}
    assert knows == {name: "no" if name in ORDERLESS else "yes" for name in get_args(Pool)}


def test_the_python_snippet_runs_and_its_comments_are_true():
    found = {}
    exec(snippet("python"), found)
    assert found["features_BTD"].shape == (2, 2, 64)
    assert torch.equal(found["logits_BN"], found["model"](found["clips_BCTHW"]))
    assert found["logits_BN"].shape == (2, 8)


def test_the_configuration_is_valid_and_its_network_takes_its_clips():
    cfg = parse.build_config(yaml.safe_load(snippet("yaml")), "docs/networks.md")
    crop = cfg.data.transform.crop
    model = create_model(cfg.model.name, 8, **cfg.model.overrides())
    assert model(torch.randn(1, 3, cfg.data.clip.frames, crop, crop)).shape == (1, 8)
