"""Run functions and tools in forked children, or tools as SLURM jobs.

A child is forked from a server that has imported torch and Lightning and computed nothing, which saves the seconds
that importing takes; a crash costs the cell alone.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from videores.runtime import signals, slurm

STOP_EXIT_CODES = (75, 130, 143)  # the user or the machine wants an end: no further cell is begun
POLL_SECONDS = 0.1

_CONTEXT = multiprocessing.get_context("forkserver")


def run_tool(command: Sequence[str], log: Path | None = None) -> int:
    """Run a tool in a forked child and return its exit code.

    Its output goes to `log`, if given.
    """
    return run_in_child(_run_tool, command, log)


def _run_tool(command, log):
    if log:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)  # of the programs that it starts, too
    sys.argv = command
    sys.path.insert(0, os.path.dirname(command[0]))  # as for any script
    runpy.run_path(command[0], run_name="__main__")


def run_in_child(function: Callable[..., Any], *arguments: Any) -> int:
    """Run a function in a forked child and return its exit code, as a shell has it.

    A signal that asks this process to end asks the child, which saves what it has first. If the child ends as if there
    were none, the exit code is that of the signal.
    """
    _CONTEXT.set_forkserver_preload(["videores.ablation.fork_server"])
    process = _CONTEXT.Process(target=_call, args=(function, arguments))
    with signals.SignalHandler() as handler:
        handler.raise_at_once = False
        process.start()
        while process.is_alive() and not handler.signal_number:
            process.join(POLL_SECONDS)
        if handler.signal_number:
            process.terminate()
        process.join()
    code: Any = process.exitcode
    code = code if code >= 0 else 128 - code
    return 128 + handler.signal_number if handler.signal_number and code not in STOP_EXIT_CODES else code


def _call(function, arguments):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
    function(*arguments)


def submit_jobs(commands: Sequence[Sequence[str]], folder: Path, options: Mapping[str, Any]) -> None:
    """Run tools as one SLURM array, with logs in `folder`, and wait for all."""
    submitted = slurm.submit([[sys.executable, *command] for command in commands], folder, options)
    print(f"submitted {len(submitted)} jobs: {', '.join(job.job_id for job in submitted[:8])}", flush=True)
    for job in submitted:
        job.wait()
