"""Commands as a SLURM array, through submitit, which is an extra."""

import subprocess

from videores.errors import UserError


def submit(commands, folder, options=()):
    """Submits one job for each command, all in one array. Returns submitit's jobs; their logs are in `folder`.

    `options` are submitit's parameters, e.g. {"timeout_min": 600, "slurm_partition": "cpu"}; {"cluster": "local"} runs
    the jobs here, all at once. Raises UserError where submitit or SLURM is not there, or does not know a parameter.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("submitting jobs needs submitit: pip install 'videores[slurm]'") from None
    options = {"cluster": "slurm", "timeout_min": 24 * 60, **dict(options)}
    try:
        executor = submitit.AutoExecutor(folder, cluster=options.pop("cluster"))
        executor.update_parameters(**options)
        return executor.map_array(run_command, commands)
    except (AssertionError, NameError, RuntimeError, ValueError) as error:  # submitit's ways of refusing
        raise UserError(f"submitit: {error}") from None


def run_command(command):
    """A job: 1 says that some data is bad, which is a result; any other failure is the job's own."""
    code = subprocess.run(command).returncode
    if code not in (0, 1):
        raise RuntimeError(f"exit code {code}: {' '.join(command)}")
    return code
