"""Work on files in helper processes: a crash or hang of native code costs one file only.

A helper is a new Python, not a fork: it inherits no decoder's lock and needs no guard in the user's script. It takes
one call at a time over its standard input, and shows that it lives by naming the stage that it is in.
"""

import atexit
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import lru_cache

STARTING_STAGE = "starting"
HEARTBEAT_TIMEOUT = 60  # seconds without a sign of life after which a call hangs
HEARTBEAT_INTERVAL = 1  # seconds between two signs of life


class HelperFailure(Exception):
    """A helper crashed or hung; `stage` is what it was doing."""

    def __init__(self, reason, stage):
        super().__init__(reason, stage)
        self.reason, self.stage = reason, stage


class Helper:
    """One helper process, started by its first call and anew after it was lost."""

    def __init__(self, patience=HEARTBEAT_TIMEOUT):
        self.patience, self.process, self.hung = patience, None, False
        self.lock = threading.Lock()

    def call(self, function, *args):
        """`function(*args, beat)` in the helper, where beat("stage") is its sign of life. Raises what that raises, or
        Lost."""
        with self.lock:
            try:
                kind, value = self.converse((function, args))
            except BaseException:
                self.end()  # lost, or still busy with a call that is given up
                raise
            if self.hung:  # the watchdog woke just as the answer came
                self.hung = False
                self.end()
        if kind == "error":
            raise value
        return value

    def converse(self, call):
        self.process = self.process or _start_helper_process()
        kind, stage = "stage", STARTING_STAGE
        try:
            pickle.dump(call, self.process.stdin)
            self.process.stdin.flush()
            while kind == "stage":
                kind, value = self.receive()
                stage = value if kind == "stage" else stage
        except (EOFError, OSError, pickle.UnpicklingError):
            raise HelperFailure(self.epitaph(), stage) from None
        return kind, value

    def receive(self):
        watchdog = threading.Timer(self.patience, self.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            return pickle.load(self.process.stdout)
        finally:
            watchdog.cancel()

    def kill(self):
        self.hung = True
        self.process.kill()

    def epitaph(self):
        code, hung, self.hung = self.process.wait(), self.hung, False
        if hung:
            return f"hung: no sign of life for {self.patience:g} s"
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"

    def end(self):
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):  # what was still to be sent to it
                process.stdin.close()
            process.stdout.close()


def _start_helper_process():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # -c puts the current folder first, where any file may have a package's name
    code = "import sys; sys.path.pop(0); from videores.data.video.sandbox import serve; serve()"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


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
    idle = queue.SimpleQueue()
    for helper in helpers:
        idle.put(helper)

    def one(item):
        helper = idle.get()
        try:
            return work(helper, item)
        finally:
            idle.put(helper)

    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(one, item) for item in items]):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for helper in helpers:
            helper.end()


def serve():
    """Run the helper's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints is no answer
    while True:
        try:
            function, args = pickle.load(sys.stdin.buffer)
            answer = _run_call(function, args, _Heartbeat(answers))
            set_alarm(0)
            _send_message(answers, answer)
        except (EOFError, BrokenPipeError):  # the parent has ended
            os._exit(0)


class _Heartbeat:
    def __init__(self, answers):
        self.answers, self.stage, self.time = answers, None, 0

    def __call__(self, stage):
        if stage != self.stage or time.monotonic() - self.time > HEARTBEAT_INTERVAL:
            set_alarm(2 * HEARTBEAT_TIMEOUT)
            _send_message(self.answers, ("stage", stage))
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
    except BrokenPipeError:
        raise
    except Exception as error:
        return "error", error


def _send_message(answers, message):
    """Whole or not at all: an error that can't be pickled goes as its text."""
    try:
        content = pickle.dumps(message)
    except (pickle.PicklingError, TypeError, AttributeError):
        content = pickle.dumps(("error", RuntimeError(repr(message[1]))))
    answers.write(content)
    answers.flush()
