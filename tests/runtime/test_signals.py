"""Ctrl-C that native code swallows."""

import os
import signal

import pytest

from videores.runtime.signals import Interruptible


def test_an_interrupt_that_is_swallowed_comes_at_the_end():
    before, done = signal.getsignal(signal.SIGINT), []

    def read_as_pyav_does():
        with Interruptible():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                done.append("swallowed")
            done.append("went on")

    with pytest.raises(KeyboardInterrupt):
        read_as_pyav_does()
    assert done == ["swallowed", "went on"]
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_is_raised_without_an_interrupt():
    with Interruptible():
        pass
