"""What this machine has, and what of it this process may use: processors, memory, shared memory.

Containers limit processes by control groups (version 2, on older systems 1), which Python's functions don't see.
"""

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def count_cpus():
    """That the scheduler lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def read_cpu_model():
    """Its name, where the system tells; else the kind of machine."""
    found = re.search(r"^model name\s*: (.+)$", try_read_text(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def read_cpu_limit(cgroup=CGROUP_ROOT):
    """How many processors' time the control group grants, a float; None without a limit."""
    quota, period = (try_read_text(cgroup / "cpu.max") or "").split() or (
        try_read_text(cgroup / "cpu" / "cpu.cfs_quota_us") or "max",
        try_read_text(cgroup / "cpu" / "cpu.cfs_period_us") or "1",
    )
    return None if quota in ("max", "-1") else int(quota) / int(period)


def read_memory_limit(cgroup=CGROUP_ROOT):
    """Bytes that the control group grants; None without a limit."""
    text = try_read_text(cgroup / "memory.max") or try_read_text(cgroup / "memory" / "memory.limit_in_bytes") or "max"
    return None if text == "max" or int(text) >= 2**60 else int(text)


def read_memory():
    """(bytes in all, bytes free for programs); None where the system does not tell."""
    rows = dict(line.split(":") for line in (try_read_text(Path("/proc/meminfo")) or "").splitlines())
    if not {"MemTotal", "MemAvailable"} <= rows.keys():
        return None
    return tuple(1024 * int(rows[name].split()[0]) for name in ("MemTotal", "MemAvailable"))


def read_free_memory():
    """Bytes that can be had without swapping; None where the system does not tell."""
    found = read_memory()
    return None if found is None else found[1]


def read_shared_memory():
    """(bytes in all, bytes free) of /dev/shm, through which loading processes hand over batches; None without it."""
    if not Path("/dev/shm").is_dir():
        return None
    usage = shutil.disk_usage("/dev/shm")
    return usage.total, usage.free


def read_free_shared_memory():
    found = read_shared_memory()
    return None if found is None else found[1]


def read_resident_memory():
    """Memory that this process holds; None where the system does not tell."""
    text = try_read_text(Path("/proc/self/statm"))
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") if text else None


def try_read_text(path):
    try:
        return path.read_text().strip()
    except OSError:
        return None


def find_cache_root():
    try:
        return os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in some containers
        return tempfile.gettempdir()
