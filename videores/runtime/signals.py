"""Record signals that end a run, which acts on them where nothing is half done.

SIGTERM and SIGUSR1 come from a scheduler that takes the machine back, SIGINT is Ctrl-C, and SIGHUP says that the
terminal or its connection is gone. Imports nothing heavy.
"""

import os
import signal
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from typing_extensions import Self

from videores.errors import SignalInterrupt

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


class _HandlerContext:
    """Install signal handlers within `with`; only in the main thread, as Python asks.

    A hang-up that nohup has made this process ignore stays ignored.
    """

    def __init__(self, handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any] | signal.Handlers]):
        self.handlers, self.previous_handlers = handlers, dict[int, Any]()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self.handlers.items():
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self.previous_handlers[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)


class SignalHandler(_HandlerContext):
    """Record the first stop signal in `signal_number`, 0 without one, within `with`.

    While `raise_at_once` is True nothing is half done, and the handler also raises SignalInterrupt. A second Ctrl-C
    raises KeyboardInterrupt: it does not wait for the step's end.
    """

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(STOP_SIGNALS, self.handle))
        self.signal_number, self.raise_at_once = 0, True

    def handle(self, number: int, _: FrameType | None) -> None:
        """Record a signal, and raise where it ends the run at once."""
        is_second_interrupt = number == self.signal_number == signal.SIGINT
        self.signal_number = self.signal_number or number
        if number == signal.SIGHUP:
            _silence_lost_terminal()
        if is_second_interrupt:
            raise KeyboardInterrupt
        if self.raise_at_once:
            raise SignalInterrupt(number, "before the first step")


class Interruptible(_HandlerContext):
    """Raise KeyboardInterrupt at Ctrl-C, again at the end where it was swallowed.

    PyAV takes an exception in the callback that reads a pipe for its end, so the end of `with` raises it anew.
    """

    def __init__(self) -> None:
        super().__init__({signal.SIGINT: self.handle})
        self.interrupted = False

    def handle(self, *_: object) -> None:
        """Record Ctrl-C, and raise."""
        self.interrupted = True
        raise KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self.interrupted and error == (None, None, None):
            raise KeyboardInterrupt


def _silence_lost_terminal() -> None:
    """Send output that is no file to nowhere.

    Writing to what hung up would end the run before it is saved.
    """
    for number in (1, 2):
        with suppress(OSError):  # closed
            if not stat.S_ISREG(os.fstat(number).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def exit_on_sigterm() -> _HandlerContext:
    """Return a context in which SIGTERM and SIGHUP raise SystemExit, for cleanup."""

    def raise_exit(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _silence_lost_terminal()
        raise SystemExit

    return _HandlerContext(dict.fromkeys((signal.SIGTERM, signal.SIGHUP), raise_exit))


def ignore_signals() -> _HandlerContext:
    """Return a context in which this process ignores stop signals.

    Programs that it starts ignore them for their whole life.
    """
    return _HandlerContext(dict.fromkeys(STOP_SIGNALS, signal.SIG_IGN))
