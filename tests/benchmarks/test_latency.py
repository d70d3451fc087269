"""The latency benchmark: each network runs in every way, and the page says what was reached. No time is tested."""

import argparse
import json

import pytest
import torch
from benchmarks import latency


@pytest.fixture
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_network_is_measured_in_every_way_and_the_page_is_written(tmp_path, monkeypatch, same_threads):
    monkeypatch.setattr(latency, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(latency.machine, "count_cpus", lambda: 1)
    monkeypatch.setattr(latency, "has_vnni", lambda: True)
    parser = argparse.ArgumentParser()
    latency.add_arguments(parser)
    tiny = ["--networks", "cifar3d_20", "--frames", "2", "--size", "16", "--rounds", "1", "--no-compile", "--docs"]
    assert latency.main(parser.parse_args([*tiny, "--out", str(tmp_path)])) == 0
    rows = {row["run"]: row for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert list(rows) == [*latency.EAGER, *latency.FILES]
    assert all(row[key] > 0 for row in rows.values() for key in ("ms", "p95_ms", "clips_s", "gmacs", "memory_mb"))
    assert rows["onnx int8"]["file_mb"] < 0.5 * rows["onnx fp32"]["file_mb"]
    page = (tmp_path / "page.md").read_text()
    assert all(f"| {run} |" in page for run in rows)
    assert "cifar3d_20, one thread" in page


def test_memory_counts_what_fills_pages_that_were_freed():
    draw = lambda: [bytes([number % 256]) * 100_000 for number in range(500)]
    pin = draw()[-1]  # keeps the pages below it from going back to the system

    def build():
        held = draw()
        return lambda: len(held)

    assert latency.measure_memory(build) > 40
    assert len(pin) == 100_000


def test_without_vnni_no_speed_is_asked_for(monkeypatch):
    monkeypatch.setattr(latency, "has_vnni", lambda: False)
    rows = [{"network": "n", "run": run, "threads": 1, "ms": 1, "cpu_ms": 1} for run in (latency.FAST, latency.SLOW)]
    assert ["VNNI" in line for line in latency.judge(rows)] == [True]
