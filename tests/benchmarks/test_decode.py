"""The benchmark of one reader: right and wrong frames are counted, failures too, and a cell of an ablation takes it."""

import argparse
import json

import pytest
from benchmarks import decode
from helpers.commands import write_config
from helpers.videos import numbered_video, write_csv

from videores.ablation import cells, collect, plan, spec
from videores.config import parse
from videores.data.decode import read_frames


@pytest.fixture
def config(tmp_path):
    """Of two training videos."""
    rows = {"train": [("a.mp4", "a", ""), ("b.mp4", "b", "")], "test": [("c.mp4", "a", "")]}
    data = write_csv(tmp_path / "data", rows, frames=20, height=32, width=32)
    return write_config(tmp_path / "tiny.yaml", data={**data, "batch_size": 2})


def measured(config, *overrides):
    parser, out = argparse.ArgumentParser(), config.parent / "out" / "decode.json"
    decode.add_arguments(parser)
    command = ["--cfg", str(config), "--rounds", "1", "--out", str(out), *overrides]
    assert decode.main(parser.parse_args(command)) == 0
    return json.loads(out.read_text())["values"]


@pytest.mark.parametrize("reader", ["auto", "pyav", "decord"])
def test_readers_are_measured_on_real_files(config, reader):
    values = measured(config, f"data.reader={reader}")
    assert (values["pixel_diff"], values["wrong_frames"], values["failures"]) == (0, 0, 0)
    assert values["frames_per_s"] > 0
    assert values["clip_ms"] > 0


def test_workers_have_no_processor_time(config):
    assert measured(config, "data.workers=1")["clip_ms"] is None


def loaded(config):
    data = decode.make_data(parse.load_config(str(config), ["data.val=none"]), 10)
    dataset = data.dataset("train")
    return dataset, read_frames(dataset.root / "a.mp4", range(20))


def test_frames_of_another_place_are_counted(config):
    """A video whose frames are numbered otherwise than the truth says."""
    dataset, truth_THWC = loaded(config)
    found = decode.Found()
    decode.compare_clip(dataset, 0, 0, truth_THWC[::-1], found)
    assert found.wrong == 8
    assert found.largest > 100


def test_a_clip_that_fails_is_counted(config):
    dataset, truth_THWC = loaded(config)
    numbered_video(config.parent / "data" / "a", 5)  # changed since it was probed
    found = decode.Found()
    decode.compare_clip(dataset, 0, 0, truth_THWC, found)
    assert found == decode.Found(failures=1)


def test_sets_of_codings_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "COUNT", 1)
    monkeypatch.setattr(decode, "FRAMES", 3)
    for _ in range(2):
        decode.write_set(tmp_path, *decode.CODINGS["h264_gop12"])
        stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.name for path in stamps} == {"0.mp4", "1.mp4", "train.csv", "test.csv"}


def test_a_cell_takes_its_columns_from_the_benchmark(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cell, other, *_) = plan.plan_cells(spec.read_table("c18_decode"), "smoke")
    assert cell.key != other.key  # readers differ, which change no result of a training
    assert cells.build_command(cell)[1] == "decode"
    assert not cells.is_done(cell)
    cells.prepare_cell(cell)
    measured(config)
    cells.cell_folder(cell).mkdir(parents=True)
    (tmp_path / "out" / "decode.json").rename(cells.decode_path(cell))
    assert cells.is_done(cell)
    assert collect.collect_cell(cell, {})["values"]["wrong_frames"] == 0
