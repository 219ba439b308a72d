"""Launching the command as a user does, whatever this process's own caller ignores, and seeing what is left of it."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qtablate.interrupts import SIGNALS
from qtablate.records import MEASURED


def command(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "qtablate", *words]


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"QTABLATE_CACHE": str(cache), "COLUMNS": "100"}


def qtablate(cache: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*words), env=environment(cache), capture_output=True, text=True, check=False, timeout=300)


@contextmanager
def heeding(*ignored: signal.Signals) -> Iterator[None]:
    """What is started within ignores these signals and no other of those that stop a command. A process inherits what is
    ignored, and a background job of a script, as which tests may run, ignores Ctrl-C."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN if signum in ignored else signal.SIG_DFL)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def running(
    words: list[str], env: dict[str, str] | None = None, ignored: tuple[signal.Signals, ...] = (), **options: Any
) -> Iterator[subprocess.Popen]:
    """A process in a group of its own; whatever of the group is left at the end is killed, so that no test finds it."""
    with heeding(*ignored):
        process = subprocess.Popen(
            words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def wait_until(true: Callable[[], Any], seconds: float = 60.0, pause: float = 0.01) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True


def alive(session: int) -> list[str]:
    """What still runs of the processes that share the session of one that `running` started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name, _, rest = (folder / "stat").read_text().rpartition(")")
                state, _, _, of = rest.split()[:4]
                if int(of) == session and state != "Z":
                    found.append(f"{name}) {(folder / 'cmdline').read_text()[:200]!r}")
            except OSError:
                continue
    return found


def rows(path: Path, drop: tuple[str, ...] = (*MEASURED, "seconds")) -> list[dict[str, str]]:
    """A CSV without the columns that the machine decides."""
    with path.open() as file:
        return [{name: value for name, value in row.items() if name not in drop} for row in csv.DictReader(file)]


def tables(out: Path) -> dict[str, list[dict[str, str]]]:
    return {str(p.relative_to(out)): rows(p) for p in sorted(out.rglob("*.csv")) if p.is_file()}
