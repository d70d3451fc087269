"""Submit commands as a SLURM array, through submitit, which is an extra."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videores.errors import UserError


def submit(commands: Sequence[Sequence[str]], folder: Path, options: Mapping[str, Any] | None = None) -> list[Any]:
    """Submit a job array, one job per command, and return submitit's jobs.

    Logs are in `folder`. `options` are submitit's parameters, e.g. {"timeout_min": 600, "slurm_partition": "cpu"};
    {"cluster": "local"} runs the jobs here, all at once. Raises UserError where submitit or SLURM is missing, or does
    not know a parameter.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("submitting jobs needs submitit: pip install 'videores[slurm]'") from None
    options = {"cluster": "slurm", "timeout_min": 24 * 60, **(options or {})}
    try:
        executor = submitit.AutoExecutor(folder, cluster=options.pop("cluster"))
        executor.update_parameters(**options)
        return executor.map_array(_run_command, commands)
    except (AssertionError, NameError, RuntimeError, ValueError) as error:  # submitit's ways of refusing
        raise UserError(f"submitit: {error}") from None


def _run_command(command: Sequence[str]) -> int:
    """Run a job's command; exit code 1 (some data is bad) is a result, too."""
    code = subprocess.run(command).returncode
    if code not in (0, 1):
        raise RuntimeError(f"exit code {code}: {' '.join(command)}")
    return code
