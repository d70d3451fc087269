"""The processes of a run: who starts them, which of them is the first, and that none is left when another is lost.

torchrun and SLURM start all processes, which find their place in the environment; without them the first process
starts the others of this machine, by the same command. This module imports nothing heavy.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from videores.errors import UserError

EXIT_RANK_FAILURE = 71  # exit code of a process that can't go on without another (EX_OSERR of sysexits.h)
FAILURE_GRACE_SECONDS = 60  # seconds in which a process may end by itself after another one failed
EXIT_GRACE_SECONDS = 10  # seconds in which the others may end by themselves after the first did
PARENT_PID_VARIABLE = "VIDEORES_PARENT"
CLEAN_EXIT_CODES = (0, 1, 75)  # exit codes that all processes end with together
RESUME_HINT = (
    "the others can't go on without it. What it said is above, if it could say anything; run.resume=auto continues"
)


def detect_launcher(environ=os.environ):
    """What started this process: "torchrun", "srun", or None. Lightning decides alike; torchrun runs inside SLURM jobs
    too, and jobs called bash or interactive are shells."""
    if "TORCHELASTIC_RUN_ID" in environ:
        return "torchrun"
    if "SLURM_NTASKS" in environ and environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return "srun"
    return None


def is_rank_zero(environ=os.environ):
    """Whether this is the process of a run that writes and speaks."""
    names = {"torchrun": ["RANK"], "srun": ["SLURM_PROCID"], None: ["NODE_RANK", "LOCAL_RANK"]}
    return all(int(environ.get(name, 0)) == 0 for name in names[detect_launcher(environ)])


def is_local_rank_zero(environ=os.environ):
    """Whether this is the first process of its machine, which speaks of what may be wrong there alone."""
    return int(environ.get("SLURM_LOCALID" if detect_launcher(environ) == "srun" else "LOCAL_RANK", 0)) == 0


def resolve_devices(trainer, gpus, environ=os.environ):
    """(processes a node, nodes): what the launcher says, else the configuration. `gpus` are those that this process
    sees, None on CPUs. Raises UserError where the two differ, or what is asked for is not there."""
    by, devices, nodes = detect_launcher(environ), trainer.devices, trainer.num_nodes
    if by:
        devices, nodes = (read_torchrun_layout if by == "torchrun" else read_srun_layout)(environ)
        check_matches_launcher("devices", trainer.devices, by, f"{devices} processes", devices)
        check_matches_launcher("num_nodes", trainer.num_nodes, by, f"processes on {nodes} nodes", nodes)
    elif nodes > 1:
        check_master_address(nodes, environ)
    devices = (gpus or 1) if devices == "auto" else devices
    if gpus is not None and devices > gpus:
        hint = "; give each node's GPUs to all its tasks: --gres=gpu:N, not --gpus-per-task" if by == "srun" else ""
        raise UserError(f"trainer.devices={devices}, but torch finds {gpus} CUDA devices{hint}")
    return devices, nodes


def read_torchrun_layout(environ):
    local, world = int(environ["LOCAL_WORLD_SIZE"]), int(environ["WORLD_SIZE"])
    if world % local:
        raise UserError(f"torchrun started {world} processes, {local} of them here: give each node as many")
    return local, world // local


def read_srun_layout(environ):
    tasks, nodes = int(environ["SLURM_NTASKS"]), int(environ.get("SLURM_NNODES", 1))
    if tasks > 1 and "SLURM_STEP_ID" not in environ:
        raise UserError(f"this SLURM job has {tasks} tasks, and only one was started: put srun before python")
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environ:
        raise UserError(f"SLURM started {tasks} tasks by --ntasks: give --nodes and --ntasks-per-node instead")
    local = int(environ.get("SLURM_NTASKS_PER_NODE", tasks // nodes))
    if local * nodes != tasks:
        raise UserError(f"SLURM started {tasks} tasks on {nodes} nodes with --ntasks-per-node={local}: make them agree")
    return local, nodes


def check_matches_launcher(key, wanted, by, started, number):
    if wanted not in (1, "auto", number):
        raise UserError(f"trainer.{key}={wanted}, but {by} started {started}: leave it out")


def check_master_address(nodes, environ):
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in environ]
    if missing:
        raise UserError(
            f"trainer.num_nodes={nodes}, but nothing says where the others are ({', '.join(missing)} not set): start "
            "it on each node by torchrun, or by srun (docs/distributed.md)"
        )


# Starting and ending processes


@contextmanager
def run_local_ranks(devices, nodes):
    """The other processes of this machine, for as long as this one works. A launcher's processes watch nothing: it
    ends them all when one fails."""
    children = (
        start_local_ranks(devices, nodes)
        if devices > 1 and not detect_launcher() and "LOCAL_RANK" not in os.environ
        else []
    )
    if PARENT_PID_VARIABLE in os.environ or children:
        watch = find_dead_parent if PARENT_PID_VARIABLE in os.environ else lambda: find_dead_child(children)
        threading.Thread(target=exit_after_failure, args=(watch, children), daemon=True).start()
    try:
        yield
    finally:
        stop_local_ranks(children)


def start_local_ranks(devices, nodes):
    """Starts this command again for each other process; LOCAL_RANK tells Lightning that it need not."""
    os.environ["MASTER_ADDR"] = os.environ.get("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = os.environ.get("MASTER_PORT") or str(find_free_port())
    os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"] = "0", str(devices * nodes)
    command = [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
    environ = {**os.environ, PARENT_PID_VARIABLE: str(os.getpid())}
    return [subprocess.Popen(command, env={**environ, "LOCAL_RANK": str(rank)}) for rank in range(1, devices)]


def find_free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def stop_local_ranks(children):
    """Waits for them, who end as this one does, and kills what is left."""
    limit = time.monotonic() + EXIT_GRACE_SECONDS
    for child in children:
        try:
            child.wait(max(0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def find_dead_child(children):
    """A child that failed, described; None where all are well."""
    for rank, child in enumerate(children, 1):
        code = child.poll()
        if code not in (None, *CLEAN_EXIT_CODES):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return f"process {rank} of this run (PID {child.pid}) {how}"
    return None


def find_dead_parent():
    gone = os.getppid() != int(os.environ[PARENT_PID_VARIABLE])
    return f"the first process of this run (PID {os.environ[PARENT_PID_VARIABLE]}) is gone" if gone else None


def exit_after_failure(watch, children):
    """Ends this process some time after `watch` says that another one is lost, if it has not done so by itself: it may
    be waiting for that one, for ever on GPUs."""
    while not (lost := watch()):
        time.sleep(1)
    time.sleep(FAILURE_GRACE_SECONDS)
    print(f"error: {lost}: {RESUME_HINT}", file=sys.stderr, flush=True)
    for child in children:
        child.kill()
    os._exit(EXIT_RANK_FAILURE)
