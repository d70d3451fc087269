"""Prepare the process that cells are forked from: the fork server imports this file.

A signal to the process group, as of `timeout`, must not end the server, which waits for the cell. Until a cell has
handlers, signals to it are pending, not lost.
"""

import signal

from videores.runtime import cli, signals

signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOP_SIGNALS)
cli.silence_libraries()

with cli.import_quickly():
    import videores.run  # noqa: F401 (takes seconds, in which signals come)
