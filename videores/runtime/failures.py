"""What torch raises where a process or a port is lost, as a message that says what happened and what to do.

torch has no types for these: they are told by their texts, of torch 2.10 to 2.14, gloo and NCCL.
"""

import re
import traceback
from contextlib import contextmanager

from videores.errors import LostProcess, LostWorker, UserError
from videores.runtime import launch, machine

WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (exited|is killed)")
PORT = re.compile(r"port: (\d+).*EADDRINUSE", re.DOTALL)
ABSENT = re.compile(r"waiting for clients|while trying to connect to|default_pg|wait timeout")
GONE = re.compile(r"gloo.*(closed by peer|reset by peer|Broken pipe)|remote process exited|ncclRemoteError", re.DOTALL)
HANGS = re.compile(r"gloo.*Timed out|Watchdog caught collective|Application timeout caused pair closure", re.DOTALL)


@contextmanager
def explained():
    """Errors of lost processes and taken ports, raised in this block, as LostProcess, LostWorker or UserError."""
    try:
        yield
    except RuntimeError as error:
        clear = explanation(str(error))
        if clear is None:
            raise
        raise clear from error
    except (EOFError, OSError) as error:
        if not hands_over(error):
            raise
        raise LostWorker(lost_worker(machine.free_shared_memory(), machine.free_memory())) from error


def hands_over(error):
    """Whether it was raised as a loading process handed a batch's memory over, which then ended amid that."""
    return any(frame.name == "rebuild_storage_fd" for frame in traceback.extract_tb(error.__traceback__))


def explanation(text):
    """The error that says it clearly, or None for any other."""
    if found := WORKER.search(text):
        return LostWorker(lost_worker(machine.free_shared_memory(), machine.free_memory(), f" (PID {found[1]})"))
    if found := PORT.search(text):
        return UserError(
            f"port {found[1]} is taken, perhaps by another run: set MASTER_PORT to a free one, or unset it on a single "
            "machine, where a free one is found"
        )
    if GONE.search(text):
        return LostProcess(f"another process of this run has ended: {launch.GO_ON}")
    if HANGS.search(text):
        return LostProcess(
            f"another process of this run did not answer within trainer.timeout: it hangs, or its machine does. {text}"
        )
    if ABSENT.search(text):
        return LostProcess(
            "not all processes of this run came together within trainer.timeout: look at what the others said, whether "
            "MASTER_ADDR and MASTER_PORT are the same and can be reached on every node, and whether one still makes or "
            f"probes its data (tools/prepare.py does that before). {text.splitlines()[0]}"
        )
    return None


def lost_worker(shared, memory, which=""):
    """`shared` and `memory` are free bytes, None where the system does not say."""
    free = [f"{name} {size / 1e9:.1f} GB" for name, size in (("/dev/shm", shared), ("memory", memory)) if size]
    return (
        f"a process that loads videos{which} was killed, most often by the system for want of memory: lower "
        "data.workers or data.batch_size, or use data.workers=0; where /dev/shm is small, as in containers, enlarge it "
        f"(docker run --shm-size). Now free: {', '.join(free) or 'unknown'}. It also ends where a video takes minutes"
    )
