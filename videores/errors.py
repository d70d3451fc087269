"""What can be wrong with a user's input. The tools print the message alone, without a traceback, and exit with 2."""

import difflib
import signal as signals


class UserError(ValueError):
    """A wrong input; the message names the file, key or value and says what to do."""


class UnreadableVideo(UserError):
    """A file that does not decode; `reason` says how it failed.

    `lasting` is false where the machine may be at fault (no permission, no memory), so that it is not remembered.
    """

    lasting = True

    def __init__(self, path, reason=None):
        if reason is None:  # torch rebuilds a worker's exception from its printed traceback, whose last line is ours
            path, _, reason = str(path).strip().splitlines()[-1].partition("UnreadableVideo: ")[2].partition(": ")
        super().__init__(str(path), str(reason))
        self.path, self.reason = str(path), str(reason)

    def __str__(self):
        return f"{self.path}: {self.reason}"


class WorkerFailure(UserError):
    """A process that loads videos was killed, of one process of the run, perhaps not the first."""


class RankFailure(Exception):
    """Another process of the run has ended or hangs, so that this one can't go on."""


class SignalInterrupt(BaseException):
    """A signal ended the run; `where` says at which point. No Exception, so that nothing takes it for an error."""

    def __init__(self, signal, where):
        super().__init__(f"stopped by {signals.Signals(signal).name} {where}: run.resume=auto continues")
        self.signal = signal


def format_suggestion(word, known, also=()):
    meant = [*difflib.get_close_matches(word, known, n=1), *also]
    return f" (did you mean {' or '.join(meant)}?)" if meant else ""
