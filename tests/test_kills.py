"""A sweep that is stopped or killed at any moment leaves no traceback and no process, and goes on to the same tables.

The default run does it once; every signal at every stage: python -m pytest -m slow tests/test_kills.py
"""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launch import alive, command, environment, qtablate, running, swept, tables, wait_until

from qtablate.interrupts import SIGNALS
from qtablate.model.cache import prune

TINY = ["--samples", "64", "--items-per-task", "3", "--tokens", "0", "--accum", "1", "--seeds", "1", "--controls", "blind"]


def mapped(library: str) -> Callable[[int, Path, Path], bool]:
    """Whether the command itself has loaded a library."""
    return lambda pid, out, cache: library in Path(f"/proc/{pid}/maps").read_text()


def features(n: int, pattern: str) -> Callable[[int, Path, Path], bool]:
    return lambda pid, out, cache: len(list((cache / "features").glob(pattern))) >= n


def there(pattern: str) -> Callable[[int, Path, Path], bool]:
    return lambda pid, out, cache: bool(list(out.glob(pattern)))


def finished(pid: int, out: Path, cache: Path) -> bool:
    return any(json.loads(path.read_text())["status"] == "ok" for path in out.glob("cells/*/record.json"))


STAGES: dict[str, Callable[[int, Path, Path], bool]] = {
    "interpreter start": lambda pid, out, cache: True,
    "imports": mapped("_multiarray_umath"),
    "plan": mapped("/pandas/_libs/"),
    "fork server imports": there("sweep.json"),
    "features": features(1, "*"),
    "probe": features(2, "*.json"),
    "training": there("cells/*/record.json"),
    "evaluation": there("cells/*/train.csv"),
    "tables": finished,
    "report": there("report.md"),
}
"""When a stage has begun. What is sent then may arrive in the next one, and after the last one too late."""

EVERY = [(stage, signum) for stage in STAGES for signum in (*SIGNALS, signal.SIGKILL)]
QUICK = [("training", signal.SIGHUP)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    """The tables of a sweep that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    swept(folder / "cache", *TINY, "--out", folder / "r")
    return tables(folder / "r")


@pytest.mark.parametrize(
    ("stage", "signum"),
    [pytest.param(*one, marks=[] if one in QUICK else pytest.mark.slow, id=f"{one[0]}-{one[1].name}") for one in EVERY],
)
def test_stopped_or_killed_it_goes_on_to_the_same_tables(whole, tmp_path, stage, signum):
    """The signals of a terminal reach the whole group, a kill the command alone."""
    out, cache = tmp_path / "r", tmp_path / "cache"
    words = ["sweep", *TINY, "--out", str(out)]
    with running(command(*words), environment(cache)) as process:
        assert wait_until(lambda: process.poll() is not None or STAGES[stage](process.pid, out, cache), 120, 0.002)
        if signum == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, signum)
        said, _ = process.communicate(timeout=60)
        assert wait_until(lambda: not alive(process.pid), 30 if stage == "fork server imports" else 5), alive(process.pid)
    by_python = stage == "interpreter start"  # before the first line of this program
    assert process.returncode in {128 + signum, -signum} | ({0} if stage == "report" else set()), said
    assert "Traceback" not in said or (by_python and signum == signal.SIGINT)
    if signum != signal.SIGKILL and not by_python and process.returncode:
        assert process.returncode == 128 + signum
        assert "Stopped" in said
        assert ("Go on with the same command: qtablate sweep" in said) == (out / "sweep.json").exists()
    done = qtablate(cache, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tables(out) == whole
    prune(cache / "features", 0, now=time.time() + 25 * 3600)  # other sweeps write there, so that leftovers stay for a day
    hidden = [path for folder in (out, cache) for path in folder.rglob(".*")]
    assert not hidden
    assert not (out / "claims").exists()


@pytest.mark.slow
def test_a_sweep_in_the_background_of_a_script_is_stopped_by_sigterm(tmp_path):
    """Ctrl-C is ignored there, as the script's shell has it; and under nohup a terminal that closes stops nothing."""
    out, cache = tmp_path / "r", tmp_path / "cache"
    words = command("sweep", *TINY, "--out", str(out))
    with running(words, environment(cache), ignored=(signal.SIGINT, signal.SIGHUP)) as process:
        for stage in ("imports", "fork server imports", "training"):
            assert wait_until(lambda stage=stage: STAGES[stage](process.pid, out, cache), 120, 0.002)
            os.killpg(process.pid, signal.SIGINT)
            os.killpg(process.pid, signal.SIGHUP)
        assert process.poll() is None
        process.terminate()
        said, _ = process.communicate(timeout=60)
        assert wait_until(lambda: not alive(process.pid), 5), alive(process.pid)
    assert process.returncode == 143
    assert "Stopped: 0 of 1 cells are finished" in said
    assert "Traceback" not in said
