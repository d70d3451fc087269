"""Own parts that are not there, take or return the wrong thing, or go by a name that another module has."""

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from videores.config import parse
from videores.data import augment, index
from videores.errors import UserError
from videores.models import cpu_conv, create_model, parts
from videores.models.registry import check_own_output
from videores.models.weights import compatibility
from videores.reporting import results
from videores.runtime import own_parts

CODE = """
    import torch
    from torch import nn
    from videores.data.lists import Index, Video

    number = 3

    class Net(nn.Module):
        def __init__(self, num_classes, width=4, wrong=0):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(width))
            self.stem = nn.Conv3d(3, width, 3)
            self.norm = nn.BatchNorm3d(width)
            self.fc = nn.Linear(width, num_classes + wrong)

        def forward(self, clips):
            return self.fc(self.norm(self.stem(clips)).mean((2, 3, 4)) + self.token)

    def make_wrong(num_classes):
        return Net(num_classes, wrong=1)

    def make_list(num_classes):
        return [Net(num_classes)]

    class Valued(Net):
        def forward(self, clips):
            return super().forward(clips * clips.max().item())

    class Whole(Net):
        def forward(self, clips):
            return super().forward(clips).argmax(1)

    def read_rows(root, splits, split):
        return ["a.mp4"]

    def read_label(root, splits, split):
        return Index(("a",), train=[Video("a.mp4", 1)], test=[Video("b.mp4", 0)])

    shrink = lambda clip_THWC, rng: clip_THWC[:, 1:]
    scale = lambda clip_THWC, rng: clip_THWC / 255
    fail = lambda scores_VN, label_V: 1 / 0
    word = lambda scores_VN, label_V: "good"
"""


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """`mine` and its module `mine.parts`, on Python's path for one test."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").touch()
    (tmp_path / "mine/parts.py").write_text(textwrap.dedent(CODE))
    (tmp_path / "mine/needs.py").write_text("import not_installed_here\n")
    for name in ("mine", "mine.parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("not_there.nets:make", ["not_there", "PYTHONPATH"]),
        ("mine.nets:make", ["mine.nets", "PYTHONPATH"]),
        ("mine.parts:Nets", ["parts.py", "did you mean Net?"]),
        ("mine.parts:number", ["parts.py", "number"]),
        ("csv:Net", ["csv.py", "Net"]),  # a module of one's own that Python has, too
        ("mine.parts:", ["package.module:name"]),
        ("csv:reader", ["num_classes="]),
        ("mine.parts:read_rows", ["num_classes=", "parts.py"]),
        ("mine.parts:make_list", ["torch.nn.Module", "list"]),
    ],
)
def test_a_network_that_is_none_is_refused(path, words):
    with pytest.raises(UserError) as error:
        create_model(path, 5)
    assert [word for word in (f"model.name={path}", *words) if word not in str(error.value)] == []


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(UserError, match="norm"):
        create_model("mine.parts:Net", 5, norm="group")


def test_an_error_of_the_code_itself_is_not_hidden():
    with pytest.raises(ModuleNotFoundError, match="not_installed_here"):
        create_model("mine.needs:Net", 5)


@pytest.mark.parametrize(
    ("name", "words"), [("make_wrong", ["(2, 6)", "(2, 5)"]), ("Valued", ["meta"]), ("Whole", ["float", "int64"])]
)
def test_a_network_of_another_output_is_refused(name, words):
    model = create_model(f"mine.parts:{name}", 5)
    with pytest.raises(UserError) as error:
        check_own_output(model, (2, 3, 8, 16, 16), 5)
    assert [word for word in (f"model.name=mine.parts:{name}", *words) if word not in str(error.value)] == []


def test_an_own_network_has_options_parts_and_repaired_layers():
    model = create_model("mine.parts:Net", 5, width=6)
    check_own_output(model, (2, 3, 8, 16, 16), 5)
    assert list(parts.split_into_parts(model)) == ["own", "stem", "norm", "fc"]
    parts.freeze(model, parts.ALL_BUT_FC)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert type(model.stem) is cpu_conv.Conv3d


def test_a_file_that_names_code_does_not_run_it(package):
    (package / "bad.py").write_text("raise SystemExit('imported')\n")
    lines = compatibility.find_differences({"name": "mine.bad:make"}, create_model("mine.parts:Net", 5))
    assert ["mine.bad:make" in line for line in lines] == [True]
    assert compatibility.find_differences({"name": "mine.bad:make"}, create_model("r3d_18", 5, layers=(1,))) == []


def settings(root, **data):
    values = {"data": {"name": "x", "root": str(root), "val": "none", "format": "csv", **data}}
    return parse.build_config({**values, "model": {"name": "r3d_18"}, "train": {"epochs": 1}}, "test")


@pytest.mark.parametrize(("name", "word"), [("read_rows", "Index"), ("read_label", "labels from 0 to 0")])
def test_lists_of_another_kind_are_refused(tmp_path, name, word):
    with pytest.raises(UserError, match=rf"data\.format=mine\.parts:{name}.*{word}"):
        index.read_index(settings(tmp_path, format=f"mine.parts:{name}").data)


@pytest.mark.parametrize(("name", "word"), [("shrink", r"\(4, 7, 8, 3\)"), ("scale", "float32")])
def test_a_clip_of_another_shape_or_type_is_refused(name, word):
    clip_THWC = torch.zeros((4, 8, 8, 3), dtype=torch.uint8)
    with pytest.raises(UserError, match=rf"data\.augment\.own=mine\.parts:{name} .*{word}"):
        augment.apply_own_step(f"mine.parts:{name}", clip_THWC, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["fail", "word", "not_there"])
def test_a_metric_that_fails_leaves_the_scores(name, capsys):
    assert results.measure(f"mine.parts:{name}", "test", np.eye(2), np.array([0, 1])) is None
    assert re.search(rf"warning: test\.metrics=mine\.parts:{name} ", capsys.readouterr().err)


def test_the_hash_is_of_the_whole_package(package):
    cfg = settings(package, format="mine.parts:read_rows")
    before = own_parts.identify_parts(cfg)["data.format"]
    (package / "more.py").write_text("x = 1\n")
    after = own_parts.identify_parts(cfg)["data.format"]
    assert before["sha256"] != after["sha256"]
    assert {**before, "sha256": ""} == {**after, "sha256": ""}
    assert (before["package"], Path(before["file"])) == (None, package / "parts.py")


@pytest.mark.parametrize(
    ("key", "value"),
    [("data.format", "ucf11"), ("data.format", "a:b:c"), ("data.augment.own", "mine.parts"), ("test.metrics", "[f1]")],
)
def test_a_value_that_is_no_import_path_is_refused(key, value):
    with pytest.raises(UserError, match=rf"{key}.*import path"):
        parse.load_config("r2plus1d_motion", [f"{key}={value}"])
