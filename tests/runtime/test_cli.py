"""Exit codes, and who speaks where several processes end together."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from videores.errors import RankFailure, SignalInterrupt, UnreadableVideo, UserError
from videores.runtime import cli


def ended(error, env=(), code="raise error"):
    """Exit code and stderr of a tool that ends with `error`, which is given as code."""
    imports = "from videores import errors\nfrom videores.runtime import cli"
    program = f"{imports}\ndef main():\n    error = {error}\n    {code}\ncli.run(main)"
    environment = {**os.environ, **dict(env)}
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    return process.returncode, process.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("x"), 2),
        (UnreadableVideo("a.mp4", "torn"), 2),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (KeyError("x"), 70),
        (RankFailure("x"), 71),
        (KeyboardInterrupt(), 130),
        (SystemExit(1), 130),  # Lightning's, on Ctrl-C
        (SystemExit(), 143),  # on SIGTERM
        (SystemExit(2), 2),  # argparse's
        (SystemExit(0), 0),
        (SignalInterrupt(signal.SIGTERM, "after step 3"), 75),
        (SignalInterrupt(signal.SIGUSR1, "after step 3"), 75),
        (SignalInterrupt(signal.SIGINT, "after step 3"), 130),
        (OSError(errno.EFBIG, "File too large"), 2),
        (OSError(errno.ENAMETOOLONG, "File name too long"), 2),
    ],
)
def test_every_ending_has_its_code(error, code):
    assert cli.select_exit_code(error) == code


def test_wrong_input_is_one_line_and_a_bug_is_a_traceback():
    assert ended("errors.UserError('no such key')") == (2, "error: no such key\n")
    code, text = ended("KeyError('x')")
    assert code == 70
    assert "Traceback" in text


def test_only_the_first_process_speaks_of_what_all_meet():
    assert ended("errors.UserError('x')", {"LOCAL_RANK": "1"}) == (2, "")
    assert ended("errors.UnreadableVideo('a.mp4', 'torn')", {"LOCAL_RANK": "1"}) == (2, "error: a.mp4: torn\n")


def test_a_process_that_lost_what_loads_its_videos_says_so_whichever_it_is():
    text = "DataLoader worker (pid 17) is killed by signal: Killed. "
    error = f"__import__('videores.runtime.failures', fromlist=['*']).translate_message({text!r})"
    code, said = ended(error, {"LOCAL_RANK": "1"})
    assert (code, said.count("error: a process that loads videos (PID 17) was killed")) == (2, 1)


@pytest.mark.parametrize(
    ("environ", "speaks"),
    [
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "2", "LOCAL_RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, True),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, True),
    ],
)
def test_a_machine_that_lacks_something_says_so_once_whichever_it_is(environ, speaks):
    assert ended("errors.UserError('there is no data')", environ) == (2, "error: there is no data\n" * speaks)


def test_a_process_that_lost_another_says_so_whichever_it_is():
    assert ended("errors.RankFailure('gone')", {"LOCAL_RANK": "1"}) == (71, "error: gone\n")


def test_an_unreadable_video_survives_the_way_out_of_a_worker():
    """torch rebuilds a worker's exception from its printed traceback."""
    text = "Caught UnreadableVideo in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    error = UnreadableVideo(f"{text}  File ...\nvideores.errors.UnreadableVideo: a/b.mp4: pyav failed: torn\n")
    assert (error.path, error.reason) == ("a/b.mp4", "pyav failed: torn")


@pytest.mark.parametrize("value", ["1", "true", "anything"])
def test_an_environment_in_which_checkpoints_could_run_code_is_refused(value):
    code, text = ended("None", {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": value}, code="return 0")
    assert (code, text.count("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set")) == (2, 1)
    assert ended("None", {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}, code="return 0") == (0, "")
