"""Work on files in helper processes: a crash or hang costs one file only.

A helper is a new Python, not a fork: it inherits no decoder's lock and needs no guard in the user's script. It takes
one call at a time over a socket, and shows that it lives by naming the stage that it is in.
"""

import atexit
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection

STARTING_STAGE = "starting"
HEARTBEAT_TIMEOUT = 60  # seconds without a sign of life after which a call hangs
HEARTBEAT_INTERVAL = 1  # seconds between two signs of life


class HelperFailure(Exception):
    """Raised for a helper that crashed or hung; `stage` is what it was doing."""

    def __init__(self, reason, stage):
        super().__init__(reason, stage)
        self.reason, self.stage = reason, stage


class Helper:
    """Run calls in one helper process, which is started anew after it was lost."""

    def __init__(self, patience=HEARTBEAT_TIMEOUT):
        self.patience, self.process, self.connection, self.ended = patience, None, None, False
        self.lock = threading.Lock()

    def call(self, function, *args):
        """Return what `function(*args, beat)` returns in the helper.

        beat("stage") is its sign of life. Raises what the function raises, or HelperFailure.
        """
        with self.lock:
            try:
                kind, value = self._converse((function, args))
            except BaseException:
                self._kill()  # lost, or still busy with a call that is given up
                raise
        if kind == "error":
            raise value
        return value

    def _converse(self, call):
        if self.process is None:
            self.process, self.connection = _start_helper_process()
        process, connection, stage = self.process, self.connection, STARTING_STAGE
        if self.ended:
            raise HelperFailure("was given up", stage)
        try:
            connection.send(call)
            while connection.poll(self.patience):
                kind, value = connection.recv()
                if kind != "stage":
                    return kind, value
                stage = value
        except (EOFError, OSError, pickle.UnpicklingError):
            code = process.wait()
            how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
            raise HelperFailure(how, stage) from None
        raise HelperFailure(f"hung: no sign of life for {self.patience:g} s", stage)

    def end(self):
        """End the helper for good; a call that another thread is in fails."""
        self.ended = True
        self._kill()

    def _kill(self):
        process, self.process, self.connection = self.process, None, None
        if process is not None:
            process.kill()
            process.wait()


def _start_helper_process():
    ours, theirs = multiprocessing.Pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # -c puts the current folder first, where any file may have a package's name
    code = "import sys; sys.path.pop(0); from videores.data.video.sandbox import serve; serve(int(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(theirs.fileno())]
    pipes = dict(stdin=subprocess.DEVNULL, stdout=2)  # what native code prints is no output of this program
    with theirs:
        return subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], **pipes), ours


@lru_cache(maxsize=1)
def get_process_helper(process_id):
    """Return the helper of this process for single calls.

    The argument is os.getpid(), so that a fork gets its own.
    """
    helper = Helper()
    atexit.register(helper.end)
    return helper


def map_unordered(work, items, workers, patience=HEARTBEAT_TIMEOUT):
    """Yield `work(helper, item)` as they end, from as many helpers at a time."""
    helpers = [Helper(patience) for _ in range(workers)]
    idle = [*helpers]  # as many threads take from it

    def one(item):
        helper = idle.pop()
        try:
            return work(helper, item)
        finally:
            idle.append(helper)

    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(one, item) for item in items]):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for helper in helpers:
            helper.end()


def serve(descriptor):
    """Run the helper's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    connection = Connection(descriptor)
    with suppress(EOFError, ConnectionError):  # the parent has ended
        while True:
            function, args = connection.recv()
            answer = _run_call(function, args, _Heartbeat(connection))
            set_alarm(0)
            _send_message(connection, answer)
    os._exit(0)


class _Heartbeat:
    def __init__(self, connection):
        self.connection, self.stage, self.time = connection, None, 0

    def __call__(self, stage):
        if stage != self.stage or time.monotonic() - self.time > HEARTBEAT_INTERVAL:
            set_alarm(2 * HEARTBEAT_TIMEOUT)
            _send_message(self.connection, ("stage", stage))
            self.stage, self.time = stage, time.monotonic()


def set_alarm(seconds):
    """End this process after some seconds, even in native code.

    A helper that hangs must not outlive a parent that was killed.
    """
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _run_call(function, args, beat):
    try:
        return "value", function(*args, beat)
    except ConnectionError:
        raise
    except Exception as error:
        return "error", error


def _send_message(connection, message):
    """Send a message; an error that cannot be pickled goes as its text."""
    try:
        connection.send(message)
    except (pickle.PicklingError, TypeError, AttributeError):
        connection.send(("error", RuntimeError(repr(message[1]))))
