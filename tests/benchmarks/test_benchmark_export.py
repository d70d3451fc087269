"""The export benchmark: files answer as their network, and what was reached is said. No time is tested."""

import argparse
import json

import pytest
import torch
from benchmarks import export


@pytest.fixture
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_files_answer_as_their_network_and_are_drawn(tmp_path, monkeypatch, capsys, same_threads):
    monkeypatch.setattr(export, "FILES", {"pt2": (".pt2", False)})
    monkeypatch.setattr(export, "TARGET", "pt2")
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    out = tmp_path / "made" / "export.json"
    tiny = ["--networks", "cifar3d_20", "--frames", "2", "--size", "16", "--rounds", "1", "--plot", "--out", str(out)]
    assert export.main(parser.parse_args(tiny)) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["run"] for row in rows] == ["network", "network, folded", "pt2"]
    assert rows[0]["times"] == 1
    assert [row["difference"] for row in rows[::2]] == [0, 0]
    assert rows[1]["difference"] < 1e-4
    assert "reached" in capsys.readouterr().out
    assert out.with_suffix(".svg").exists()
