"""Where a command runs: in a child that need not import torch again, in a new process, or as a job.

A child is forked from a process that has imported torch and Lightning and computed nothing, which saves the seconds
that importing takes; a crash costs the cell alone.
"""

import contextlib
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from videores.errors import UserError
from videores.runtime import slurm

STOP_EXIT_CODES = (75, 130, 143)  # the user or the machine wants an end: no further cell is begun


def run_forked(command, log):
    """Runs a tool in a forked child. Returns its exit code."""
    return run_in_child(lambda: runpy.run_path(command[0], run_name="__main__"), command, log)


def run_in_child(function, argv, log):
    sys.stdout.flush(), sys.stderr.flush()

    def fork():
        if child := os.fork():
            return child
        _exit_child(function, argv, log)

    return wait_for_child(fork)


def _exit_child(function, argv, log):
    """The child's life; it never returns."""
    code = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with log.open("a") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        sys.argv = argv
        function()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def wait_for_child(start):
    """Starts a child, waits for it, and passes on a wish to end: it saves what it has first. Returns its exit code, or
    where it ended as if there were no wish, which came too late for it, the code of the signal."""
    parent, child, wish = os.getpid(), None, 0

    def pass_on(number, _):
        nonlocal wish
        wish = number
        if os.getpid() != parent:  # the child, before it has its own handler
            os._exit(128 + number)
        if child:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(child, number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        child = start()
        if wish:
            os.kill(child, wish)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except KeyboardInterrupt:  # of the terminal, which the child got too
        if child:
            os.waitpid(child, 0)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    code = code if code >= 0 else 128 - code  # as a shell says that a signal ended it
    return 128 + wish if wish and code not in STOP_EXIT_CODES else code


def run_subprocess(command, log):
    """Runs a tool in a new process, which may start more of its kind. Returns its exit code."""
    with log.open("a") as file:
        to_log = [(os.POSIX_SPAWN_DUP2, file.fileno(), stream) for stream in (1, 2)]
        argv = [sys.executable, *command]
        return wait_for_child(lambda: os.posix_spawn(sys.executable, argv, os.environ, file_actions=to_log))


def call_in_child(function, *arguments):
    """What a function that computes with torch returns, as JSON has it, without computing in this process. Raises its
    UserError."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder, "answer.json"), Path(folder, "log")
        code = run_in_child(lambda: path.write_text(json.dumps(_try_call(function, *arguments))), sys.argv, log)
        if code in STOP_EXIT_CODES:
            raise SystemExit(code)
        if code:
            raise RuntimeError(log.read_text())
        found = json.loads(path.read_text())
        if "error" in found:
            raise UserError(found["error"])
        return found["value"]


def _try_call(function, *arguments):
    try:
        return {"value": function(*arguments)}
    except UserError as error:
        return {"error": str(error)}


def submit_jobs(commands, folder, options):
    """Runs tools as one SLURM array and waits for all. Their logs are in `folder`."""
    submitted = slurm.submit([[sys.executable, *command] for command in commands], folder, options)
    print(f"submitted {len(submitted)} jobs: {', '.join(job.job_id for job in submitted[:8])}", flush=True)
    for job in submitted:
        job.wait()
