"""DataLoader workers: how they start, and whether /dev/shm is large enough for their batches."""

import atexit
import multiprocessing
import os
import threading
from functools import lru_cache
from multiprocessing import connection, forkserver

from videores.runtime import signals


def server():
    """Workers fork from a clean server that has the imports done; a fork of this process would copy decoders' locks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "videores.data.dataset"])  # the server takes it when it starts
    with signals.ignored():
        forkserver.ensure_running()
    end_workers_at_exit()
    return context


def begin(_):
    """The first thing that a worker does."""
    signals.ignored().__enter__()  # for good
    threading.Thread(target=end_with_the_run, daemon=True).start()


def end_with_the_run():
    """A run that is killed tells nobody, and torch's workers look whether the process that forked them is there, which
    is the server: it waits for them."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


@lru_cache(maxsize=1)
def end_workers_at_exit():
    """Python waits for them, and one that hangs in a decoder would never end."""
    atexit.register(lambda: [process.kill() for process in multiprocessing.active_children()])
