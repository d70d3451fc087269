"""A training in this process that a signal stops, and that goes on, beside an undisturbed one."""

import os
import signal

import pytest
from helpers import kill

from videores import run
from videores.config import parse
from videores.errors import SignalInterrupt
from videores.training.module import VideoClassifier


def assert_goes_on_exactly(monkeypatch, place, *overrides, prefix=""):
    """Stops a training in its third step; the end is that of a whole one, whose logged rows are returned."""
    monkeypatch.chdir(place)
    usual = (*overrides, "trainer.precision=fp32", "data.batch_size=2", "run.resume=auto", "test.clips=1")

    def train(folder):
        return run.train(parse.load_config("tiny.yaml", [*usual, f"run.dir={prefix}{folder}"]), "tiny.yaml")

    assert train("whole") == 0
    step, calls = VideoClassifier.training_step, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(VideoClassifier, "training_step", interrupted)
        with pytest.raises(SignalInterrupt):
            train("stopped")
    assert train("stopped") == 0
    whole, stopped = place / f"{prefix}whole", place / f"{prefix}stopped"
    assert kill.same_checkpoint(stopped, whole, "last.ckpt")
    assert kill.rows(stopped) == kill.rows(whole)
    return kill.rows(whole)
