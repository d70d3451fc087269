"""The children of a sweep, and wishes to end that come at any moment."""

import os
import signal
import time

import pytest

from videores.ablation import executors


def test_a_child_that_a_signal_ends_stops_the_sweep_as_one_that_ends_itself(tmp_path):
    """Sent before the tool listens to it."""
    ends = lambda number: executors.run_in_child(lambda: os.kill(os.getpid(), number), ["x"], tmp_path / "log")
    assert ends(signal.SIGTERM) in executors.STOP_EXIT_CODES
    assert ends(signal.SIGKILL) == 137
    assert ends(signal.SIGKILL) not in executors.STOP_EXIT_CODES


def child_that(does, code=0, handler=signal.SIG_DFL):
    """Forks a child with this handler of SIGTERM. Returns its id when it has it."""
    read, write = os.pipe()
    if child := os.fork():
        os.read(read, 1)
        return child
    if handler is not None:
        signal.signal(signal.SIGTERM, handler)
    os.write(write, b"1")
    does()
    os._exit(code)


@pytest.mark.parametrize("code", [0, 1, 2, 70])
@pytest.mark.parametrize("late", [False, True], ids=["while it starts", "while it ends"])
def test_a_wish_to_end_is_not_lost_where_the_child_ends_as_if_there_were_none(late, code):
    """Its last batch is done, or it fails: the sweep must not go on."""

    def start():
        if not late:
            os.kill(os.getpid(), signal.SIGTERM)
        child = child_that(lambda: time.sleep(0.1), code, signal.SIG_IGN)
        if late:
            os.kill(os.getpid(), signal.SIGTERM)
        return child

    assert executors.wait_for_child(start) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_wish_to_end_while_a_child_starts_reaches_it():
    def start():
        os.kill(os.getpid(), signal.SIGTERM)
        return child_that(lambda: time.sleep(60))

    began = time.monotonic()
    assert executors.wait_for_child(start) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


def test_a_wish_to_end_that_reaches_a_child_before_its_handler_is_there_ends_it():
    """It has the parent's handler then, which would send the signal to itself, or to nobody."""
    start = lambda: child_that(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)), handler=None)
    began = time.monotonic()
    assert executors.wait_for_child(start) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


def test_a_wish_to_end_that_comes_when_the_child_is_gone_is_not_lost(monkeypatch):
    wait = os.waitpid

    def gone(child, options):
        found = wait(child, options)
        os.kill(os.getpid(), signal.SIGTERM)  # between its end and the next line
        return found

    monkeypatch.setattr(os, "waitpid", gone)
    assert executors.wait_for_child(lambda: child_that(lambda: None)) == 128 + signal.SIGTERM
