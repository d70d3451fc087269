"""The zoo: rows are what the run folders say, marked where that no longer holds; the committed page is current."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from helpers.commands import ROOT, forked, succeeded

import videores
from videores.compute import cost
from videores.config.parse import CONFIG_DIR
from videores.data.synthetic import datasets, writing
from videores.errors import UserError
from videores.inference.record import collect_record
from videores.models.weights import names, safetensors
from videores.reporting import zoo
from videores.reporting.zoo_entries import read_entries
from videores.training.run_folder import read_environment

SHIPPED = "videores/r2plus1d_motion_w16"


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A folder with runs/a and runs/b, and zoo.md, zoo.csv and zoo/ that the command wrote of them."""
    place = tmp_path_factory.mktemp("zoo")
    for name in ("a", "b"):
        shutil.copytree(trained[0] / "runs/tiny", place / "runs" / name)
    (process,) = forked([("zoo.py", "runs/a", "runs/b", "--out", "zoo.md")], place)
    assert "zoo.csv" in succeeded(process).stdout
    return place


@pytest.fixture
def copy(place, tmp_path):
    return shutil.copytree(place, tmp_path / "place")


def rows_of(place):
    return {row["model"]: row for row in csv.DictReader((place / "zoo.csv").open())}


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_row_has_the_numbers_of_the_run(place):
    row, run = rows_of(place)["a"], place / "runs/a"
    (metrics,) = [json.loads(path.read_text()) for path in run.glob("test/*/metrics.json")]
    low, high = metrics["ci95_video_top1"]
    assert row["protocol"] == metrics["protocol"]
    wanted = [f"{value:.2f}" for value in (metrics["clip_top1"], metrics["video_top1"], low, high)]
    assert [row[key] for key in ("clip_top1", "video_top1", "video_top1_low", "video_top1_high")] == wanted
    assert row["floor"] == f"{metrics['floors'][metrics['floors']['best']]:.1f} (majority) not beaten"
    network = videores.load(run).model
    assert float(row["param_count"]) == pytest.approx(cost.count_parameters(network) / 1e6, rel=1e-2)
    assert float(row["gmacs"]) == pytest.approx(cost.count_gmacs(network, (1, 3, 8, 32, 32)), rel=1e-2)
    known = read_environment(run)
    assert (row["command"], row["code"], row["same_code"]) == (known["command"], known["code"], "True")
    assert (row["config"], row["file"]) == ("tiny.yaml", "runs/a")
    page = (place / "zoo.md").read_text()
    assert len(re.findall(r"^\| `a` .*`runs/a` \|$", page, re.MULTILINE)) == 1
    assert not re.search(r"^\|.*(gone|other code)", page, re.MULTILINE)


def test_all_rows_are_timed_together(place):
    latencies = [entry["latency"] for entry in read_entries(place / "zoo.md")]
    assert len({latency["measured"] for latency in latencies}) == 1
    assert all(latency["ms"] > 0 for latency in latencies)


def test_the_page_is_written_again_from_the_records(copy):
    before = {name: (copy / name).read_text() for name in ("zoo.md", "zoo.csv")}
    for name in before:
        (copy / name).unlink()
    succeeded(forked([("zoo.py", "--out", "zoo.md")], copy)[0])
    assert {name: (copy / name).read_text() for name in before} == before


def test_what_is_gone_or_of_other_code_is_marked(copy, monkeypatch):
    monkeypatch.chdir(copy)
    shutil.rmtree("runs/a")
    entry = json.loads((copy / "zoo/b.json").read_text())
    change(copy / "zoo/b.json", record={**entry["record"], "code": "0" * 16})
    zoo.write_zoo(copy / "zoo.md")
    rows = rows_of(copy)
    assert [(rows[name]["file"], rows[name]["same_code"]) for name in "ab"] == [("", "True"), ("runs/b", "False")]
    page = (copy / "zoo.md").read_text()
    assert re.search(r"^\| `a` .*\| gone \|$", page, re.MULTILINE)
    assert re.search(r"^\| `b` .*0{16} \(other code\) \|$", page, re.MULTILINE)


def test_a_folder_with_a_later_run_does_not_have_the_weights_of_the_row(copy, monkeypatch):
    monkeypatch.chdir(copy)
    change(copy / "runs/a/env.json", end="2030-01-01T00:00:00+00:00")
    zoo.write_zoo(copy / "zoo.md")
    assert [rows_of(copy)[name]["file"] for name in "ab"] == ["", "runs/b"]


def test_a_run_that_is_given_again_replaces_its_row(copy, monkeypatch):
    monkeypatch.chdir(copy)
    (metrics,) = copy.glob("runs/a/test/*/metrics.json")
    change(metrics, video_top1=50.0)
    zoo.write_zoo(copy / "zoo.md", [copy / "runs/a"])
    assert [rows_of(copy)[name]["video_top1"] for name in "ab"] == ["50.00", "14.29"]


def test_runs_of_one_name_are_refused(copy):
    other = shutil.copytree(copy / "runs/a", copy / "others/a")
    before = (copy / "zoo/a.json").read_text()
    for runs in ([other], [other, copy / "runs/a"]):
        with pytest.raises(UserError, match="called a"):
            zoo.write_zoo(copy / "zoo.md", runs)
    assert (copy / "zoo/a.json").read_text() == before


def test_a_run_that_has_not_ended_and_none_are_refused(copy, tmp_path):
    change(copy / "runs/b/env.json", exit_status=75)
    with pytest.raises(UserError, match="runs/b"):
        zoo.write_zoo(copy / "zoo.md", [copy / "runs/b"])
    with pytest.raises(UserError, match="empty"):
        zoo.write_zoo(tmp_path / "empty.md")
    (copy / "zoo/a.json").write_text("{}")
    with pytest.raises(UserError, match=r"a\.json"):
        zoo.write_zoo(copy / "zoo.md")


# This repository's


def test_the_committed_page_is_what_the_command_writes(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path, text in zoo.build_zoo(zoo.PAGE).items():
        assert path.read_text() == text, "run python tools/zoo.py --docs"


def test_every_configuration_has_a_row_or_a_reason():
    page = (ROOT / "docs/zoo.md").read_text()
    rows = {entry["record"]["config"] for entry in read_entries(ROOT / zoo.PAGE)}
    for path in CONFIG_DIR.glob("*.yaml"):
        assert (path.name in rows) != (f"| `{path.name}` | " in page)


def test_the_network_that_comes_along_is_the_one_of_the_zoo():
    path = names.find_file(SHIPPED)
    (entry,) = [e for e in read_entries(ROOT / zoo.PAGE) if e["record"]["name"] == SHIPPED.partition("/")[2]]
    assert safetensors.read_safetensors(path)[1]["record"] == entry["record"]
    assert f"`{SHIPPED}`" in (ROOT / "docs/zoo.md").read_text()
    assert names.list_models("r2plus1d_motion*", pretrained=True) == [SHIPPED]
    with open(path, "rb") as file:
        assert len(file.read()) < 1e6


def test_the_network_that_comes_along_sees_motion(tmp_path):
    """In new videos, of another seed."""
    counts = dict.fromkeys(datasets.SETS["motion8"].videos, datasets.SETS["motion8"].turn)
    writing.prepare_dataset(tmp_path / "motion8", 5, False, counts)
    rows = list(csv.DictReader((tmp_path / "motion8/test.csv").open()))
    predictor = videores.load(SHIPPED)
    found = predictor.predict_videos(tmp_path / "motion8", [row["path"] for row in rows])
    right = [answer.label == row["label"] for (_, answer), row in zip(found, rows, strict=True)]
    assert np.mean(right) >= 0.9


@pytest.mark.slow
def test_the_network_that_comes_along_has_the_accuracy_of_its_row(tmp_path):
    (process,) = forked([("evaluate.py", "--run", SHIPPED)], tmp_path)
    (path,) = succeeded(process) and tmp_path.glob("results/weights/*/test/*/metrics.json")
    found = json.loads(path.read_text())
    result = safetensors.read_safetensors(names.find_file(SHIPPED))[1]["record"]["results"][0]
    assert found["protocol"] == result["protocol"]
    assert found["list"]["hash"] == result["list_hash"]
    assert found["video_top1"] == pytest.approx(result["video_top1"], abs=0.2)


def test_a_record_keeps_the_test_of_the_run(trained):
    record = collect_record(trained[0] / "runs/tiny")
    assert [result["expected"] for result in record["results"]] == [7]
    assert record["results"][0]["list_hash"]
