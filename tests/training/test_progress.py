"""The progress line: on standard error, at most 100 columns, epochs counted from 1, from the first step on."""

import re

import lightning.pytorch as pl
import pytest
from helpers.training import make_config, make_data, make_task
from helpers.videos import write_csv

from videores.training.callbacks.progress import ProgressBar
from videores.training.callbacks.throughput import Throughput


def test_the_line_is_short_counts_from_1_and_is_not_on_standard_output(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # a wide terminal
    train = [(f"t{i}.mp4", "ab"[i % 2], f"g{i // 2}") for i in range(60)]
    write_csv(tmp_path, {"train": train, "test": [("e.mp4", "a", "h")]}, height=32, width=32)
    cfg = make_config(tmp_path, data={"batch_size": 1, "val": 0.1})
    module, data, throughput = make_task(cfg), make_data(cfg), Throughput()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        callbacks=[throughput, ProgressBar(throughput)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    capsys.readouterr()
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    out, err = capsys.readouterr()
    assert "|" not in out
    lines = [line.strip() for line in re.split(r"[\r\n]", err) if "|" in line]
    assert max(map(len, lines)) <= 100
    names = dict.fromkeys(re.match(r"(.*?) +\d+%", line)[1] for line in lines)
    assert list(names) == ["epoch 1/2", "validation videos", "epoch 2/2", "test videos"]
    steps = len(data.train_dataloader())
    assert any(re.search(rf"\| 1/{steps}, loss=[\d.]+, left=[\d:]+", line) for line in lines)
    last = [line for line in lines if line.startswith("epoch 2/2") and f"| {steps}/{steps}" in line][-1]
    assert re.search(r"loss=[\d.]+, val=[\d.]+", last)


def test_an_error_begins_a_line(tmp_path, capsys):
    rows = [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(4)]
    write_csv(tmp_path, {"train": rows, "test": [("e.mp4", "a", "h")]}, height=32, width=32)
    cfg = make_config(tmp_path, data={"batch_size": 1})
    module, data = make_task(cfg), make_data(cfg)
    module.on_after_backward = lambda: 1 / 0
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, callbacks=[ProgressBar()], logger=False)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, data)
    assert re.search(r"epoch 1/1 .*\n$", capsys.readouterr().err)
