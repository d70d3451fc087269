"""Exit codes, and which rank prints an error where several processes end together."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from videores.errors import RankFailure, SignalInterrupt, UnreadableVideo, UserError, WorkerFailure
from videores.runtime import cli, failures, files, signals, tables


@pytest.fixture
def ended(monkeypatch, capsys):
    """Return the exit code and stderr of a tool that ends with `error`, or well without one."""

    def run(error=None, **environ):
        def main():
            if error is not None:
                raise error
            return 0

        for name in ("VIDEORES_PARENT", "LOCAL_RANK", "NODE_RANK", "RANK", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as exit:
            cli.run(main)
        return exit.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("x"), 2),
        (UnreadableVideo("a.mp4", "torn"), 2),
        (WorkerFailure("x"), 2),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (OSError(errno.EFBIG, "File too large"), 2),
        (OSError(errno.ENAMETOOLONG, "File name too long"), 2),
        (OSError(errno.EMFILE, "Too many open files"), 2),
        (OSError(errno.EIO, "Input/output error"), 70),
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
    ],
)
def test_every_ending_has_its_code(error, code):
    assert cli.select_exit_code(error) == code


def test_wrong_input_is_one_line_and_a_bug_is_a_traceback(ended):
    assert ended() == (0, "")
    assert ended(UserError("no such key")) == (2, "error: no such key\n")
    assert ended(SystemExit(2)) == (2, "")  # argparse has printed it
    code, text = ended(KeyError("x"))
    assert code == 70
    assert "Traceback" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("a\rb\x85c\udcff", "a\\rb\\x85c\\udcff"),
        ("打架 приветствие é\tx\ny", "打架 приветствие é\tx\ny"),
    ],
)
def test_names_in_messages_control_no_terminal(ended, capsys, name, shown):
    assert ended(UserError(name)) == (2, f"error: {shown}\n")

    def main():
        print(f"wrote {name}")
        print(f"warning: {name}", file=sys.stderr)
        print("\r50 %", end="", file=sys.stderr)

    with pytest.raises(SystemExit):
        cli.run(main)
    assert capsys.readouterr() == (f"wrote {shown}\n", f"warning: {shown}\n\r50 %")


def test_rank_zero_alone_prints_what_all_meet(ended):
    """But a lost process or video may be known to another rank alone."""
    assert ended(UserError("x"), LOCAL_RANK="1", VIDEORES_PARENT="7") == (2, "")
    assert ended(SignalInterrupt(signal.SIGTERM, "here"), LOCAL_RANK="1", VIDEORES_PARENT="7") == (75, "")
    assert ended(SignalInterrupt(signal.SIGTERM, "here"))[1].startswith("stopped by SIGTERM here")
    assert ended(UnreadableVideo("a.mp4", "torn"), LOCAL_RANK="1", VIDEORES_PARENT="7") == (2, "error: a.mp4: torn\n")
    assert ended(RankFailure("gone"), LOCAL_RANK="1", VIDEORES_PARENT="7") == (71, "\nerror: gone\n")
    failure = failures.translate_error(RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. "))
    code, text = ended(failure, LOCAL_RANK="1", VIDEORES_PARENT="7")
    assert (code, text.startswith("error: "), "PID 17" in text) == (2, True, True)


@pytest.mark.parametrize(
    ("environ", "is_printed"),
    [
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "2", "LOCAL_RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, True),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, True),  # left over
    ],
)
def test_an_error_is_printed_once_per_node(ended, environ, is_printed):
    assert ended(UserError("there is no data"), **environ) == (2, "error: there is no data\n" * is_printed)


def test_an_unreadable_video_survives_the_way_out_of_a_worker():
    """torch rebuilds a worker's exception from its printed traceback."""
    text = "Caught UnreadableVideo in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    error = UnreadableVideo(f"{text}  File ...\nvideores.errors.UnreadableVideo: a/b.mp4: pyav failed: torn\n")
    assert (error.path, error.reason) == ("a/b.mp4", "pyav failed: torn")


def test_an_environment_in_which_checkpoints_could_run_code_is_refused(ended):
    for value in ("1", "true", "anything"):
        code, text = ended(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=value)
        assert (code, text.count("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")) == (2, 1)
    assert ended(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="0") == (0, "")


# Signals


@pytest.fixture(autouse=True)
def default_hang_up():
    """Under nohup, which is how long tests run, a hang-up is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_signal_raises_before_the_first_step_and_is_recorded_after():
    handlers = [signal.getsignal(number) for number in signals.STOP_SIGNALS]
    with signals.SignalHandler() as handler:
        with pytest.raises(SignalInterrupt) as interrupt:
            signal.raise_signal(signal.SIGUSR1)
        assert (interrupt.value.signal, handler.signal_number) == (signal.SIGUSR1, signal.SIGUSR1)
    with signals.SignalHandler() as handler:
        handler.raise_at_once = False
        assert handler.signal_number == 0
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert handler.signal_number == signal.SIGINT  # the first one
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in signals.STOP_SIGNALS] == handlers


def test_sigterm_exits_and_ignored_signals_do_nothing():
    for number in (signal.SIGTERM, signal.SIGHUP):
        with signals.exit_on_sigterm(), pytest.raises(SystemExit) as exit:
            signal.raise_signal(number)
        assert exit.value.code is None
    with signals.ignore_signals():
        for number in signals.STOP_SIGNALS:
            signal.raise_signal(number)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for context in (signals.SignalHandler(), signals.exit_on_sigterm()):
            with context:
                signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


HANG_UP = """
import os, signal, sys
from videores.runtime import signals
with signals.SignalHandler() as handler:
    handler.raise_at_once = False
    os.write(1, b"begun\\n")
    while not handler.signal_number:
        signal.pause()
    print("saving", flush=True), print("saving", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write("saved")
"""


@pytest.mark.parametrize("output", ["terminal", "pipe", "file"])
def test_what_comes_after_a_hang_up_does_not_fail_at_the_output_that_is_gone(tmp_path, output):
    terminal = dict(terminal=os.openpty, pipe=os.pipe, file=lambda: (None, os.open(tmp_path / "log", 66)))[output]()
    reader, writer = terminal
    process = subprocess.Popen([sys.executable, "-c", HANG_UP, tmp_path / "saved"], stdout=writer, stderr=writer)
    os.close(writer)
    if reader is None:
        while not (tmp_path / "log").read_text():
            time.sleep(0.05)
    else:
        assert os.read(reader, 5) == b"begun"
        os.close(reader)  # a terminal's process group would get the signal with it
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert (tmp_path / "saved").read_text() == "saved"
    assert output != "file" or "saving\nsaving" in (tmp_path / "log").read_text()


# Output whose reader has gone


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("print('x')", 141),
        ("[print(i) for i in range(99999)]", 141),
        ("print('x', flush=True)", 141),
        ("sys.stdout.flush(); raise KeyError('x')", 70),
        ("raise BrokenPipeError", 141),
        ("raise UserError('x')", 2),
        ("return 1", 1),
    ],
)
@pytest.mark.parametrize("options", [[], ["-u"]])
def test_a_closed_pipe_ends_a_tool_without_a_word(body, code, options):
    head = "import sys\nfrom videores.errors import UserError\nfrom videores.runtime import cli\n"
    text = f"{head}def main():\n  {body}\ncli.run(main)"
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([sys.executable, *options, "-c", text], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert process.returncode == code
    assert ("Traceback" in process.stderr) == (code == 70)
    assert ("error: x" in process.stderr) == (code == 2)
    assert "BrokenPipe" not in process.stderr
    both = subprocess.run([*process.args[:-1], text], stdout=writer_without_reader(), stderr=subprocess.STDOUT)
    assert both.returncode == code


def writer_without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_another_broken_pipe_is_a_bug(ended):
    assert ended(BrokenPipeError("of a worker"))[0] == 70


# Files and tables


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"b": [1, 2.5]})
    assert path.read_text() == '{\n "b": [\n  1,\n  2.5\n ]\n}\n'
    with pytest.raises(TypeError):
        files.write_json(path, {"b": object()})
    with pytest.raises(KeyError), files.write_atomically(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".json")
        raise KeyError
    assert path.read_text().startswith('{\n "b"')
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_the_file_the_room_and_the_way_out(ended, tmp_path, number):
    path = tmp_path / "new" / "a.json"
    for name in (None, "of ours"):
        with pytest.raises(OSError, match=r"new/a\.json'$") as caught, files.write_atomically(path) as temporary:
            raise OSError(number, "full", name and str(temporary))
        code, text = ended(caught.value)
        assert (code, str(path) in text, "\n" in text[:-1]) == (2, True, False)
        assert ("MB are free" in text) == (number != errno.EFBIG)
    with pytest.raises(OSError, match="other"), files.write_atomically(path):
        raise OSError(number, "full", "other")
    with pytest.raises(PermissionError), files.write_atomically(path):
        raise PermissionError(errno.EACCES, "denied")
    assert ended(OSError(errno.ENOSPC, "full"))[0] == 2  # of a file that nobody knows


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    for name in (".a.17.tmp.mp4", ".a.18.tmp.mp4", ".b.17.tmp.mp4", ".c.17.tmp", "a.mp4"):
        (tmp_path / name).touch()
    files.remove_temporary_files([tmp_path / "a.mp4", tmp_path / "c", tmp_path / "absent" / "d.mp4"])
    assert sorted(os.listdir(tmp_path)) == [".b.17.tmp.mp4", "a.mp4"]


@pytest.mark.parametrize("stem", ["x" * 251, "x" * 230, "é" * 125, "視" * 83, "x" * 197])
def test_names_as_long_as_a_file_system_takes_are_written_and_cleaned(tmp_path, stem):
    path, other = tmp_path / f"{stem}.mp4", tmp_path / f"{stem[:-1]}y.mp4"
    with files.write_atomically(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".mp4"
        with files.write_atomically(other) as second:
            assert second != temporary
            second.write_text("other")
    assert (path.read_text(), other.read_text()) == ("whole", "other")
    for name in (temporary, second):
        name.touch()
    files.remove_temporary_files([path])
    assert sorted(tmp_path.iterdir()) == sorted([path, other, second])


def test_a_shortened_option_is_refused(capsys):
    parser = cli.make_parser("a tool")
    parser.add_argument("--seeds")
    with pytest.raises(SystemExit):
        parser.parse_args(["--seed", "0,1"])
    assert "--seed" in capsys.readouterr().err


def test_tables_take_columns_from_their_rows():
    rows = [{"a": 1, "b": "x,y"}, {"a": 2, "c": None}]
    assert tables.format_csv(rows) == 'a,b,c\n1,"x,y",\n2,,\n'
    assert tables.format_csv([{"a": 1}], ("b", "a")) == "b,a\n,1\n"
    assert (
        tables.format_markdown_table(("a", "b"), [(1, "x"), (2, "y")]) == "| a | b |\n|---|---|\n| 1 | x |\n| 2 | y |"
    )
