"""The package of docs/guide/own-parts.md: trained, resumed, tested, exported and reported, from other folders."""

import csv
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from helpers.commands import TINY, assert_same_weights, forked, succeeded, write_data
from helpers.source import ROOT

from videores import run
from videores.config.parse import load_config
from videores.errors import UserError
from videores.models import create_model
from videores.models.weights.loading import load_weights
from videores.models.weights.safe_load import read_checkpoint
from videores.training import setup

PAGE = (ROOT / "docs/guide/own-parts.md").read_text()
FILES = dict(re.findall(r'^```python title="(\S+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
(COMMAND,) = re.findall(r"^python tools/train.py --cfg mine.yaml (.*)$", PAGE, re.MULTILINE)
OVERRIDES = COMMAND.replace("'", "").split()


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with my_package as pip installs it."""
    folder = tmp_path_factory.mktemp("packages")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    about = folder / "my_package-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.2\n")
    (about / "top_level.txt").write_text("my_package\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with mine.yaml, whose lists are of a format of their own."""
    folder = tmp_path_factory.mktemp("place")
    write_data(folder / "data")
    for part in ("train", "test"):
        rows = csv.DictReader((folder / f"data/{part}.csv").open())
        (folder / f"data/{part}.txt").write_text("".join(f"{row['path']} {row['label']}\n" for row in rows))
    values = {**TINY, "data": {**TINY["data"], "root": str(folder / "data")}, "model": {"name": "r3d_18"}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="module")
def done(place, packages, tmp_path_factory):
    """{step: process} of one example, in order."""
    other, folder = tmp_path_factory.mktemp("other"), place / "runs/mine"
    config = ("train.py", "--cfg", place / "mine.yaml", *OVERRIDES)
    (train,) = forked([config], place, packages)
    succeeded(train)
    shutil.copytree(folder, place / "runs/resumed")
    (place / "runs/resumed/checkpoints/last.ckpt").unlink()  # as if it had been killed in its second epoch
    steps = {
        "resume": (*config, f"run.dir={place}/runs/resumed", "run.resume=auto"),
        "evaluate": ("evaluate.py", "--run", folder, "test.clips=1"),
        "export": ("export.py", "--run", folder),
        "share": ("export.py", "--run", folder, "--format", "hub", "--out", "net"),
        "zoo": ("zoo.py", folder, "--out", "zoo.md"),
        "predict": ("predict.py", "net", place / "data/test/00.mp4"),
    }
    found = dict(zip(steps, forked(list(steps.values()), other, packages), strict=True))
    shutil.copytree(other / "net", place / "net")
    shutil.copy(other / "zoo.md", place)
    return {"train": train, **{name: succeeded(process) for name, process in found.items()}}


def test_the_run_uses_and_records_its_own_parts(done, place, packages):
    record = json.loads((place / "runs/mine/env.json").read_text())["own_parts"]
    assert list(record) == ["data.format", "model.name", "data.augment.own", "test.metrics[0]"]
    network = record["model.name"]
    assert (network["path"], network["package"]) == ("my_package.nets:Small3D", "my_package 1.2")
    assert network["file"] == str(packages / "my_package/nets.py")
    assert f"sha256 {network['sha256']}" in done["train"].stdout
    state = read_checkpoint(place / "runs/mine/checkpoints/last.ckpt")["state_dict"]
    assert state["model.stem.0.weight"].shape == (16, 3, 3, 3, 3)


def test_an_own_metric_is_in_the_result(done, place):
    (folder,) = (place / "runs/mine/test").glob("*2x1*")
    found = json.loads((folder / "metrics.json").read_text())["own_metrics"]
    with np.load(folder / "predictions.npz") as arrays:
        p_VKN = torch.from_numpy(arrays["logits"]).double().softmax(-1).mean(1).numpy()
        right_V = p_VKN[np.arange(7), arrays["label"]]
        p_VKN[np.arange(7), arrays["label"]] = 0
    assert found == {"my_package.scores:margin": pytest.approx((right_V - p_VKN.max(1)).mean())}


def test_a_resumed_run_has_the_same_weights(done, place):
    assert "resume  from step" in done["resume"].stdout
    assert_same_weights(place / "runs/mine", place / "runs/resumed")


def test_a_test_says_where_the_code_is_from(done, packages):
    assert f"model.name=my_package.nets:Small3D is my_package 1.2 of {packages}" in done["evaluate"].stdout


def test_exported_weights_give_the_same_logits(done, place, packages, monkeypatch):
    monkeypatch.syspath_prepend(packages)
    models = [create_model("my_package.nets:Small3D", 6, width=16).eval() for _ in range(2)]
    sources = ("checkpoints/best.ckpt", "weights.safetensors")
    for model, source in zip(models, sources, strict=True):
        load_weights(model, place / "runs/mine" / source, head="keep")
    state = read_checkpoint(place / "runs/mine/checkpoints/best.ckpt")["state_dict"]
    plain = models[0].state_dict()
    assert all(torch.equal(state[f"model.{key}"], plain[key]) for key in plain)  # the norm's epsilon is its own
    clips = torch.rand(2, 3, 8, 32, 32)
    assert torch.equal(models[0](clips), models[1](clips))


def test_an_own_network_is_shared_and_shown_in_a_zoo(done, place, tmp_path):
    card = (place / "net/README.md").read_text()
    assert "package\n`my_package 1.2`" in card or "package `my_package 1.2`" in card
    assert len(re.findall(r"^\| `8x1@32/32 .*tiny-test` ", card, re.MULTILINE)) == 2  # both tests
    (row,) = re.findall(r"^\| `mine` \| `8x1@32/32 2x1.*$", (place / "zoo.md").read_text(), re.MULTILINE)
    assert "| `mine` | `my_package.nets:Small3D` |" in (place / "zoo.md").read_text()
    assert row.endswith("runs/mine` |")
    assert "00.mp4" in done["predict"].stdout
    (absent,) = forked([("predict.py", place / "net", place / "data/test/00.mp4")], tmp_path)
    assert "my_package" in succeeded(absent, 2).stderr
    assert "PYTHONPATH" in absent.stderr
    assert "Traceback" not in absent.stderr


def test_results_and_exports_need_no_own_code(done, place, tmp_path):
    folder = place / "runs/mine"
    (test,) = folder.glob("test/*2x1*")
    steps = [
        ("report.py", "--run", folder),
        ("evaluate.py", "--scores", test, "--out", tmp_path / "scores"),
        ("export.py", "--run", folder, "--out", tmp_path / "weights.safetensors"),
        ("evaluate.py", "--run", folder),
    ]
    *processes, untrusted = forked(steps, tmp_path)  # my_package is not on the path
    for process in processes:
        succeeded(process)
    assert "my_package.nets:Small3D" in (folder / "report.html").read_text()
    assert "my_package" in succeeded(untrusted, 2).stderr
    assert "Traceback" not in untrusted.stderr


def test_other_code_does_not_resume_and_a_test_says_so(done, place, packages, tmp_path, monkeypatch, capsys):
    for name in FILES:
        monkeypatch.delitem(sys.modules, name.replace("/", ".").removesuffix(".py"), raising=False)
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    shutil.copytree(packages, tmp_path / "packages")
    with (tmp_path / "packages/my_package/nets.py").open("a") as file:
        file.write("# changed\n")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    folder = place / "runs/mine"
    cfg = load_config(place / "mine.yaml", [*OVERRIDES, f"run.dir={folder}", "run.resume=auto"])
    with pytest.raises(UserError, match=r"the code of model\.name"):
        run.train(cfg, "mine")
    capsys.readouterr()
    setup.import_own_parts(cfg, folder)
    before = json.loads((folder / "env.json").read_text())["own_parts"]["model.name"]["sha256"]
    assert f"(it was {before})" in capsys.readouterr().out
