"""Decode clips in a separate process with a time limit: a file that hangs or crashes its decoder is one bad clip.

Only a process can be stopped for certain: a decoder that hangs in C code gives neither Python nor a signal handler a turn.
For the same reason the operating system ends the process when its owner dies, even in the middle of a clip.

Why not pebble's ProcessPool (tried with 5.2.3 on the cases in tests/video/test_isolated.py): it cannot start in feature
workers, which are daemonic ("daemonic processes are not allowed to have children"); its worker outlives a killed owner while
C code hangs; a pool inherited over a fork never answers; and a caller's script needs a `__main__` guard.
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
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from qtablate.environment import number
from qtablate.errors import BadMedia, DataError
from qtablate.interrupts import blocked

DEFAULT_TIMEOUT = 120.0
"""Seconds for one clip."""
DECODE_TIMEOUT, DECODER_CRASHED = "decode timeout", "decoder crashed"
RETRYABLE = (DECODE_TIMEOUT, DECODER_CRASHED, "took too long")
"""Kinds of problem that depend on the machine as well as on the file, so that another attempt may succeed. The last one is what
older notes in the feature cache call a decode timeout."""
_CRASH_CODES = tuple(-code for code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS))
_MAX_TIMEOUT = 1e6  # seconds: what the system's timers accept
_GRACE_SECONDS = 5.0  # how long the process may outlive its limit where no owner is left to stop it

P = ParamSpec("P")
T = TypeVar("T")


def decode_timeout() -> float:
    """Return the seconds that one clip may take: QTABLATE_CLIP_SECONDS, or the default.

    Raises:
        QtablateError: the variable is not a positive number.
    """
    return min(number("QTABLATE_CLIP_SECONDS", DEFAULT_TIMEOUT, "seconds", above=True), _MAX_TIMEOUT)


def run_isolated(path: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `function(*args, **kwargs)`, computed in the decoder process within the time limit.

    Args:
        path: the file or folder that the function reads, named in errors.
        function: importable by name, as are the types of its arguments and result (they are pickled).

    Raises:
        BadMedia: raised by the function; of kind DECODE_TIMEOUT after `decode_timeout` seconds; of kind DECODER_CRASHED when
            a signal such as SIGSEGV ended the process.
        DataError: raised by the function; also where the process does not start or is killed from outside.
        RuntimeError: the function raised anything else; the message holds its traceback.
    """
    global _decoder
    with _LOCK:
        if _decoder is None or not _decoder.is_usable():
            _decoder = _DecoderProcess()
        result: T = _decoder.call(path, _Call(function, args, kwargs))
        return result


@dataclass(frozen=True, slots=True)
class _Call:
    """Request: the function and its arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Result:
    """Answer: the function's return value."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Failure:
    """Answer: the function raised. Exceptions with several arguments do not survive pickling, so their arguments travel."""

    error: type[Exception]
    args: tuple[str, ...]


class _DecoderProcess:
    """The process that decodes, one clip at a time, as its owner sees it."""

    def __init__(self) -> None:
        """Start the process and wait until it is ready, so that startup is not part of the first clip's time."""
        self._connection, child_end = Pipe()
        read_end, self._lifeline = Pipe(duplex=False)  # nothing is ever sent: it closes when this process ends
        self._owner = os.getpid()
        inherited = [child_end.fileno(), read_end.fileno()]
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({inherited[0]}, {inherited[1]})"
        with child_end, read_end, blocked():  # Ctrl-C reaches the whole process group; the owner decides what happens
            command = [sys.executable, "-P", "-c", code]
            self._process = subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL)
        atexit.register(self.stop)
        with suppress(EOFError, OSError):
            self._connection.recv()

    @property
    def pid(self) -> int:
        """Process id of the decoder."""
        return self._process.pid

    def is_usable(self) -> bool:
        """Return whether the process lives and belongs to this process rather than to one that forked it."""
        return self._owner == os.getpid() and self._process.poll() is None

    def call(self, path: Path, request: _Call) -> Any:
        """Send a request and return the function's value. Raises as `run_isolated` does."""
        limit = decode_timeout()
        timed_out = _Failure(BadMedia, (DECODE_TIMEOUT, f"{path}: not read in {limit:g} s"))
        try:
            self._connection.send((request, limit + _GRACE_SECONDS))
            answer: _Result | _Failure = self._connection.recv() if self._connection.poll(limit) else timed_out
        except (EOFError, OSError):
            self._raise_for_exit(path)
        except BaseException:  # the next caller must not receive this clip's answer
            self.stop()
            raise
        if isinstance(answer, _Result):
            return answer.value
        if answer.args[0] == DECODE_TIMEOUT:
            self.stop()
        raise answer.error(*answer.args)

    def stop(self) -> None:
        """Kill the process. One that waits for a dead disk cannot be killed and is abandoned after a second."""
        if self._owner == os.getpid():
            atexit.unregister(self.stop)
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            self._lifeline.close()

    def _raise_for_exit(self, path: Path) -> NoReturn:
        """Raise BadMedia where the process crashed, and DataError where it was killed from outside."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        code = self._process.returncode
        self.stop()
        if code in _CRASH_CODES:
            detail = f"{path}: reading it ended the process with {signal.Signals(-code).name}"
            raise BadMedia(DECODER_CRASHED, detail) from None
        raise DataError(
            f"{path}: the process that reads clips ended with {code} (out of memory?); the clip may be fine, run again"
        ) from None


_LOCK = threading.Lock()
_decoder: _DecoderProcess | None = None


def serve(connection: int, lifeline: int) -> None:
    """Answer requests until the owner closes the connection: the main function of the decoder process.

    Args:
        connection: file descriptor of the pipe with requests and answers.
        lifeline: file descriptor of a pipe; this process ends when its other end is closed.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process
    _exit_when_closed(lifeline)
    with suppress(EOFError, OSError), Connection(connection) as pipe:
        pipe.send("ready")
        while True:
            request, limit = pipe.recv()
            signal.setitimer(signal.ITIMER_REAL, limit)
            answer = _execute(request)
            signal.setitimer(signal.ITIMER_REAL, 0)
            pipe.send(answer)


def _exit_when_closed(lifeline: int) -> None:
    """Let the system end this process when the pipe's other end is closed, whether Python gets a turn or not.

    Where the system does not support that (macOS), the process ends after its clip or at its limit.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before the signal was set up
        os._exit(1)


def _execute(request: _Call) -> _Result | _Failure:
    """Run a request in the decoder process and wrap its value or exception."""
    try:
        return _Result(request.function(*request.args, **request.kwargs))
    except BadMedia as error:
        return _Failure(BadMedia, (error.kind, error.detail))
    except DataError as error:
        return _Failure(DataError, (str(error),))
    except Exception:
        return _Failure(RuntimeError, (traceback.format_exc(),))
