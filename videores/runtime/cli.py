"""What all tools share: exit codes, and one clear message instead of a traceback for what the user can mend.

0 done; 1 done, but some data is bad; 2 wrong input; 70 a bug; 71 another process of the run was lost; 75 a training was
stopped by SIGTERM or SIGUSR1 and can go on; 130 stopped by Ctrl-C; 143 another tool was stopped by SIGTERM.
This module imports nothing heavy: helper processes import the tool that started them.
"""

import errno
import logging
import os
import signal
import sys
import traceback
import warnings

from videores.errors import RankFailure, SignalInterrupt, UnreadableVideo, UserError, WorkerFailure
from videores.runtime.launch import EXIT_RANK_FAILURE, is_local_rank_zero, is_rank_zero

EXIT_USER_ERROR, EXIT_BUG, EXIT_PREEMPTED, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 70, 75, 130, 143

DISK_ERRNOS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG)


def run(main):
    """Runs a tool's `main()` and exits with its code."""
    silence_libraries()
    try:
        check_safe_loading()
        code = main()
    except BaseException as error:
        code = select_exit_code(error)
        print_error(error, code)
    sys.exit(code)


def check_safe_loading():
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name, "0").lower() not in ("", "0", "n", "no", "false"):
        raise UserError(f"{name} is set: with it a checkpoint could run any code. Unset it")


def select_exit_code(error):
    """Where SIGTERM ends a tool it is with SystemExit without a code; Lightning ends with code 1 on Ctrl-C."""
    if isinstance(error, SignalInterrupt):
        return EXIT_INTERRUPTED if error.signal == signal.SIGINT else EXIT_PREEMPTED
    if isinstance(error, SystemExit):
        return {None: EXIT_TERMINATED, 1: EXIT_INTERRUPTED}.get(error.code, error.code)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, RankFailure):
        return EXIT_RANK_FAILURE
    return EXIT_USER_ERROR if isinstance(error, UserError) or is_disk_error(error) else EXIT_BUG


def is_disk_error(error):
    """A folder that may not be written to, or is full: the message names it."""
    refused = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
    return isinstance(error, refused) or getattr(error, "errno", None) in DISK_ERRNOS


def print_error(error, code):
    """The first process of a machine speaks for all of them; but a video that only another one reads must be named by
    that one, as what it lost, and the first one may be the one that is lost."""
    speaks = is_local_rank_zero() or isinstance(error, (UnreadableVideo, WorkerFailure))
    if code == EXIT_BUG:
        traceback.print_exception(error)
    elif (code == EXIT_USER_ERROR and speaks and not isinstance(error, SystemExit)) or code == EXIT_RANK_FAILURE:
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, SignalInterrupt) and is_rank_zero():
        print(error, file=sys.stderr)


# Advice on settings that were chosen on purpose, and warnings that concern the libraries alone.
IGNORED_WARNINGS = (
    ".*DataLoader will create .* worker processes.*",  # a server's configuration on a small machine
    ".*Total length of .* across ranks is zero.*",  # no validation videos, which the summary says
    ".*does not have many workers.*",
    ".*sync_dist=True.*",  # every rank logs the same number already
    ".*treespec, LeafSpec.*",
    ".*in eval mode at the start of training.*",  # what is frozen
    ".*Grad strides do not match bucket view strides.*",  # 1x1x1 kernels, whose strides say nothing
    ".*Checkpoint directory .* exists and is not empty.*",
)


def silence_libraries():
    for name in ("lightning.pytorch.utilities", "lightning.fabric.utilities"):
        logging.getLogger(f"{name}.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(f"{name}.distributed").setLevel(logging.WARNING)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def add_overrides(parser, example="train.epochs=10"):
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"configuration keys, e.g. {example}")
