"""Launching the command as a user does, whatever this process's own caller ignores, and seeing what is left of it."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest

from qtablate import Results, run_sweep
from qtablate.cli.main import main
from qtablate.cli.options import Given
from qtablate.cli.sweep import read_settings
from qtablate.config import fields
from qtablate.interrupts import SIGNALS
from qtablate.records import MEASURED
from qtablate.report.build import report


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


def here(*words: object, code: int = 0) -> str:
    """What `qtablate WORDS` prints, run in this process."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
        patch.setattr(sys, "argv", ["qtablate", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert (stop.value.code or 0) == code, out.getvalue()
    return out.getvalue()


def given_of(words: Iterable[object]) -> Given:
    """The settings of options as they stand on the command line."""
    flags = {flag: (place, option) for place, option in fields().items() for flag in (option.flag, option.negative)}
    given: Given = {}
    rest = list(map(str, words))
    while rest:
        flag = rest.pop(0)
        place, option = flags[flag]
        if option.takes_two:
            given[place], rest = tuple(rest[:2]), rest[2:]
        else:
            switch = not rest or rest[0].startswith("--")
            given[place] = flag == option.flag if switch else rest.pop(0)
    return given


def swept(cache: Path, *words: object) -> Results:
    """`qtablate sweep WORDS` and the tables of its report, without plots and page, in this process, whose fork server imports
    torch once for all tests."""
    given = given_of(words)
    before = os.environ.get("QTABLATE_CACHE")
    os.environ["QTABLATE_CACHE"] = str(cache)
    try:
        results = run_sweep(read_settings(given, None))
    finally:
        if before is None:
            del os.environ["QTABLATE_CACHE"]
        else:
            os.environ["QTABLATE_CACHE"] = before
    report(results.store, figures=False)
    return results


def sweeping(cache: Path, *words: object) -> list[str]:
    """A command that does what `swept` does, to be killed."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from launch import swept; swept(*sys.argv[2:])"
    return [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, (cache, *words))]
