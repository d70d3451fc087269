"""Signals that end a run: a handler notes them, and the run acts on them where nothing is half done.

SIGTERM and SIGUSR1 come from a scheduler that takes the machine back, SIGINT is Ctrl-C. This module imports nothing
heavy.
"""

import signal
import threading

from videores.errors import SignalInterrupt

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)]


class SignalHandler:
    """Within `with`, notes the first signal in `received`; once `act_at_once` is false the handler does nothing else.

    Before that nothing is half done that could not be left, so that the handler raises Stopped. A second Ctrl-C does
    not wait for the step's end.
    """

    def __init__(self):
        self.received, self.act_at_once, self.before = 0, True, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self.before = {number: signal.signal(number, self.handle) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number, _):
        again = number == self.received == signal.SIGINT
        self.received = self.received or number
        if again:
            raise KeyboardInterrupt
        if self.act_at_once:
            raise SignalInterrupt(number, "before the first step")


class exit_on_sigterm:
    """Within `with`, SIGTERM ends this process by SystemExit, so that it ends what it has started."""

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, self.handle)

    def __exit__(self, *_):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)

    def handle(self, *_):
        raise SystemExit


class ignore_signals:
    """Within `with`, this process ignores the signals, and so do the programs that it starts, for their whole life."""

    def __enter__(self):
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
