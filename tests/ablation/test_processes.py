"""The children of a sweep, and signals that come at any moment."""

import os
import signal
import threading
import time

import pytest

from videores.ablation import executors


def test_a_child_has_a_log_of_its_own(tmp_path, capfd):
    (tmp_path / "tool.py").write_text(
        "import os, sys\nprint(sys.argv[1:], flush=True)\nos.system('echo program >&2')\n1 / 0"
    )
    assert executors.run_tool([str(tmp_path / "tool.py"), "x"], tmp_path / "log") == 1
    text = (tmp_path / "log").read_text()
    assert "['x']\nprogram\n" in text
    assert "ZeroDivisionError" in text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_a_signal_ends_has_its_exit_code(number):
    assert executors.run_in_child(signal.raise_signal, number) == 128 + number


def test_a_child_has_torch_imported():
    executors.run_in_child(time.sleep, 0)  # the server has started
    began = time.monotonic()
    assert executors.run_in_child(exec, "import sys; assert {'torch', 'lightning'} <= sys.modules.keys()") == 0
    assert time.monotonic() - began < 2  # importing takes more


CHILD = "import os, signal, time; signal.signal(15, {handler}); time.sleep({seconds}); os._exit({code})"


def run_and_stop(after, **child):
    """Sends SIGTERM to this process some seconds after it listens. Returns the exit code of the child."""

    def stop():
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            time.sleep(0.001)
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    try:
        return executors.run_in_child(exec, CHILD.format(**child), {})
    finally:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("after", [0, 0.01, 0.03, 0.1, 0.3])
def test_a_signal_to_the_sweep_ends_the_child_whenever_it_comes(after):
    began = time.monotonic()
    assert run_and_stop(after, handler="signal.SIG_DFL", seconds=60, code=0) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("code", [0, 1, 2, 70])
def test_a_signal_is_not_lost_where_the_child_ends_as_if_there_were_none(code):
    """Its last batch is done, or it fails: the sweep must not go on."""
    assert run_and_stop(0.3, handler="signal.SIG_IGN", seconds=1, code=code) == 128 + signal.SIGTERM


def test_a_child_that_saves_what_it_has_ends_with_its_own_code():
    saves = "lambda *_: (time.sleep(0.5), os._exit(75))"
    assert run_and_stop(0.5, handler=saves, seconds=60, code=0) == 75


def test_a_signal_to_all_processes_leaves_the_server_to_wait_for_the_child():
    """As `timeout` and schedulers send it."""
    assert executors.run_in_child(exec, "import os, time; os.kill(os.getppid(), 15); time.sleep(0.5); os._exit(3)") == 3
