"""Files of cells that were damaged or edited: a message that names them, or no difference."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.damage import BROKEN_JSON, list_changes

from videores.ablation import cells, collect, docs, exports, spec, tables
from videores.config.parse import load_config
from videores.errors import UserError

CELLS = Path(__file__).parents[2] / docs.DOCS
TABLES = {
    "train": "c10_test_views",
    "test": "c10_test_views",
    "probe": "c17_probe",
    "decode": "c18_decode",
    "fuse": "c16_fusion",
}  # with cells of every kind


@pytest.mark.parametrize("kind", TABLES)
def test_every_change_of_a_saved_cell_is_told_or_makes_no_difference(tmp_path, kind):
    name = TABLES[kind]
    found = {json.loads(path.read_text())["kind"]: path for path in sorted((CELLS / name / "cells").glob("*.json"))}
    path = tmp_path / "cells" / found[kind].name
    path.parent.mkdir()
    value, table, told = json.loads(found[kind].read_text()), spec.read_table(name), 0
    value["answers"] = {"list": "l", "right": "0110", "groups": [1, 1, 2, 3]}  # few, so that intervals take no time
    changes = list(list_changes(value))  # two of each place
    for changed in changes:
        path.write_text(json.dumps(changed))
        try:
            read = tables.load_cells(tmp_path)
            docs._build_page(name, table, read)
            exports.format_csv(table, read)
        except UserError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            told += 1
    assert told > len(changes) / 4


@pytest.mark.parametrize("content", BROKEN_JSON)
def test_a_damaged_cell_is_named(tmp_path, monkeypatch, content):
    path = tmp_path / "cells/a-s0.json"
    path.parent.mkdir()
    path.write_bytes(content)
    for use in (tables.load_cells, lambda folder: tables.delete_stale_cells(folder, lambda cell: False)):
        with pytest.raises(UserError, match=f"{path.name}.*remove it"):
            use(tmp_path)
    monkeypatch.setattr(cells, "RUNS", tmp_path / "cells")
    with pytest.raises(UserError, match=f"{path.name}.*--fresh"):
        cells.read_record(SimpleNamespace(key="a-s0"))
    assert cells.read_record(SimpleNamespace(key="other")) is None


@pytest.mark.parametrize("file", ["metrics.json", "metrics.jsonl", "env.json"])
def test_every_change_of_a_run_is_told_or_collected(trained, tmp_path, monkeypatch, file):
    monkeypatch.setattr(cells, "RUNS", tmp_path)
    run = shutil.copytree(trained[0] / "runs/tiny", tmp_path / "tiny")
    monkeypatch.chdir(trained[0])
    about = dict(row="a", kind="train", seed=0, key="tiny", base="b", overrides=(), needs=None, rescored=False)
    about |= dict(trains=True, prunes=False, quantises=False, members=(), parents=())
    cell = SimpleNamespace(**about, config=load_config(run / "config.yaml"))
    cell.origin = cell
    assert collect.collect_cell(cell, {})["status"] == "done"
    path = next(run.glob(f"**/{file}"))
    whole = path.read_text()
    value = json.loads(whole.splitlines()[0] if file == "metrics.jsonl" else whole)
    for changed in list_changes(value):
        path.write_text(json.dumps(changed) + "\n")
        try:
            collect.collect_cell(cell, {})
        except UserError as error:
            assert str(error).startswith(str(run))  # noqa: PT017
