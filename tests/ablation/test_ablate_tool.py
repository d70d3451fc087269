"""tools/ablate.py as users meet it: real sweeps of small tables, in real processes."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from helpers.commands import ROOT, environment, forked, succeeded, tool, write_config, write_data

from videores.ablation import spec

CELLS = [
    {"name": "one"},
    {"name": "other", "set": {"model.name": "r2plus1d_18"}},
    {"name": "broken", "set": {"data.batch_size": 64}},  # more than there are videos: found when it runs
    {"name": "all views", "kind": "test", "needs": "one", "set": {"test.clips": 5, "test.crops": 3}},
    {"name": "one view", "kind": "test", "needs": "all views", "set": {"test.clips": 1, "test.crops": 1}},
    {"name": "vote", "kind": "test", "needs": "all views", "set": {"test.fusion": "vote"}},
    {"name": "tuned", "needs": "one", "set": {"train.lr": 0.01}},
    {"name": "fused", "kind": "fuse", "fuses": ["one", "other"], "command": "--weights val"},
    {"name": "cost", "kind": "measure", "set": {"model.width": 16}},
    {"name": "of broken", "kind": "test", "needs": "broken", "set": {"test.clips": 5}},
    {"name": "unbuildable", "set": {"model.shift": 8}},
    {"name": "uncountable", "kind": "measure", "set": {"model.stage_pool": True}},
]
UNCOUNTED = ("unbuildable", "uncountable")


def write_table(folder, cells=CELLS, name="t", **values):
    """A table of TINY on videos that are written into `folder`, with the scales all alike."""
    write_data(folder / "data", height=40, width=40)
    base = str(write_config(folder / "base.yaml"))
    scales = {scale: {"base": base} for scale in spec.SCALES}
    columns = ["params", "gmacs", "latency", "clip", "video", "train_loss"]
    about = dict(title="t", question="q?", shows="s", columns=columns, seeds=[0], cells=cells, scales=scales)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**about, **values}))
    return path


def ablate(folder, *arguments, **options):
    return tool("ablate.py", *arguments, cwd=folder, timeout=500, **options)


def cells_of(folder, scale="cpu", name="t"):
    found = [json.loads(path.read_text()) for path in (folder / "results" / name / scale / "cells").glob("*.json")]
    return {(cell["row"], cell["seed"]): cell for cell in found}


def accuracies(folder):
    keep = ("clip", "video", "train_loss", "nll")
    return {row: ({k: c["values"].get(k) for k in keep}, c.get("scores")) for row, c in cells_of(folder).items()}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a table that was run, and what the tool said."""
    folder = tmp_path_factory.mktemp("swept")
    assertions = [
        {"claim": "parameters are counted", "metric": "params", "rows": ["one"], "at_least": 1, "hard": True},
        {"claim": "nobody is perfect", "rows": ["one"], "at_most": -1, "hard": True},
    ]
    path = write_table(folder, assertions=assertions)
    return folder, path, ablate(folder, "--table", path)


def test_a_sweep_begins_with_its_forecast_from_measured_steps(swept):
    assert re.search(
        r"^forecast \d+:\d\d:\d\d for \d+ cells .* from 20 measured steps of the cheapest and of the dearest$",
        swept[2].stdout,
        re.M,
    )


def test_a_failed_cell_is_shown_and_stops_no_other(swept):
    folder, _, process = swept
    assert process.returncode == 1, process.stderr
    found = {row: cell for (row, _), cell in cells_of(folder).items()}
    assert found.pop("broken")["error"].startswith("error: ")
    assert found.pop("of broken")["error"] == "it needs broken, which has no result"
    assert "shift" in found.pop("unbuildable")["error"]
    assert "stage_pool" in found.pop("uncountable")["error"]
    assert {cell["status"] for cell in found.values()} == {"done"}
    text = (folder / "results" / "t" / "cpu" / "table.md").read_text()
    assert "* broken: seed 0 failed: error: " in text
    assert "training videos" in text
    assert "* unbuildable: seed 0 failed: " in text
    assert "unknown" not in text
    assert "* uncountable: seed 0 failed: " in text
    pictures = {f"{name}.{suffix}" for name in ("curves", "pareto") for suffix in ("png", "svg")}
    assert {"table.md", "table.csv", "table.tex", "cells", *pictures} == {
        path.name for path in (folder / "results" / "t" / "cpu").iterdir()
    }


def test_cells_are_ordinary_runs_tests_and_costs(swept):
    folder, _, _ = swept
    found = {row: cell for (row, _), cell in cells_of(folder).items()}
    run = folder / "results" / "runs" / found["one"]["key"]
    assert json.loads((run / "env.json").read_text())["command"].split()[0].endswith("tools/train.py")
    assert [found[row]["protocol"].split()[1] for row in ("one", "all views", "one view", "vote")] == [
        "2x1",
        "5x3",
        "1x1",
        "5x3",
    ]
    assert found["vote"]["protocol"].split()[2] == "vote"
    assert found["cost"]["values"].keys() == {"params", "gmacs", "gmacs_video", "memory", "latency"}
    assert all(cell["values"]["latency"] > 0 for row, cell in found.items() if row not in (*UNCOUNTED, "fused"))
    tuned = json.loads((folder / "results" / "runs" / found["tuned"]["key"] / "env.json").read_text())
    assert f"runs/{found['one']['key']}/checkpoints" in tuned["weights"]["source"]


def test_views_from_saved_scores_are_those_of_a_test_under_that_protocol(swept):
    folder, _, _ = swept
    found = {row: cell for (row, _), cell in cells_of(folder).items()}
    run = folder / "results" / "runs" / found["one"]["key"]
    copy = folder / "copy"
    shutil.copytree(run, copy)
    succeeded(*forked([("evaluate.py", "--run", copy, "test.clips=1")], folder))
    (path,) = copy.glob("test/*_1x1_*/metrics.json")
    assert json.loads(path.read_text())["video_top1"] == found["one view"]["values"]["video"]
    assert json.loads(path.read_text())["nll"] == pytest.approx(found["one view"]["values"]["nll"], abs=1e-6)
    votes = np.array(found["vote"]["scores"]) * 15  # of 5 clips in 3 crops
    assert votes == pytest.approx(votes.round(), abs=1e-5), "its own fusion, not that of the saved test"


def test_a_fused_row_is_what_evaluate_says_of_the_two_runs(swept):
    folder, _, _ = swept
    found = {row: cell for (row, _), cell in cells_of(folder).items()}
    runs = [folder / "results" / "runs" / found[row]["key"] for row in ("one", "other")]
    assert all(list(run.glob("val/*/predictions.npz")) for run in runs)
    succeeded(*forked([("evaluate.py", "--scores", *runs, "--weights", "val", "--out", folder / "again")], folder))
    again = json.loads((folder / "again" / "metrics.json").read_text())
    assert again["weights_from"].endswith("validation videos")
    assert (again["video_top1"], again["nll"]) == (found["fused"]["values"]["video"], found["fused"]["values"]["nll"])
    assert found["fused"]["values"]["correlation"] == again["error_correlation"][1][0]
    assert found["fused"]["fuses"] == [found[row]["key"] for row in ("one", "other")]


def test_assertions_decide_the_exit_code_only_on_request(swept):
    folder, path, process = swept
    assert "holds        parameters are counted: one" in process.stdout
    assert "fails        nobody is perfect" in process.stdout
    rows = ("--rows", "one")
    before = cells_of(folder)
    command = ("ablate.py", "--table", path, *rows)
    plain, asserting = forked([command, (*command, "--assert")], folder)
    assert (plain.returncode, asserting.returncode) == (0, 1), plain.stderr
    text = (folder / "results" / "t" / "cpu" / "table.md").read_text()
    assert all(f"\n| {row} " in text for row, _ in before), "the other rows have results too"
    measured = lambda cells: [cells[row, 0]["values"]["latency"] for row in ("one", "other")]
    assert all(a != b for a, b in zip(measured(before), measured(cells_of(folder)), strict=True)), "all in turns"


def test_a_second_sweep_computes_nothing(swept):
    folder, path, _ = swept
    times = run_times(folder)
    (again,) = forked([("ablate.py", "--table", path, "--rows", "one,other,vote,tuned")], folder)
    assert again.returncode == 0, again.stderr
    assert "5 cells, 0 to compute" in again.stdout
    assert run_times(folder) == times


@pytest.mark.slow
def test_a_sweep_from_scratch_gives_the_same(swept):
    folder, path, _ = swept
    before, times = accuracies(folder), run_times(folder)
    assert ablate(folder, "--table", path, "--fresh").returncode == 1
    assert run_times(folder) != times
    assert accuracies(folder) == before


def run_times(folder):
    paths = sorted((folder / "results" / "runs").glob("*/env.json"))
    return {path.parent.name: json.loads(path.read_text())["start"] for path in paths}


def test_a_row_that_is_wrong_is_in_nobodys_way(tmp_path):
    path = write_table(tmp_path, [CELLS[0], {"name": "wrong", "set": {"data.clip.stride": 0}}])
    command = ("ablate.py", "--table", path, "--scale", "smoke")
    good, wrong = forked([(*command, "--rows", "one"), command], tmp_path)
    succeeded(good)
    assert wrong.returncode == 2


@pytest.mark.slow
def test_a_result_stays_where_its_run_is_gone(swept, tmp_path):
    """Only what is measured anew is taken from runs."""
    folder, path, _ = swept
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = cells_of(tmp_path)
    assert before["vote", 0]["status"] == "done"
    shutil.rmtree(tmp_path / "results" / "runs")
    succeeded(ablate(tmp_path, "--table", path, "--rows", "other"))
    assert cells_of(tmp_path)["vote", 0] == before["vote", 0]


def test_forked_cells_give_what_a_process_of_their_own_gives(swept):
    folder, _, _ = swept
    cell = cells_of(folder)["one", 0]
    options = [*cell["overrides"], "run.seed=0", "run.dir=alone"]
    succeeded(tool("train.py", "--cfg", cell["base"], *options, cwd=folder))
    (path,) = (folder / "alone").glob("test/*/metrics.json")
    found = json.loads(path.read_text())
    assert found["nll"] == cell["values"]["nll"]


def test_cells_of_other_code_are_refused(swept):
    folder, path, _ = swept
    key = cells_of(folder)["other", 0]["key"]
    record = folder / "results" / "runs" / f"{key}.json"
    before = record.read_text()
    record.write_text(json.dumps({**json.loads(before), "code": "older", "commit": "0123456789abcdef"}))
    command = ("ablate.py", "--table", path)
    process, reusing = forked([command, (*command, "--reuse", "--rows", "other")], folder)
    assert process.returncode == 2
    for word in ("other", "0123456789ab", "--fresh", "--reuse"):
        assert word in process.stderr
    succeeded(reusing)
    assert cells_of(folder)["other", 0]["commit"] == "0123456789abcdef"
    alone = succeeded(*forked([(*command, "--rows", "one")], folder))
    assert "--reuse" in alone.stdout
    text = (folder / "results" / "t" / "cpu" / "table.md").read_text()
    assert "\n| one " in text
    assert "\n| other " not in text
    record.write_text(before)


def test_wrong_input_is_one_message(swept):
    folder, path, _ = swept
    cases = (
        (("--table", "c01_conv_tipe"), "c01_conv_type"),
        (("--table", path, "--rows", "oen"), "one"),
        (("--table", path, "--slurm", "cluster=local"), "--launcher slurm"),
    )
    processes = forked([("ablate.py", *arguments) for arguments, _ in cases], folder)
    for process, (_, message) in zip(processes, cases, strict=True):
        assert process.returncode == 2
        assert message in process.stderr
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize("name", ["c01_conv_type", pytest.param("all", marks=pytest.mark.slow)])
def test_a_dry_run_needs_no_data_and_computes_nothing(tmp_path, name):
    (process,) = forked([("ablate.py", "--table", name, "--scale", "full", "--dry-run")], tmp_path)
    assert process.returncode == 0, process.stderr
    assert "R(2+1)D 16 frames, seed 0 (train): r2plus1d_kinetics400.yaml" in process.stdout
    assert "time not measured" in process.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_names_all_rows_that_cannot_be_built(tmp_path):
    (process,) = forked([("ablate.py", "--table", write_table(tmp_path), "--dry-run")], tmp_path)
    assert process.returncode == 2
    assert re.search(r"the row unbuildable: .*shift(.|\n)*the row uncountable: .*stage_pool", process.stderr)
    assert "Traceback" not in process.stderr


def test_a_stopped_sweep_continues(tmp_path):
    path = write_table(tmp_path, CELLS[:2], seeds=[0, 1])
    command = [sys.executable, str(ROOT / "tools" / "ablate.py"), "--table", str(path)]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), **streams)
    for line in process.stdout:
        if line.startswith("[1/4]"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    done = run_times(tmp_path)
    assert process.returncode in (75, 143, -signal.SIGTERM)  # too late for a cell, between two cells
    assert 1 <= len(done) < 4
    finished = len([*(tmp_path / "results" / "runs").glob("*/test/*/metrics.json")])
    again = succeeded(*forked([("ablate.py", "--table", path)], tmp_path))
    assert f"{4 - finished} to compute" in again.stdout
    assert len(cells_of(tmp_path)) == 4
    first = min(done, key=done.get)
    assert run_times(tmp_path)[first] == done[first]


@pytest.mark.slow
def test_jobs_of_submitit(tmp_path):
    """Its local executor, all cells at once."""
    path = write_table(tmp_path, [CELLS[0], CELLS[3]])
    slurm = ("--launcher", "slurm", "--slurm", "cluster=local")
    process = succeeded(ablate(tmp_path, "--table", path, *slurm))
    assert "submitted 1 jobs" in process.stdout
    assert {cell["status"] for cell in cells_of(tmp_path).values()} == {"done"}


@pytest.mark.slow
def test_all_tables_are_wired_up(tmp_path):
    """`--scale smoke`: at most three cells a table, two or three steps each, in one process."""
    process = ablate(tmp_path, "--table", "all", "--scale", "smoke")
    assert process.returncode == 0, process.stdout + process.stderr
    written = {path.parent.parent.name for path in tmp_path.glob("results/*/smoke/table.md")}
    assert written == set(spec.list_tables())
    assert "fails" not in process.stdout
