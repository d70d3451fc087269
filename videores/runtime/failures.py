"""What torch raises where a process or a port is lost, as a message that says what happened and what to do.

torch has no types for these: they are told by their texts, of torch 2.10 to 2.14, gloo and NCCL.
"""

import re
import traceback
from contextlib import contextmanager

from videores.errors import RankFailure, UserError, WorkerFailure
from videores.runtime import launch, machine

WORKER_PATTERN = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (exited|is killed)")
PORT_PATTERN = re.compile(r"port: (\d+).*EADDRINUSE", re.DOTALL)
RENDEZVOUS_PATTERN = re.compile(r"waiting for clients|while trying to connect to|default_pg|wait timeout")
DISCONNECT_PATTERN = re.compile(
    r"gloo.*(closed by peer|reset by peer|Broken pipe)|remote process exited|ncclRemoteError", re.DOTALL
)
TIMEOUT_PATTERN = re.compile(
    r"gloo.*Timed out|Watchdog caught collective|Application timeout caused pair closure", re.DOTALL
)


@contextmanager
def translate_errors():
    """Errors of lost processes and taken ports, raised in this block, as RankFailure, WorkerFailure or UserError."""
    try:
        yield
    except RuntimeError as error:
        clear = translate_message(str(error))
        if clear is None:
            raise
        raise clear from error
    except (EOFError, OSError) as error:
        if not is_batch_transfer_error(error):
            raise
        raise WorkerFailure(
            format_worker_failure(machine.read_free_shared_memory(), machine.read_free_memory())
        ) from error


def is_batch_transfer_error(error):
    """Whether it was raised as a loading process handed a batch's memory over, which then ended amid that."""
    return any(frame.name == "rebuild_storage_fd" for frame in traceback.extract_tb(error.__traceback__))


def translate_message(text):
    """The error that says it clearly, or None for any other."""
    if found := WORKER_PATTERN.search(text):
        return WorkerFailure(
            format_worker_failure(machine.read_free_shared_memory(), machine.read_free_memory(), f" (PID {found[1]})")
        )
    if found := PORT_PATTERN.search(text):
        return UserError(
            f"port {found[1]} is taken, perhaps by another run: set MASTER_PORT to a free one, or unset it on a single "
            "machine, where a free one is found"
        )
    if DISCONNECT_PATTERN.search(text):
        return RankFailure(f"another process of this run has ended: {launch.RESUME_HINT}")
    if TIMEOUT_PATTERN.search(text):
        return RankFailure(
            f"another process of this run did not answer within trainer.timeout: it hangs, or its machine does. {text}"
        )
    if RENDEZVOUS_PATTERN.search(text):
        return RankFailure(
            "not all processes of this run came together within trainer.timeout: look at what the others said, whether "
            "MASTER_ADDR and MASTER_PORT are the same and can be reached on every node, and whether one still makes or "
            f"probes its data (tools/prepare.py does that before). {text.splitlines()[0]}"
        )
    return None


def format_worker_failure(shared, memory, which=""):
    """`shared` and `memory` are free bytes, None where the system does not say."""
    free = [f"{name} {size / 1e9:.1f} GB" for name, size in (("/dev/shm", shared), ("memory", memory)) if size]
    return (
        f"a process that loads videos{which} was killed, most often by the system for want of memory: lower "
        "data.workers or data.batch_size, or use data.workers=0; where /dev/shm is small, as in containers, enlarge it "
        f"(docker run --shm-size). Now free: {', '.join(free) or 'unknown'}. It also ends where a video takes minutes"
    )
