"""What a row of metrics.jsonl says of the steps since the last one."""

from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers.training import make_config, make_data, make_task
from helpers.videos import write_csv

from videores.training.callbacks.metrics_log import MetricsLog, read_metrics_log
from videores.training.callbacks.throughput import Throughput
from videores.training.callbacks.watch import Watch


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    train = [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)]
    write_csv(folder, {"train": train, "test": [("e.mp4", "a", "h")]}, height=32, width=32)
    return folder


def train(cfg, path, every):
    torch.manual_seed(0)
    throughput = Throughput()
    usual = dict(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer = pl.Trainer(
        **usual,
        max_epochs=cfg.train.epochs,
        accumulate_grad_batches=cfg.train.accumulate,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        profiler=throughput.wait,
        callbacks=[throughput, MetricsLog(path, every, throughput, Watch(cfg.watch, every))],
    )
    trainer.fit(make_task(cfg), make_data(cfg))
    return [row for row in read_metrics_log(path) if "train/loss" in row]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_row_has_the_mean_of_all_steps_since_the_last(small, tmp_path, accumulate):
    cfg = make_config(small, data={"batch_size": 2}, train={"epochs": 3, "accumulate": accumulate})
    single, window = (train(cfg, tmp_path / f"{every}.jsonl", every) for every in (1, 3))
    assert len(single) == 12 // accumulate
    assert [row["train/steps"] for row in single] == [1] * len(single)
    assert [(row["step"], row["train/steps"]) for row in window] == [(i, 3) for i in range(3, len(single) + 1, 3)]
    for key in ("train/loss", "train/top1"):
        means = np.reshape([row[key] for row in single], (-1, 3)).mean(1)
        assert [row[key] for row in window] == pytest.approx(means, rel=1e-6)
    assert len({row["train/loss"] for row in single}) > 3


def test_a_resumed_run_has_the_mean_with_the_steps_before_it(tmp_path):
    def run(log, losses, first):
        module, trainer = (
            SimpleNamespace(ends_step=lambda _: True),
            SimpleNamespace(is_global_zero=True, current_epoch=0),
        )
        for step, loss in enumerate(losses, first):
            trainer.global_step = step
            log.on_train_batch_end(trainer, module, {"loss": torch.tensor(loss), "hits": torch.tensor(0.5)}, None, step)

    make_log = lambda: MetricsLog(
        tmp_path / "log.jsonl", 4, SimpleNamespace(measure_since_last=lambda _: {}), SimpleNamespace(values={})
    )
    log, resumed = make_log(), make_log()
    run(log, [1.0, 2.0, 3.0, 4.0, 8.0, 9.0], 1)
    resumed.load_state_dict(log.state_dict())
    run(resumed, [1.0, 2.0], 7)
    rows = read_metrics_log(tmp_path / "log.jsonl")
    assert [(row["step"], row["train/loss"], row["train/steps"]) for row in rows] == [(4, 2.5, 4), (8, 5.0, 4)]
    resumed.load_state_dict({"rows": 0})  # a checkpoint of before
    run(resumed, [6.0], 12)
    assert read_metrics_log(tmp_path / "log.jsonl")[-1]["train/loss"] == 6.0
