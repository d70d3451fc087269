"""Translate torch's errors of lost processes and taken ports into ours."""

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from videores.errors import RankFailure, UserError, WorkerFailure
from videores.runtime import launch, machine
from videores.runtime.files import OPEN_FILES_HINT

WORKER_PATTERN = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (exited|is killed)")
PORT_PATTERN = re.compile(r"port: (\d+).*EADDRINUSE", re.DOTALL)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise errors of lost processes and taken ports as errors of ours."""
    try:
        yield
    except RuntimeError as error:
        if translation := translate_error(error):
            raise translation from error
        raise
    except (EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        # a DataLoader worker ended while it handed over a batch's memory
        if not any(frame.name == "rebuild_storage_fd" for frame in traceback.extract_tb(error.__traceback__)):
            raise
        raise _make_worker_failure() from error


def translate_error(error: RuntimeError) -> Exception | None:
    """Return the error that one of torch stands for; None for any other."""
    from torch.distributed import DistError  # of the store, sockets and NCCL; gloo raises a RuntimeError

    text = str(error)
    if "Too many open files" in text or "ancdata" in text:  # the latter where one came over a socket
        return UserError(f"too many open files: {OPEN_FILES_HINT}")
    if match := WORKER_PATTERN.search(text):
        return _make_worker_failure(f" (PID {match[1]})")
    if match := PORT_PATTERN.search(text):
        return UserError(
            f"port {match[1]} is taken, perhaps by another run: set MASTER_PORT to a free one, or on a single machine "
            "unset it, which selects a free one"
        )
    if isinstance(error, DistError) or "gloo" in text:
        return RankFailure(
            f"another rank ended, hangs, or did not join within trainer.timeout ({text.splitlines()[0]}): "
            f"{launch.RESUME_HINT}"
        )
    return None


def _make_worker_failure(which: str = "") -> WorkerFailure:
    sizes = {"/dev/shm": machine.read_free_shared_memory(), "memory": machine.read_free_memory()}
    free = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in sizes.items() if size)
    return WorkerFailure(
        f"a DataLoader worker{which} was killed, mostly for want of memory (free now: {free or 'unknown'}) or because "
        "a video takes minutes to decode: lower data.workers or data.batch_size, or enlarge a small /dev/shm (docker "
        "run --shm-size)"
    )
