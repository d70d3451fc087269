"""Errors of videores: tools print a UserError without traceback and exit with 2."""

import difflib
import signal as signals
import unicodedata
from collections.abc import Iterable

DIRECTION_CHARACTERS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class UserError(ValueError):
    """A wrong input: the message names the key or file, the constraint, the remedy."""

    def __init__(self, message: str, *more: str) -> None:
        # torch rebuilds a worker's exception from its printed traceback, which ends with our message
        super().__init__(message.rpartition("videores.errors.UserError: ")[2], *more)


class UnreadableVideo(UserError):
    """A file that does not decode; `reason` says how it failed.

    `lasting` is False where the machine may be at fault (no permission, no memory): such failures are not cached.
    """

    def __init__(self, path: object, reason: str | None = None, lasting: bool = True) -> None:
        if reason is None:  # torch rebuilds a worker's exception from its printed traceback, whose last line is ours
            path, _, reason = str(path).strip().splitlines()[-1].partition("UnreadableVideo: ")[2].partition(": ")
        super().__init__(str(path), str(reason))
        self.path, self.reason, self.lasting = str(path), str(reason), lasting

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class WorkerFailure(UserError):
    """A DataLoader worker was killed, of any rank of the run."""


class RankFailure(Exception):
    """Another rank of the run ended or hangs, so that this one stops."""


class SignalInterrupt(BaseException):
    """A signal ended the run; no Exception, so that nothing takes it for an error."""

    def __init__(self, signal: int, where: str) -> None:
        super().__init__(f"stopped by {signals.Signals(signal).name} {where}: run.resume=auto continues")
        self.signal = signal


def escape_controls(text: str) -> str:
    """Escape characters that control a terminal or change the direction of text.

    Line breaks and tabs stay.
    """
    is_hidden = lambda c: unicodedata.category(c) in ("Cc", "Cs") or c in DIRECTION_CHARACTERS
    return "".join(ascii(c)[1:-1] if is_hidden(c) and c not in "\n\t" else c for c in text)


def format_suggestion(word: str, choices: Iterable[str], also: Iterable[str] = ()) -> str:
    """Format " (did you mean X?)" for the nearest choice and `also`; "" without any.

    Without a similar choice it is the first that contains the word: slowfast is pytorchvideo/slowfast_r50.
    """
    choices = list(choices)
    similar = difflib.get_close_matches(word, choices, n=1) or [c for c in choices if word and word in c][:1]
    similar = [*similar, *also]
    return f" (did you mean {' or '.join(similar)}?)" if similar else ""
