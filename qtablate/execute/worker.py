"""One process of a job: how it is started, what it does, and what it sends back to the sweep."""

import importlib
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, parent_process, resource_tracker, spawn
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from qtablate.execute.events import Notice, Progress
from qtablate.execute.out_of_memory import is_out_of_memory
from qtablate.interrupts import SAVE, SIGNALS, blocked, heed_save
from qtablate.train.rank_info import RankInfo

PRELOADED_DATA = "QTABLATE_TEMPLATE"
"""Environment variable of the fork server: a pickle, written by the sweep itself, of what the modules that it imports read."""
_REPORT_EVERY = 0.25  # seconds between two progress reports of one job


@dataclass(frozen=True, slots=True)
class FinalStatus:
    """How a process of a job ended."""

    kind: Literal["done", "failed", "died", "ended"]
    """`done` and `failed` come from the process itself; `died`: it sent nothing; `ended`: it was ended from here."""
    result: Any = None
    """Return value, where it is `done`."""
    error: str = ""
    traceback: str = ""
    out_of_memory: bool = False
    """Whether one that failed says so; one that the system killed says nothing."""
    failed_at: float = 0.0
    """time.monotonic() of a failure: one clock for all processes of a machine."""
    exit_code: int | None = None
    """Of one that died; None where it cut its connection and ran on."""

    def died_of(self, signum: int) -> bool:
        """Whether this signal killed the process."""
        return self.kind == "died" and self.exit_code == -signum


def describe_error(error: BaseException) -> str:
    """Return type and message of an error, fit for any terminal and any file."""
    try:
        text = str(error)
    except Exception:
        text = "its message cannot be made"
    return _printable(f"{type(error).__name__}: {text}")


def describe_traceback() -> str:
    """Return the traceback of the exception that is being handled, fit for any terminal and any file."""
    return _printable(traceback.format_exc())


def _printable(text: str) -> str:
    """Escape lone surrogates, which cannot be printed."""
    return text.encode("utf-8", "backslashreplace").decode()


def start_worker(
    context: ForkServerContext,
    function: str,
    job: Any,
    connection: Connection,
    device: str | None,
    rank_info: RankInfo | None,
) -> ForkServerProcess:
    """Start a process that runs `function` and sends through the connection; return it.

    Where the fork server is dead, another one is started. Raises OSError or EOFError where that fails too.
    """
    args = (function, job, connection, device, rank_info)
    for pause in (0.1, 0.5, 2.0, None):  # one that is being killed takes no more, and is not dead yet
        start_fork_server()
        process = context.Process(target=_run, args=args, daemon=True)
        try:
            with _main_module_left_alone():
                process.start()
            break
        except (EOFError, OSError):
            if pause is None:
                raise
            time.sleep(pause)
    return process


@contextmanager
def _main_module_left_alone() -> Iterator[None]:
    """Start processes that do not import the caller's `__main__`, as multiprocessing has them do otherwise.

    Jobs name their function, so they need nothing of it; and a script that calls `run_sweep` outside of
    `if __name__ == "__main__":` would begin the sweep again in each of its processes.
    """
    original = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        return {key: value for key, value in original(name).items() if not key.startswith("init_main_from_")}

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = original


def start_fork_server() -> None:
    """Start the fork server, where none runs, deaf to the signals that a terminal or a supervisor sends to the whole group.

    The server and Python's resource tracker end with their owner, in silence. If they reacted to a signal themselves, they
    would print a traceback from the middle of an import.
    """
    with blocked(signal.SIGHUP, SAVE):  # it takes care of the other two itself, and unblocks them for that
        resource_tracker.ensure_running()
    with blocked():
        forkserver.ensure_running()


@dataclass(frozen=True, slots=True)
class Template:
    """What the processes of some jobs share from the start: the fork server reads it once, and each of them is its fork."""

    module: str
    """That reads the data when it is imported, from the pickle that PRELOADED_DATA names."""
    data: Any


@contextmanager
def fork_server_of_its_own(preload: Sequence[str], template: Template) -> Iterator[None]:
    """Have a fork server that imports these modules and the template's start within the block, and end with it.

    One that ran before ends first: it has read other data.
    """
    with tempfile.TemporaryDirectory(prefix="qtablate-") as folder:
        file = Path(folder, "template.pickle")
        file.write_bytes(pickle.dumps(template.data))
        end_fork_server()
        forkserver.set_forkserver_preload([*preload, template.module])
        os.environ[PRELOADED_DATA] = str(file)
        try:
            yield
        finally:
            del os.environ[PRELOADED_DATA]
            end_fork_server()


def end_fork_server() -> None:
    """End the fork server at once, where one runs, so that the next process starts a new one.

    There is no public way: `_stop` is what Python's own tests use, and it waits until the server has ended by itself, which may
    be in the middle of an import.
    """
    server: Any = forkserver._forkserver
    if server._forkserver_pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(server._forkserver_pid, signal.SIGKILL)
    try:
        server._stop()
    except ChildProcessError:  # nobody is told of the end of children where SIGCHLD is ignored
        server._forkserver_pid = server._forkserver_address = None


def _run(function: str, job: Any, connection: Connection, device: str | None, rank_info: RankInfo | None) -> None:
    """Run the job in this process and send its reports and its final status."""
    _set_up_process(device)

    def abandon() -> None:  # nobody wants the result any more; a file that is being written is written aside
        if rank_info:
            shutil.rmtree(rank_info.rendezvous_file.parent, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=_call_when_parent_ends, args=(abandon,), daemon=True).start()
    last_sent = 0.0

    def send(message: Progress | Notice | FinalStatus) -> None:
        try:
            connection.send(message)
        except OSError:  # the parent is gone
            abandon()

    def report(message: Progress | Notice) -> None:
        nonlocal last_sent
        if isinstance(message, Notice):
            send(Notice(_printable(message.text)))
            return
        now = time.monotonic()
        if now - last_sent >= _REPORT_EVERY or message.done == message.total:
            last_sent = now
            send(message)

    module, _, name = function.partition(":")
    ranked = [rank_info] if rank_info else []
    try:
        send(FinalStatus("done", getattr(importlib.import_module(module), name)(job, report, *ranked)))
    except BaseException as error:  # a result that cannot be pickled, and SystemExit, which would end it without a status
        failed_at = time.monotonic()
        error_text, memory = describe_error(error), is_out_of_memory(error)
        send(FinalStatus("failed", error=error_text, traceback=describe_traceback(), out_of_memory=memory, failed_at=failed_at))


def _set_up_process(device: str | None) -> None:
    """Set the process's signals and environment, before anything looks at CUDA."""
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # they reach the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the sweep's own caller ignores
    heed_save()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, SAVE))
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):  # of a launcher around the sweep: Accelerate would look for its ranks
        os.environ.pop(name, None)


def _call_when_parent_ends(function: Callable[[], None]) -> None:
    """Wait for the end of the process that asked for this one, which is the sweep and not the fork server; then call."""
    owner = parent_process()
    assert owner is not None
    owner.join()
    function()
