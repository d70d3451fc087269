"""Whether /dev/shm, through which loading processes pass their batches, is large enough for them."""

from videores.errors import UserError
from videores.runtime import machine

SHM = "/dev/shm"
WAITING = 2  # batches that each loading process prepares ahead: DataLoader's prefetch_factor


def refuse_small_shm(data, processes):
    """Before a process is killed by a bus error as it writes. `processes` are those of the run on this machine."""
    if data.workers and machine.shared_memory():
        refuse_less(training_bytes(data, processes), machine.free_shared_memory(), data.workers)


def training_bytes(data, processes):
    """What the batches that wait take at most. (Those of validation and test differ from video to video.)"""
    clip = 3 * data.clip.frames * data.transform.crop**2
    return processes * data.workers * WAITING * data.batch_size * data.clip.repeat * clip


def refuse_less(needed, free, workers):
    if needed > free:
        raise UserError(
            f"the batches of data.workers={workers} loading processes take up to {needed / 1e6:.3g} MB of {SHM}, where "
            f"{free / 1e6:.3g} MB are free: enlarge it (docker run --shm-size=8g), lower data.workers or "
            "data.batch_size, or use data.workers=0"
        )
