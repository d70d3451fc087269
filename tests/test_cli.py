"""Exit codes, and who speaks where several processes end together."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_csv

from videores import cli
from videores.errors import LostProcess, UnreadableVideo, UserError


def ended(error, env=(), code="raise error"):
    """Exit code and stderr of a tool that ends with `error`, which is given as code."""
    program = f"from videores import cli, errors\ndef main():\n    error = {error}\n    {code}\ncli.run(main)"
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
        (LostProcess("x"), 71),
        (KeyboardInterrupt(), 130),
        (SystemExit(1), 130),  # Lightning's, on Ctrl-C
        (SystemExit(), 143),  # Lightning's, on SIGTERM
        (SystemExit(2), 2),  # argparse's
        (SystemExit(0), 0),
    ],
)
def test_every_ending_has_its_code(error, code):
    assert cli.exit_code(error) == code


def test_wrong_input_is_one_line_and_a_bug_is_a_traceback():
    assert ended("errors.UserError('no such key')") == (2, "error: no such key\n")
    code, text = ended("KeyError('x')")
    assert code == 70
    assert "Traceback" in text


def test_only_the_first_process_speaks_of_what_all_meet():
    assert ended("errors.UserError('x')", {"LOCAL_RANK": "1"}) == (2, "")
    assert ended("errors.UnreadableVideo('a.mp4', 'torn')", {"LOCAL_RANK": "1"}) == (2, "error: a.mp4: torn\n")


def test_a_process_that_lost_another_says_so_whichever_it_is():
    assert ended("errors.LostProcess('gone')", {"LOCAL_RANK": "1"}) == (71, "error: gone\n")


def test_an_unreadable_video_survives_the_way_out_of_a_worker():
    """torch rebuilds a worker's exception from its printed traceback."""
    text = "Caught UnreadableVideo in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    error = UnreadableVideo(f"{text}  File ...\nvideores.errors.UnreadableVideo: a/b.mp4: pyav failed: torn\n")
    assert (error.path, error.reason) == ("a/b.mp4", "pyav failed: torn")


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """The command of a training that takes long."""
    place = tmp_path_factory.mktemp("signals")
    values = write_csv(place / "set", {p: [(f"{p}{i}.mp4", "ab"[i % 2]) for i in range(4)] for p in ("train", "test")})
    (place / "long.yaml").write_text(
        f"data: {{name: set, format: csv, root: {values['root']}, workers: 0, batch_size: 2, cache: ram,"
        " clip: {frames: 4}, transform: {short_side: 32, crop: 32}}\n"
        "model: {name: r3d_18, layers: [1], width: 4, stem: small}\ntrain: {epochs: 100000}\n"
    )
    return place


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_says_so_by_its_code(training, sent, code):
    folder = training / f"run{code}"
    tool = Path(__file__).parent.parent / "tools" / "train.py"
    command = [sys.executable, tool, "--cfg", training / "long.yaml", f"run.dir={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 100
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.1)
    process.send_signal(sent)
    assert process.wait(60) == code
