"""tools/benchmark.py overhead and upkeep: both loops train, on the same batches; what is timed really happens."""

import json

import torch
from benchmarks import overhead, upkeep
from helpers.commands import forked, succeeded, write_config, write_data

from videores.config import parse
from videores.data import datamodule

SMALL = ("model.name=r3d_18", "model.layers=[1]", "model.width=8", "model.stem=small", "data.batch_size=2")
SIZE = ("data.transform.short_side=32", "data.transform.crop=32", "data.clip.frames=8", "trainer.precision=fp32")


def test_the_table_has_both_networks_and_what_is_added(tmp_path):
    write_data(tmp_path / "data")
    write_config(tmp_path / "tiny.yaml")
    command = ("benchmark.py", "overhead", "--cfg", "tiny.yaml", "--rounds", "2", "--steps", "1", *SMALL, *SIZE)
    process = succeeded(*forked([command], tmp_path))
    rows = json.loads((tmp_path / "results" / "benchmark" / "overhead.json").read_text())["rows"]
    assert [row["case"] for row in rows] == list(overhead.CASES)
    for row in rows:
        assert row["bare_ms"] > 0
        assert row["middle_half_ms"][0] <= row["added_ms"] <= row["middle_half_ms"][1]
        assert row["case"] in process.stdout


def test_both_loops_see_the_same_batches(tmp_path, monkeypatch):
    write_data(tmp_path / "data")
    write_config(tmp_path / "tiny.yaml")
    changes = [f"data.root={tmp_path / 'data'}", "data.workers=0", "data.val=none", *SMALL, *SIZE]
    cfg = parse.load_config(str(tmp_path / "tiny.yaml"), changes)
    data = datamodule.VideoData.from_config(cfg, datamodule.load_videos(cfg.data))
    seen, finish = [], datamodule.VideoData.on_after_batch_transfer

    def spy(self, batch, number):
        seen.append(batch["clips"].clone())
        return finish(self, batch, number)

    monkeypatch.setattr(datamodule.VideoData, "on_after_batch_transfer", spy)
    assert len(overhead.bare_loop(cfg, data, 4)) == len(overhead.lightning_loop(cfg, data, 4)) == 4
    bare, ours = seen[:4], seen[4:]
    assert all(torch.equal(one, other) for one, other in zip(bare, ours, strict=True))


def test_upkeep_times_each_update_and_each_checkpoint(tmp_path):
    write_data(tmp_path / "data")
    write_config(tmp_path / "tiny.yaml")
    command = ("benchmark.py", "upkeep", "--cfg", "tiny.yaml", "--steps", "2", *SMALL, *SIZE)
    process = succeeded(*forked([command], tmp_path))
    rows = json.loads((tmp_path / "results" / "benchmark" / "upkeep.json").read_text())["rows"]
    assert [row["case"] for row in rows] == list(upkeep.CASES)
    for row in rows:
        assert 0 < row["ema_ms"] < row["checkpoint_ms"]
        assert row["case"] in process.stdout


def test_the_share_of_checkpoints_counts_the_end_of_an_epoch_and_those_by_time():
    assert upkeep.share(0.1, 50) == 0.1 / 50  # the epoch ends before a minute
    assert upkeep.share(0.1, 600) == 11 * 0.1 / 600
    assert upkeep.share(2.0, 4000) == 11 * 2.0 / 4000  # 200 times what one takes
