"""Start the ranks of a run, tell which is rank 0, and end all when one is lost.

torchrun and SLURM start all ranks, which read their place from the environment; without them the first process starts
the others of this machine by the same command. Imports nothing heavy.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from videores.config.schema import TrainerConfig
from videores.errors import UserError

EXIT_RANK_FAILURE = 71  # exit code of a rank that lost another one (EX_OSERR of sysexits.h)
FAILURE_GRACE_SECONDS = 60  # in which a rank may end by itself after another one failed
EXIT_GRACE_SECONDS = 10  # in which the others may end by themselves after the first did
PARENT_PID_VARIABLE = "VIDEORES_PARENT"
RANK_VARIABLES = (PARENT_PID_VARIABLE, "LOCAL_RANK", "WORLD_SIZE")  # that rank 0 sets for itself and the others
CLEAN_EXIT_CODES = (0, 1, 75)  # exit codes that all ranks end with together
RESUME_HINT = "look at its output above, if any, and continue by run.resume=auto"

Environ = Mapping[str, str]
Child = subprocess.Popen[bytes]


def detect_launcher(environ: Environ = os.environ) -> str | None:
    """Return the launcher of this process: "torchrun", "srun" or None.

    Lightning decides alike; torchrun runs inside SLURM jobs too, and jobs called bash or interactive are shells.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        return "torchrun"
    if "SLURM_NTASKS" in environ and environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return "srun"
    return None


def is_rank_zero(environ: Environ = os.environ) -> bool:
    """Return True in the rank that writes the run folder and prints."""
    name = {"torchrun": "RANK", "srun": "SLURM_PROCID", None: "NODE_RANK"}[detect_launcher(environ)]
    return int(environ.get(name, 0)) == 0 and (name != "NODE_RANK" or is_local_rank_zero(environ))


def is_local_rank_zero(environ: Environ = os.environ) -> bool:
    """Return True in the first rank of a node, which prints errors of the node.

    A process that neither a launcher nor rank 0 started is the first, whatever LOCAL_RANK was left over.
    """
    is_started = detect_launcher(environ) or PARENT_PID_VARIABLE in environ
    name = "SLURM_LOCALID" if detect_launcher(environ) == "srun" else "LOCAL_RANK"
    return int(environ.get(name, 0)) == 0 if is_started else True


def resolve_devices(trainer: TrainerConfig, gpus: int | None, environ: Environ = os.environ) -> tuple[int, int]:
    """Return (ranks per node, nodes), of the launcher or else of the configuration.

    `gpus` is the number that this process sees, None on CPUs. Raises UserError where launcher and configuration differ,
    or there are fewer GPUs.
    """
    launcher, devices, nodes = detect_launcher(environ), trainer.devices, trainer.num_nodes
    if launcher:
        devices, nodes = (_read_torchrun_layout if launcher == "torchrun" else _read_srun_layout)(environ)
        for key, number in (("devices", devices), ("num_nodes", nodes)):
            if getattr(trainer, key) not in (1, "auto", number):
                asked, option = getattr(trainer, key), {"devices": "ntasks-per-node", "num_nodes": "nodes"}[key]
                more = f", or give --{option}={asked} and put srun before python" if launcher == "srun" else ""
                raise UserError(
                    f"trainer.{key} must be the {number} that {launcher} started, got {asked}: drop it{more}"
                )
    elif PARENT_PID_VARIABLE not in environ:
        _check_no_launcher_variables(environ, nodes)
    if (
        not launcher
        and nodes > 1
        and (missing := [key for key in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if key not in environ])
    ):
        raise UserError(
            f"trainer.num_nodes={nodes} needs {', '.join(missing)} in the environment: start each node by torchrun, or "
            "all by srun (docs/guide/distributed.md)"
        )
    devices = (gpus or 1) if devices == "auto" else devices
    if gpus is not None and devices > gpus:
        hint = ": give each node's GPUs to all its tasks, --gres=gpu:N, not --gpus-per-task"
        raise UserError(f"trainer.devices must be <= CUDA devices ({gpus}), got {devices}{hint * (launcher == 'srun')}")
    return devices, nodes


def _check_no_launcher_variables(environ: Environ, nodes: int) -> None:
    """Raise UserError where variables speak of other processes, without a launcher.

    Each of them would train alone, or wait for others. NODE_RANK is for nodes that are started by hand.
    """
    ranks = {name: 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK") if nodes == 1 or name != "NODE_RANK"}
    sizes = dict.fromkeys(("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"), 1)
    wrong = [name for name, alone in (ranks | sizes).items() if environ.get(name, "") not in ("", str(alone))]
    if wrong:
        values = ", ".join(f"{name}={environ[name]}" for name in wrong)
        raise UserError(
            f"{values} must not be set where neither torchrun nor srun starts the processes: unset {', '.join(wrong)}, "
            "and give trainer.devices for several processes of this machine (docs/guide/distributed.md)"
        )


def _read_torchrun_layout(environ: Environ) -> tuple[int, int]:
    local, world = int(environ["LOCAL_WORLD_SIZE"]), int(environ["WORLD_SIZE"])
    if world % local:
        raise UserError(f"--nproc-per-node of torchrun must be equal on all nodes, got {local} here of {world} in all")
    return local, world // local


def _read_srun_layout(environ: Environ) -> tuple[int, int]:
    tasks, nodes = int(environ["SLURM_NTASKS"]), int(environ.get("SLURM_NNODES", 1))
    if tasks > 1 and "SLURM_STEP_ID" not in environ:
        raise UserError(f"only one of the {tasks} tasks of this SLURM job was started: put srun before python")
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environ:
        raise UserError(f"SLURM started {tasks} tasks by --ntasks: give --nodes and --ntasks-per-node instead")
    local = int(environ.get("SLURM_NTASKS_PER_NODE", tasks // nodes))
    if local * nodes != tasks:
        raise UserError(f"--ntasks-per-node must be {tasks} tasks / {nodes} nodes, got {local}: correct one of them")
    return local, nodes


@contextmanager
def run_local_ranks(devices: int, nodes: int) -> Iterator[None]:
    """Run the other ranks of this machine while the block works, which all enter.

    Under a launcher it starts and watches nothing: the launcher ends all ranks when one fails.
    """
    is_launcher = devices > 1 and not detect_launcher() and PARENT_PID_VARIABLE not in os.environ
    children = _start_local_ranks(devices, nodes) if is_launcher else []
    if PARENT_PID_VARIABLE in os.environ:
        watch = (lambda: _find_dead_child(children)) if children else _find_dead_parent
        threading.Thread(target=_exit_after_failure, args=(watch, children), daemon=True).start()
    try:
        yield
    finally:
        _stop_local_ranks(children)
        for name in RANK_VARIABLES if children else ():  # the next run of this process is another one
            os.environ.pop(name, None)  # Lightning has removed some


def _start_local_ranks(devices: int, nodes: int) -> list[Child]:
    """Start this command for each other rank; LOCAL_RANK tells Lightning not to."""
    os.environ["MASTER_ADDR"] = os.environ.get("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = os.environ.get("MASTER_PORT") or str(find_free_port())
    os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"] = "0", str(devices * nodes)
    os.environ[PARENT_PID_VARIABLE] = str(os.getpid())
    command = [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
    return [subprocess.Popen(command, env={**os.environ, "LOCAL_RANK": str(rank)}) for rank in range(1, devices)]


def find_free_port() -> int:
    """Return a TCP port that is free on this machine."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _stop_local_ranks(children: Sequence[Child]) -> None:
    """Wait for the other ranks to end as this one does, and kill what is left."""
    limit = time.monotonic() + EXIT_GRACE_SECONDS
    for child in children:
        try:
            child.wait(max(0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _find_dead_child(children: Sequence[Child]) -> str | None:
    """Describe a child that failed; None while none has."""
    for rank, child in enumerate(children, 1):
        code = child.poll()
        if code not in (None, *CLEAN_EXIT_CODES):
            reason = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return f"rank {rank} of this run (PID {child.pid}) {reason}"
    return None


def _find_dead_parent() -> str | None:
    parent = os.environ[PARENT_PID_VARIABLE]
    return f"rank 0 of this run (PID {parent}) ended" if os.getppid() != int(parent) else None


def _exit_after_failure(watch: Callable[[], str | None], children: Sequence[Child]) -> None:
    """Exit after `watch` reports a lost rank, for which GPUs would wait for ever."""
    while not (failure := watch()):
        time.sleep(1)
    time.sleep(FAILURE_GRACE_SECONDS)
    print(f"error: {failure}: {RESUME_HINT}", file=sys.stderr, flush=True)
    for child in children:
        child.kill()
    os._exit(EXIT_RANK_FAILURE)
