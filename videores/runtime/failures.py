"""Translate torch's errors of lost processes and taken ports.

torch has no types for these: they are recognized by their texts, of torch 2.10 to 2.14, gloo and NCCL.
"""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from videores.errors import RankFailure, UserError, WorkerFailure
from videores.runtime import launch, machine

WORKER_PATTERN = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (exited|is killed)")
PORT_PATTERN = re.compile(r"port: (\d+).*EADDRINUSE", re.DOTALL)
RANK_PATTERN = re.compile(
    r"gloo.*(closed by peer|reset by peer|Broken pipe|Timed out)|remote process exited|ncclRemoteError"
    r"|Watchdog caught collective|Application timeout caused pair closure"
    r"|waiting for clients|while trying to connect to|default_pg|wait timeout",
    re.DOTALL,
)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise errors of lost processes and taken ports as errors of ours."""
    try:
        yield
    except RuntimeError as error:
        translation = translate_message(str(error))
        if translation is None:
            raise
        raise translation from error
    except (EOFError, OSError) as error:
        # a DataLoader worker ended while it handed over a batch's memory
        if not any(frame.name == "rebuild_storage_fd" for frame in traceback.extract_tb(error.__traceback__)):
            raise
        raise _make_worker_failure() from error


def translate_message(text: str) -> Exception | None:
    """Return the error that a message of torch stands for; None for any other message."""
    if match := WORKER_PATTERN.search(text):
        return _make_worker_failure(f" (PID {match[1]})")
    if match := PORT_PATTERN.search(text):
        return UserError(
            f"port {match[1]} is taken, perhaps by another run: set MASTER_PORT to a free one, or on a single machine "
            "unset it, which selects a free one"
        )
    if RANK_PATTERN.search(text):
        return RankFailure(
            "another process of this run ended, hangs, or did not join within trainer.timeout "
            f"({text.splitlines()[0]}): {launch.RESUME_HINT}"
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
