"""Reading clips in a process of its own, so that a file whose decoding never ends, or takes its reader down, is one bad clip.

Only a process can be stopped for sure: a decoder that hangs gives neither Python nor a signal handler a turn. For the same
reason it is the system that ends the process when its owner is gone, even in the middle of a clip.
"""

import atexit
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar, cast

from qtablate.environment import number
from qtablate.errors import BadMedia, DataError
from qtablate.interrupts import blocked

SECONDS = 120.0
DECODE_TIMEOUT, DECODER_CRASHED = "took too long", "decoder crashed"
RETRYABLE = (DECODE_TIMEOUT, DECODER_CRASHED)
"""Kinds that another try may settle otherwise: they tell of the machine as much as of the file."""
_CRASHES = tuple(-one for one in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS))
_LONGEST = 1e6  # seconds: what timers of the system take
_GRACE = 5.0  # seconds that the process may outlive its limit where nobody is left to stop it
_ERRORS = {"bad": BadMedia, "data": DataError, "bug": RuntimeError}

T = TypeVar("T")


def decode_timeout() -> float:
    """Seconds that one clip may take: QTABLATE_CLIP_SECONDS, or the default. Raises QtablateError for what is no positive
    number."""
    return min(number("QTABLATE_CLIP_SECONDS", SECONDS, "seconds", above=True), _LONGEST)


def run_isolated(path: Path, function: Callable[..., T], *given: Any) -> T:
    """`function(*given)`, which reads the file or folder at `path`, in another process.

    Raises:
        BadMedia: as the function does; DECODE_TIMEOUT after `decode_timeout` seconds; DECODER_CRASHED when it crashed.
        DataError: as the function does; also where the process does not start or is killed from outside.
    """
    global _reader
    with _LOCK:
        if _reader is None or not _reader.mine():
            _reader = _Reader()
        return cast(T, _reader.ask(path, function, given))


class _Reader:
    """The process that reads, one clip at a time."""

    def __init__(self) -> None:
        self._ours, theirs = Pipe()
        alive, self._alive = Pipe(duplex=False)  # nothing is ever sent: it closes with this process
        self._owner = os.getpid()
        passed = [theirs.fileno(), alive.fileno()]
        start = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({passed[0]}, {passed[1]})"
        with theirs, alive, blocked():  # Ctrl-C reaches the whole group; the owner decides
            self._process = subprocess.Popen([sys.executable, "-P", "-c", start], pass_fds=passed, stdin=subprocess.DEVNULL)
        atexit.register(self.end)
        with suppress(EOFError, OSError):
            self._ours.recv()  # it is ready: starting it is none of the first clip's time

    def mine(self) -> bool:
        """Whether it lives and was not inherited over a fork."""
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(self, path: Path, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        limit = decode_timeout()
        try:
            self._ours.send((function, given, limit + _GRACE))
            answer = (
                self._ours.recv() if self._ours.poll(limit) else ("bad", DECODE_TIMEOUT, f"{path}: not read in {limit:g} s")
            )
        except (EOFError, OSError):
            self._lost(path)
        except BaseException:  # whoever asks next must not get this clip's answer
            self.end()
            raise
        kind, *content = answer
        if kind == "done":
            return content[0]
        if content[0] == DECODE_TIMEOUT:
            self.end()
        raise _ERRORS[kind](*content)

    def end(self) -> None:
        """Stop it. A process that waits for a dead disk is left to itself."""
        if self._owner == os.getpid():
            atexit.unregister(self.end)
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            self._alive.close()

    def _lost(self, path: Path) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        code = self._process.returncode
        self.end()
        if code in _CRASHES:
            raise BadMedia(DECODER_CRASHED, f"{path}: reading it ended the process with {signal.Signals(-code).name}") from None
        raise DataError(
            f"{path}: the process that reads clips ended with {code} (out of memory?); the clip may be fine, run again"
        ) from None


_LOCK = threading.Lock()
_reader: _Reader | None = None


def serve(descriptor: int, alive: int) -> None:
    """Do what is asked over a pipe until nobody asks any more: what the process runs. It ends when `alive` is closed."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process
    _end_with(alive)
    with suppress(EOFError, OSError), Connection(descriptor) as pipe:
        pipe.send("ready")
        while True:
            function, given, longest = pipe.recv()
            signal.setitimer(signal.ITIMER_REAL, longest)
            answer = _answer(function, given)
            signal.setitimer(signal.ITIMER_REAL, 0)
            pipe.send(answer)


def _end_with(alive: int) -> None:
    """Have the system end this process when the other end of a pipe is closed, whether Python gets a turn or not. Where it does
    not (macOS), the process ends after its clip or at its limit."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(alive, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([alive], [], [], 0)[0]:  # it was closed before
        os._exit(1)


def _answer(function: Callable[..., Any], given: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return "done", function(*given)
    except BadMedia as error:
        return "bad", error.kind, error.detail
    except DataError as error:
        return "data", str(error)
    except Exception:
        return "bug", traceback.format_exc()
