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

from videores.errors import LostProcess, LostWorker, Stopped, UnreadableVideo, UserError
from videores.runtime.launch import LOST, is_first_of_machine, is_first_process

WRONG_INPUT, BUG, PREEMPTED, INTERRUPTED, TERMINATED = 2, 70, 75, 130, 143

NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG)


def run(main):
    """Runs a tool's `main()` and exits with its code."""
    quiet()
    try:
        refuse_unsafe()
        code = main()
    except BaseException as error:
        code = exit_code(error)
        tell(error, code)
    sys.exit(code)


def refuse_unsafe():
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name, "0").lower() not in ("", "0", "n", "no", "false"):
        raise UserError(f"{name} is set: with it a checkpoint could run any code. Unset it")


def exit_code(error):
    """Where SIGTERM ends a tool it is with SystemExit without a code; Lightning ends with code 1 on Ctrl-C."""
    if isinstance(error, Stopped):
        return INTERRUPTED if error.signal == signal.SIGINT else PREEMPTED
    if isinstance(error, SystemExit):
        return {None: TERMINATED, 1: INTERRUPTED}.get(error.code, error.code)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, LostProcess):
        return LOST
    return WRONG_INPUT if isinstance(error, UserError) or is_of_the_disk(error) else BUG


def is_of_the_disk(error):
    """A folder that may not be written to, or is full: the message names it."""
    refused = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
    return isinstance(error, refused) or getattr(error, "errno", None) in NO_ROOM


def tell(error, code):
    """The first process of a machine speaks for all of them; but a video that only another one reads must be named by
    that one, as what it lost, and the first one may be the one that is lost."""
    speaks = is_first_of_machine() or isinstance(error, (UnreadableVideo, LostWorker))
    if code == BUG:
        traceback.print_exception(error)
    elif (code == WRONG_INPUT and speaks and not isinstance(error, SystemExit)) or code == LOST:
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, Stopped) and is_first_process():
        print(error, file=sys.stderr)


# Advice on settings that were chosen on purpose, and warnings that concern the libraries alone.
EXPECTED = (
    ".*DataLoader will create .* worker processes.*",  # a server's configuration on a small machine
    ".*Total length of .* across ranks is zero.*",  # no validation videos, which the summary says
    ".*does not have many workers.*",
    ".*sync_dist=True.*",  # every rank logs the same number already
    ".*treespec, LeafSpec.*",
    ".*in eval mode at the start of training.*",  # what is frozen
    ".*Grad strides do not match bucket view strides.*",  # 1x1x1 kernels, whose strides say nothing
    ".*Checkpoint directory .* exists and is not empty.*",
)


def quiet():
    for name in ("lightning.pytorch.utilities", "lightning.fabric.utilities"):
        logging.getLogger(f"{name}.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(f"{name}.distributed").setLevel(logging.WARNING)
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)


def add_overrides(parser, example="train.epochs=10"):
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"configuration keys, e.g. {example}")
