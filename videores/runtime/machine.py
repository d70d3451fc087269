"""Read the CPUs, memory and shared memory that this process may use.

Containers limit processes by control groups (version 2, on older systems 1), which Python's functions do not see.
"""

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def count_cpus() -> int:
    """Return the number of CPUs that this process may use (affinity)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_cpu_model() -> str:
    """Return the CPU's name; the architecture where the system does not tell it."""
    match = re.search(r"^model name\s*: (.+)$", _read_text("/proc/cpuinfo"), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def read_cpu_limit(cgroup: Path = CGROUP_ROOT) -> float | None:
    """Return the number of CPUs that the control group grants; None without a limit."""
    quota, period = _read_text(cgroup / "cpu.max").split() or (
        _read_text(cgroup / "cpu" / "cpu.cfs_quota_us") or "max",
        _read_text(cgroup / "cpu" / "cpu.cfs_period_us") or "1",
    )
    return None if quota in ("max", "-1") else int(quota) / int(period)


def read_memory_limit(cgroup: Path = CGROUP_ROOT) -> int | None:
    """Return the bytes that the control group grants; None without a limit."""
    text = _read_text(cgroup / "memory.max") or _read_text(cgroup / "memory" / "memory.limit_in_bytes") or "max"
    return None if text == "max" or int(text) >= 2**60 else int(text)


def read_memory() -> tuple[int, int] | None:
    """Return (total, available without swapping) bytes of memory; None if unknown."""
    rows = dict(line.split(":") for line in _read_text("/proc/meminfo").splitlines())
    if not {"MemTotal", "MemAvailable"} <= rows.keys():
        return None
    total, available = (1024 * int(rows[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return total, available


def read_free_memory() -> int | None:
    """Return the bytes available without swapping; None if unknown."""
    return (read_memory() or (None, None))[1]


def read_shared_memory() -> tuple[int, int] | None:
    """Return (total, free) bytes of /dev/shm; None without it.

    DataLoader workers hand over batches through it.
    """
    if not Path("/dev/shm").is_dir():
        return None
    usage = shutil.disk_usage("/dev/shm")
    return usage.total, usage.free


def read_free_shared_memory() -> int | None:
    """Return the free bytes of /dev/shm; None without it."""
    return (read_shared_memory() or (None, None))[1]


def read_resident_memory() -> int | None:
    """Return the bytes of memory that this process holds; None if unknown."""
    text = _read_text("/proc/self/statm")
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") if text else None


def _read_text(path: Path | str) -> str:
    """Read a system file; "" where it is not there or not readable."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def find_cache_root() -> Path:
    """Return the user's cache folder; the temporary folder for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return Path(tempfile.gettempdir())
