"""Start DataLoader workers, and check that /dev/shm holds their batches."""

import atexit
import multiprocessing
import os
import threading
from functools import lru_cache
from multiprocessing import connection, forkserver
from multiprocessing.context import BaseContext

from videores.config.schema import DataConfig
from videores.config.streams import list_sources
from videores.errors import UserError
from videores.runtime import machine, signals


def make_worker_context() -> BaseContext:
    """Return a context in which workers fork from a clean server.

    The server has the imports done.

    A fork of this process would copy decoders' locks.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "videores.data.dataset"])  # the server takes it when it starts
    with signals.ignore_signals():
        forkserver.ensure_running()
    _kill_workers_at_exit()
    return context


def init_worker(_: int) -> None:
    """Prepare a worker, before it does anything else."""
    signals.ignore_signals().__enter__()  # for good
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent():
    """End this worker when the run ends.

    A run that is killed tells nobody, and torch's workers look whether the process that forked them is there, which is
    the server: it waits for them.
    """
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


@lru_cache(maxsize=1)
def _kill_workers_at_exit():
    """Kill the workers when Python ends.

    It waits for them, and one that hangs in a decoder would never end.
    """
    atexit.register(lambda: [process.kill() for process in multiprocessing.active_children()])


SHM_PATH = "/dev/shm"
PREFETCH_FACTOR = 2  # batches that each loading process prepares ahead: DataLoader's prefetch_factor


def check_shm_size(data: DataConfig, processes: int) -> None:
    """Check that /dev/shm holds the batches of all workers of `processes` ranks.

    Else a bus error would kill a worker as it writes.
    """
    if data.workers and machine.read_shared_memory():
        check_fits_shm(compute_prefetch_bytes(data, processes), machine.read_free_shared_memory(), data.workers)


def compute_prefetch_bytes(data, processes):
    """Return the bytes of the batches that wait, at most.

    Those of validation and test differ from video to video.
    """
    picture, sound = 3 * data.clip.frames * data.transform.crop**2, 2 * data.audio.count_samples(data.clip)
    clip = sum(sound if source == "audio" else picture for source in list_sources(data.stream))
    return processes * data.workers * PREFETCH_FACTOR * data.batch_size * data.clip.repeat * clip


def check_fits_shm(needed, free, workers):
    if needed > free:
        raise UserError(
            f"the batches of data.workers={workers} loading processes take up to {needed / 1e6:.3g} MB of {SHM_PATH}, "
            f"where {free / 1e6:.3g} MB are free: enlarge it (docker run --shm-size=8g), lower data.workers or "
            "data.batch_size, or use data.workers=0"
        )
