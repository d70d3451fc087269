"""What all tools share: exit codes, and one clear message instead of a traceback for what the user can mend.

0 done; 1 done, but some data is bad; 2 wrong input; 75 stopped by a signal after a checkpoint; 70 a bug.
This module imports nothing heavy: helper processes import the tool that started them.
"""

import logging
import os
import sys
import traceback
import warnings

from videores.errors import UserError

WRONG_INPUT, BUG = 2, 70


def run(main):
    """Runs a tool's `main()` and exits with its code."""
    quiet()
    try:
        code = main()
    except UserError as error:
        if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0:
            print(f"error: {error}", file=sys.stderr)
        code = WRONG_INPUT
    except Exception:
        traceback.print_exc()
        code = BUG
    sys.exit(code)


# Advice on settings that were chosen on purpose, and warnings that concern the libraries alone.
EXPECTED = (
    ".*does not have many workers.*",
    ".*sync_dist=True.*",  # every rank logs the same number already
    ".*treespec, LeafSpec.*",
    ".*Grad strides do not match bucket view strides.*",  # 1x1x1 kernels, whose strides say nothing
    ".*Checkpoint directory .* exists and is not empty.*",
)


def quiet():
    for name in ("lightning.pytorch.utilities", "lightning.fabric.utilities"):
        logging.getLogger(f"{name}.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(f"{name}.distributed").setLevel(logging.WARNING)
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)


def add_overrides(parser):
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys, e.g. train.epochs=10")
