"""How fast a run says that it is, against the clock; the time that is left; and the hint where reading is too slow."""

import math
import mmap
import re
import time
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
from helpers.training import make_config, make_data, make_task
from helpers.videos import write_csv

from videores.compute import precision
from videores.config.schema import DataConfig
from videores.data.dataset import VideoDataset
from videores.runtime import machine
from videores.training.callbacks.metrics_log import MetricsLog, read_metrics_log
from videores.training.callbacks.progress import ProgressBar
from videores.training.callbacks.throughput import Throughput, format_wait_hint
from videores.training.callbacks.watch import Watch

FIGURES = {"clips_per_s", "step_ms", "data_wait", "memory_mb"}


class Clock(pl.Callback):
    """When the batches after the first `every`, whose row is closed then, began and ended."""

    def __init__(self, every):
        self.every, self.times, self.hits = every, [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.hits.append(float(outputs["hits"]))
        self.times.append((trainer.global_step, time.perf_counter()))

    def seconds(self):
        at = dict(self.times)
        return at[max(at)] - at[self.every]


def train(cfg, folder, every=4):
    throughput, clock = Throughput(), Clock(every)
    path = folder / "metrics.jsonl"
    path.unlink(missing_ok=True)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=cfg.train.epochs,
        precision=precision.LIGHTNING_PRECISIONS["fp32"],
        callbacks=[
            throughput,
            MetricsLog(path, every, throughput, Watch(cfg.watch, every)),
            clock,
            ProgressBar(throughput),
        ],
        profiler=throughput.wait,
        accumulate_grad_batches=cfg.train.accumulate,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(make_task(cfg), make_data(cfg))
    return [row for row in read_metrics_log(path) if "train/loss" in row], clock


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    train = [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)]
    write_csv(folder, {"train": train, "test": [("e.mp4", "a", "h")]}, height=32, width=32)
    return folder


def test_figures_agree_with_the_clock(small, tmp_path):
    cfg = make_config(small, data={"batch_size": 2, "cache": "none"}, train={"epochs": 6})
    rows, clock = train(cfg, tmp_path)
    assert all(set(row) >= FIGURES for row in rows)
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20, 24]
    total = sum(row["step_ms"] * 4 / 1000 for row in rows[1:])
    assert total == pytest.approx(clock.seconds(), rel=0.1)
    for row in rows:
        assert row["clips_per_s"] == pytest.approx(2 * 1000 / row["step_ms"], rel=0.02)
        assert 0 <= row["data_wait"] <= 1
        assert 50 < row["memory_mb"] < machine.read_memory()[0] / 2**20


@pytest.mark.parametrize(("accumulate", "tolerance"), [(1, 0.005), (2, 0.3)])  # of the last batch, or of both
def test_rows_have_the_accuracy_of_a_step_and_the_bar_its_loss(small, tmp_path, capsys, accumulate, tolerance):
    cfg = make_config(small, data={"batch_size": 2}, train={"epochs": 1, "accumulate": accumulate})
    rows, clock = train(cfg, tmp_path, every=1)
    hits = np.reshape(clock.hits, (-1, accumulate)).mean(1)
    assert [row["train/top1"] for row in rows] == pytest.approx(100 * hits)
    losses = re.findall(r"loss=([\d.]+)", "".join(capsys.readouterr()))
    assert float(losses[-1]) == pytest.approx(rows[-1]["train/loss"], rel=tolerance)


def test_clips_of_a_repeated_video_all_count(small, tmp_path):
    cfg = make_config(small, data={"batch_size": 2, "clip": {"frames": 8, "repeat": 3}}, train={"epochs": 2})
    for row in train(cfg, tmp_path)[0]:
        assert row["clips_per_s"] == pytest.approx(6 * 1000 / row["step_ms"], rel=0.02)


def test_a_slow_data_set_is_waited_for_and_gives_one_hint(small, tmp_path, capsys, monkeypatch):
    load = VideoDataset.__getitem__
    monkeypatch.setattr(VideoDataset, "__getitem__", lambda self, key: time.sleep(0.05) or load(self, key))
    cfg = make_config(small, data={"batch_size": 2, "cache": "none"}, train={"epochs": 6})
    rows, _ = train(cfg, tmp_path)
    assert max(row["data_wait"] for row in rows) > 0.4
    (hint,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hint:")]
    for remedy in ("tools/prepare.py", "data.cache=ram"):
        assert remedy in hint


def test_a_fast_data_set_is_not_waited_for_and_gives_no_hint(small, tmp_path, capsys):
    """Kept in memory: that the first epoch reads it is no reason to hint."""
    cfg = make_config(
        small,
        data={"batch_size": 8, "cache": "ram", "clip": {"frames": 8}},
        model={"layers": [1, 1], "width": 32},
        train={"epochs": 16},
    )
    rows, _ = train(cfg, tmp_path, every=2)
    assert max(row["data_wait"] for row in rows[1:]) < 0.3
    assert "hint:" not in capsys.readouterr().err


def test_the_hint_names_what_this_configuration_can_change():
    data = DataConfig(name="x", format="csv", root="x", workers=2, cache="none")
    hint = format_wait_hint(0.62, data, 8)
    for words in ("62%", "data.workers=7 (now 2)", "tools/prepare.py", "data.cache=ram"):
        assert words in hint
    full = data.model_copy(update={"workers": 8, "cache": "ram"})
    assert "data." not in format_wait_hint(0.62, full, 8)


def trainer_at(batch, batches=10, epochs=4):
    """What estimate_seconds_left asks a trainer: at the end of that batch, counted from 0."""
    return SimpleNamespace(
        fit_loop=SimpleNamespace(total_batch_idx=batch), max_epochs=epochs, num_training_batches=batches
    )


@pytest.mark.parametrize("before", [0, 10])
def test_the_time_left_is_the_whole_run_s(before, monkeypatch):
    now = iter([100.0, 150.0, 150.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    throughput = Throughput()
    throughput.start = (time.perf_counter(), before)
    assert throughput.estimate_seconds_left(trainer_at(before - 1)) is None
    assert math.isclose(throughput.estimate_seconds_left(trainer_at(before + 9)), 5.0 * (30 - before))


def test_memory_is_what_this_process_holds():
    size = 2**27
    with mmap.mmap(-1, size) as block:  # new memory, where an array may get what was freed before
        before = machine.read_resident_memory()
        block.write(bytes(size))
        assert machine.read_resident_memory() - before > 0.8 * size


def test_limits_of_control_groups(tmp_path):
    read = lambda: (machine.read_cpu_limit(tmp_path), machine.read_memory_limit(tmp_path))
    assert read() == (None, None)
    for cpu, memory, limits in (("150000 100000", 2**30, (1.5, 2**30)), ("max 100000", "max", (None, None))):
        (tmp_path / "cpu.max").write_text(f"{cpu}\n")
        (tmp_path / "memory.max").write_text(f"{memory}\n")
        assert read() == limits


def test_limits_of_the_older_control_groups(tmp_path):
    for name, text in (("cpu/cpu.cfs_quota_us", "50000"), ("cpu/cpu.cfs_period_us", "100000")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert (machine.read_cpu_limit(tmp_path), machine.read_memory_limit(tmp_path)) == (0.5, None)
