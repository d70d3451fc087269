"""Helper processes under a watchdog: what crashes or hangs in one costs that call only."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.processes import alive

from videores.data.video import sandbox
from videores.data.video.sandbox import Helper, HelperFailure


def answer(value, beat):
    beat("thinking")
    return value, os.getpid()


def chatter(beat):
    os.write(1, b"a native library prints what it likes\n" * 10)
    return "answer"


def fail(beat):
    raise ValueError("wrong file")


def fail_strangely(beat):
    raise RuntimeError(threading.Lock())  # which can't be sent


def crash(beat):
    beat("falling")
    ctypes.string_at(0)


def leave(beat):
    os._exit(3)


def hang(beat):
    beat("hanging")
    time.sleep(60)


def hang_natively(beat):
    """Without the interpreter's lock released, as decoders hang."""
    beat("spinning")
    ctypes.PyDLL(None).sleep(60)


def work_slowly(beat):
    for i in range(8):
        beat(f"part {i}")
        time.sleep(0.25)
    return "done"


@pytest.fixture
def helper():
    helper = Helper(patience=5)
    yield helper
    helper.end()


def test_calls_are_answered_by_one_other_process(helper):
    answers = [helper.call(answer, i) for i in range(5)]
    assert [value for value, _ in answers] == list(range(5))
    assert len({process for _, process in answers}) == 1
    assert answers[0][1] != os.getpid()


def test_what_native_code_prints_is_no_answer(helper):
    assert [helper.call(chatter) for _ in range(3)] == ["answer"] * 3


def test_errors_are_raised_here_and_the_helper_goes_on(helper):
    process = helper.call(answer, 0)[1]
    with pytest.raises(ValueError, match="wrong file"):
        helper.call(fail)
    assert helper.call(answer, 1) == (1, process)


@pytest.mark.parametrize(
    ("function", "reason", "stage"),
    [(crash, "crashed (SIGSEGV)", "falling"), (leave, "ended with exit code 3", "starting")],
)
def test_a_crash_is_reported_and_the_next_call_is_answered(helper, function, reason, stage):
    for value in range(2):
        with pytest.raises(HelperFailure) as caught:
            helper.call(function)
        assert (caught.value.reason, caught.value.stage) == (reason, stage)
        assert helper.call(answer, value)[0] == value


@pytest.mark.parametrize(("function", "stage"), [(hang, "hanging"), (hang_natively, "spinning")])
def test_a_hang_ends_when_patience_does(function, stage):
    helper = Helper(patience=1.5)
    with pytest.raises(HelperFailure, match="hung: no sign of life for") as caught:
        helper.call(function)
    assert caught.value.stage == stage
    assert helper.call(answer, 1)[0] == 1
    helper.end()


def test_slow_work_that_shows_life_is_waited_for():
    helper = Helper(patience=1.2)
    assert helper.call(work_slowly) == "done"  # 2 s
    helper.end()


def test_an_error_that_cannot_be_sent_is_reported(helper):
    with pytest.raises(RuntimeError, match="lock"):
        helper.call(fail_strangely)


def job(helper, item):
    try:
        return item, helper.call(*item)
    except HelperFailure as lost:
        return item, lost.reason


def test_each_item_is_worked_on_once_whatever_others_do():
    items = [(answer, i) for i in range(20)]
    items[3], items[11] = (crash,), (leave,)
    results = dict(sandbox.map_unordered(job, items, workers=2))
    assert set(results) == set(items)
    assert results[(crash,)] == "crashed (SIGSEGV)"
    processes = {results[(answer, i)][1] for i in range(20) if i not in (3, 11)}
    assert 2 <= len(processes) <= 4


def test_giving_up_ends_the_helpers():
    results = sandbox.map_unordered(job, [(answer, 0)] + [(hang,)] * 5, workers=2)
    (_, process) = next(r for item, r in results if item == (answer, 0))
    results.close()
    wait_until(lambda: not alive(process))


def test_giving_up_ends_a_helper_that_is_starting(monkeypatch):
    start, starting, given_up, processes = sandbox._start_helper_process, threading.Event(), threading.Event(), []

    def start_second_late():
        late, made = bool(processes), start()
        processes.append(made[0])
        if late:
            starting.set()
            given_up.wait(20)
        return made

    monkeypatch.setattr(sandbox, "_start_helper_process", start_second_late)
    results = sandbox.map_unordered(job, [(answer, 0), (crash,), (hang,)], workers=1)
    next(results), next(results)
    starting.wait(20)
    results.close()
    given_up.set()
    wait_until(lambda: processes[1].poll() is not None)


def test_a_helper_that_died_between_two_calls_is_reported_and_replaced(helper):
    helper.call(answer, 1)
    helper.process.kill()
    helper.process.wait()
    with pytest.raises(HelperFailure, match="SIGKILL"):
        helper.call(answer, 2)
    assert helper.call(answer, 3)[0] == 3


def test_a_helper_ends_with_its_parent():
    code = f"""
import os, sys; sys.path[:0] = [{os.path.dirname(__file__)!r}, {str(Path(__file__).parents[1])!r}]
from test_guard import answer
from videores.data.video.sandbox import Helper
print(Helper().call(answer, 1)[1], flush=True); os._exit(9)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    wait_until(lambda: not alive(int(child.stdout)))


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
