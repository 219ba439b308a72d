"""Ctrl-C, SIGTERM and a closed terminal end a command in one and the same way. Imported before anything else: standard library
alone, and little of it.

What the caller ignores on purpose stays ignored: SIGHUP under nohup, SIGINT in a script's background job.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAVE = signal.SIGUSR2
"""Asks a cell to save its training at the next optimizer step: its scheduler is about to end the job, and queues it again."""
_TWICE = 1.0  # seconds in which a second Ctrl-C is the first one's echo: some launchers pass on what the terminal sent already
_IMPORTING_AGAIN = 0.02  # seconds until another look where a signal came in the middle of an import

Handler = Callable[[int, FrameType | None], Any]


class Stopped(BaseException):
    """A signal asks the command to end. No KeyboardInterrupt: command-line libraries make an exit of their own of that."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.code = 128 + signum
        """Exit code that tells a shell of the signal."""


def leave_at_once() -> None:
    """From now on a signal ends the process with "Stopped.": for the imports, when there is nothing to keep yet."""
    _handle(_leave)


def ignore() -> None:
    """From now on signals do nothing: for the interpreter's own end, when all is done and said."""
    _handle(signal.SIG_IGN)


@contextmanager
def raised() -> Iterator[None]:
    """Within the block the first signal raises `Stopped`; while that is dealt with, another Ctrl-C ends the process at once."""
    waiting: list[int] = []

    def take(signum: int, frame: FrameType | None) -> None:
        if _importing(frame):  # an exception there may be swallowed, or be told of as an import that failed
            waiting[:] = waiting or [signum]
            # again and again: an alarm that comes right before a call that blocks would be noticed only behind it
            signal.setitimer(signal.ITIMER_REAL, _IMPORTING_AGAIN, _IMPORTING_AGAIN)
        else:
            waiting.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
            _stop(signum)

    handled = (*SIGNALS, signal.SIGALRM)
    before = {signum: signal.getsignal(signum) for signum in handled}
    _handle(take)
    signal.signal(signal.SIGALRM, lambda _, frame: take(waiting[0], frame) if waiting else None)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if waiting:
            raise Stopped(waiting[0])


@contextmanager
def blocked(*signals: signal.Signals) -> Iterator[None]:
    """Hold back signals (those that stop a command, and SAVE, where none is named) until the block ends. A process that is
    started within is never told of them: it ends with its owner, or when its owner ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals or (*SIGNALS, SAVE))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_asked: list[int] = []


def heed_save() -> None:
    """From now on `save_asked` tells whether SAVE came."""
    signal.signal(SAVE, lambda signum, _: _asked.append(signum))


def save_asked() -> bool:
    """Whether SAVE came since the last call."""
    asked = bool(_asked)
    _asked.clear()
    return asked


def _handle(handler: Handler | signal.Handlers) -> None:
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)


def _leave(signum: int, frame: FrameType | None) -> None:
    _end(signum, "Stopped.")


def _stop(signum: int) -> None:
    _mute_lost_terminal()
    began = time.monotonic()

    def another(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and time.monotonic() - began > _TWICE:
            _end(signum, "Stopped at once.")

    _handle(another)
    raise Stopped(signum)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _mute_lost_terminal() -> None:
    """Where the terminal is gone, print into nothing: an error for each line would keep the tables from being written."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream)
            os.close(nothing)


def _end(signum: int, text: str) -> None:
    shown = "\x1b[?25h" if os.isatty(2) else ""  # a live display hides the cursor
    with suppress(OSError):
        os.write(2, f"{shown}{text}\n".encode())
    os._exit(128 + signum)
