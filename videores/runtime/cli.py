"""Exit codes, error output and common arguments of all tools.

0 done; 1 done, but some data is bad; 2 wrong input; 70 a bug; 71 another rank of the run was lost; 75 a training was
stopped by SIGTERM, SIGUSR1 or SIGHUP and can be resumed; 130 stopped by Ctrl-C; 141 the reader of the output has gone;
143 another tool was stopped by SIGTERM or SIGHUP.
Imports nothing heavy: DataLoader workers and sandboxed decoders import the tool that started them.
"""

import argparse
import errno
import gc
import logging
import math
import os
import select
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn

from videores.errors import RankFailure, SignalInterrupt, UnreadableVideo, UserError, WorkerFailure, escape_controls
from videores.runtime.files import DISK_FULL_ERRNOS, OPEN_FILES_HINT
from videores.runtime.launch import EXIT_RANK_FAILURE, is_local_rank_zero, is_rank_zero

EXIT_USER_ERROR, EXIT_BUG, EXIT_PREEMPTED, EXIT_INTERRUPTED, EXIT_PIPE, EXIT_TERMINATED = 2, 70, 75, 130, 141, 143

# a folder that may not be written to or is full; such messages name it
USER_ERRORS = (UserError, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
MACHINE_ERRNOS = (*DISK_FULL_ERRNOS, errno.EROFS, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a tool's `main()` and exit with its code."""
    silence_libraries()
    streams = redirect_stdout(_EscapingStream(sys.stdout)), redirect_stderr(_EscapingStream(sys.stderr))
    with streams[0], streams[1]:
        try:
            _check_safe_loading()
            code = main()
            sys.stdout.flush()
        except BaseException as error:
            code = select_exit_code(error)
            with suppress(OSError):  # nobody reads it any more
                _print_error(error, code)
    for stream in (sys.stdout, sys.stderr):
        if _is_reader_gone(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left in its buffer goes nowhere
    sys.exit(code)


@contextmanager
def import_quickly() -> Iterator[None]:
    """Import large libraries without looking for garbage, now or at the end.

    What they define is never looked at again.

    Importing Lightning and ending takes 3.3 s of processor time with it and 5.5 s without.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _EscapingStream:
    """A text stream that shows control and direction characters, which names may have, as escapes.

    Only a progress line may return to its start.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        start = "\r" if text.startswith("\r") else ""
        self._stream.write(start + escape_controls(text.removeprefix(start)))
        return len(text)


def _is_reader_gone(stream: Any) -> bool:
    """Return whether a stream is a pipe or terminal that nobody reads any more."""
    poll = select.poll()
    with suppress(OSError):  # no file of the system
        poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _check_safe_loading() -> None:
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name, "0").lower() not in ("", "0", "n", "no", "false"):
        raise UserError(f"{name} must not be set, as a checkpoint could then run any code: unset it")


def select_exit_code(error: BaseException) -> int:
    """Return the exit code of a tool that ends with an error."""
    if isinstance(error, SignalInterrupt):
        return EXIT_INTERRUPTED if error.signal == signal.SIGINT else EXIT_PREEMPTED
    if isinstance(error, SystemExit):
        code: Any = error.code  # None: signals.exit_on_sigterm; 1: Lightning, on Ctrl-C
        return {None: EXIT_TERMINATED, 1: EXIT_INTERRUPTED}.get(code, code)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, RankFailure):
        return EXIT_RANK_FAILURE
    if isinstance(error, BrokenPipeError) and _is_reader_gone(sys.stdout):
        return EXIT_PIPE
    is_user_error = isinstance(error, USER_ERRORS) or getattr(error, "errno", None) in MACHINE_ERRNOS
    return EXIT_USER_ERROR if is_user_error else EXIT_BUG


def _print_error(error: BaseException, code: int) -> None:
    """Print an error once per node, or where only another rank has seen it."""
    is_printed = is_local_rank_zero() or isinstance(error, (UnreadableVideo, WorkerFailure))
    if code == EXIT_BUG:
        traceback.print_exception(error)
    elif (code == EXIT_USER_ERROR and is_printed and not isinstance(error, SystemExit)) or code == EXIT_RANK_FAILURE:
        start = "\n" if isinstance(error, RankFailure) else ""  # the lost rank may have left a progress line
        print(f"{start}error: {error}{_format_way_out(error)}", file=sys.stderr)
    elif isinstance(error, SignalInterrupt) and is_rank_zero():
        print(error, file=sys.stderr)


def _format_way_out(error: BaseException) -> str:
    """Format the way out where room or open files are at an end; else ""."""
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
        return f": {OPEN_FILES_HINT}"
    if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    folder = Path(getattr(error, "filename", None) or ".").absolute()
    folder = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(folder).free / 1e6
    return f"; {free:,.1f} MB are free in {folder}: make room, and give the same command again"


# advice on settings that are on purpose, and warnings that concern the libraries alone
IGNORED_WARNINGS = (
    ".*DataLoader will create .* worker processes.*",  # a server's configuration on a small machine
    ".*Total length of .* across ranks is zero.*",  # no validation videos: the summary tells
    ".*does not have many workers.*",
    ".*sync_dist=True.*",  # every rank logs the same number already
    ".*treespec, LeafSpec.*",
    ".*in eval mode at the start of training.*",  # what is frozen
    ".*Grad strides do not match bucket view strides.*",  # 1x1x1 kernels, whose strides say nothing
    ".*Checkpoint directory .* exists and is not empty.*",
)


def silence_libraries() -> None:
    """Silence advice of Lightning and torch that does not concern a run."""
    for name in ("lightning.pytorch.utilities", "lightning.fabric.utilities"):
        logging.getLogger(f"{name}.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(f"{name}.distributed").setLevel(logging.WARNING)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def positive(text: str) -> int:
    """Parse an argument that must be a positive integer (a `type` of argparse)."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text}")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Parse integers separated by commas (a `type` of argparse)."""
    return tuple(dict.fromkeys(int(word) for word in words(text)))


def words(text: str) -> tuple[str, ...]:
    """Parse words separated by commas (a `type` of argparse)."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def make_number_type(fits: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    """Return a `type` of argparse for numbers; others are told what is wanted."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan  # which fits nowhere
        if not fits(value):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text}")
        return value

    return read


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose --help shows a docstring; options need whole names."""
    shown = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=doc, formatter_class=shown, allow_abbrev=False)


def add_overrides(parser: argparse.ArgumentParser, example: str = "train.epochs=10") -> None:
    """Add the positional `key=value` arguments; parse by parse_intermixed_args()."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"configuration keys, e.g. {example}")
