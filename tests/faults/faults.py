"""Faults while a sweep runs, each with what must hold afterwards: the tables are those of a sweep that nobody disturbed, no
cell has run twice to its end, nothing is left over, and what was said is one clear message.

    python tests/faults/faults.py --out results/faults       # all of them, and the table; needs root for some
    python -m pytest -m slow tests/faults                    # the same as tests

Slurm and Ray have theirs in tests/clusters. Times differ between machines; nothing else of the table should.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from launch import alive, command, environment, qtablate, running, tables, wait_until

GRID = ["--tokens", "0,4", "--accum", "1", "--seeds", "1,2", "--samples", "128", "--items-per-task", "3", "--controls", "blind"]
KILLS = 50
"""SIGKILLs at random moments, of the sweep, of its fork server and of its cells' processes in turn."""
_QUICK_CLAIMS = """
import sys
from qtablate.claims import heart
heart.STALE_AFTER, heart.BEAT_SECONDS = 6.0, 1.0
from qtablate.__main__ import main
sys.argv = ["qtablate", *sys.argv[1:]]
main()
"""
"""Runs the command with claims that go stale sooner: nothing else of the protocol depends on how long that takes."""


class Broken(AssertionError):
    """What must hold does not."""


def check(holds: object, otherwise: str) -> None:
    """Raise Broken unless something holds."""
    if not holds:
        raise Broken(otherwise)


@dataclass
class Bench:
    """A folder to work in, and what an undisturbed sweep comes to."""

    root: Path
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of every cell that was seen finished: time and inode of its record, which change where it runs to the end again."""

    @property
    def cache(self) -> Path:
        """Of visual features, shared by all sweeps."""
        return self.root / "cache"

    @cached_property
    def whole(self) -> dict[str, list[dict[str, str]]]:
        """The tables of a sweep that nobody disturbed."""
        out = self.root / "whole"
        done = qtablate(self.cache, "sweep", *GRID, "--out", str(out))
        check(done.returncode == 0, done.stderr)
        return tables(out)

    def sweep(self, out: Path, *more: str, quick_claims: bool = False) -> "contextmanager[subprocess.Popen]":
        """A sweep that runs."""
        words = ["sweep", *GRID, *more, "--out", str(out)]
        start = [sys.executable, "-c", _QUICK_CLAIMS, *words] if quick_claims else command(*words)
        return running(start, environment(self.cache))

    def finish(self, out: Path, *more: str) -> str:
        """Run the same command until it ends by itself; what it says is returned."""
        done = qtablate(self.cache, "sweep", *GRID, *more, "--out", str(out))
        check(done.returncode == 0, f"exit code {done.returncode}: {done.stderr}")
        return done.stdout + done.stderr

    def note_ends(self, out: Path) -> None:
        """See which cells are finished, and that none of those seen before was run to its end again."""
        for path in out.glob("cells/*/record.json"):
            with suppress(OSError, ValueError):
                if json.loads(path.read_text())["status"] == "ok":
                    status = path.stat()
                    now = (status.st_mtime_ns, status.st_ino)
                    before = self.ends.setdefault(f"{out}/{path.parent.name}", now)
                    check(before == now, f"cell {path.parent.name} ran twice to its end")

    def check_tables(self, out: Path) -> None:
        """See that the tables are those of an undisturbed sweep and that nothing is left over."""
        self.note_ends(out)
        check(tables(out) == self.whole, f"tables differ: {_differing(tables(out), self.whole)}")
        left = [str(path.relative_to(out)) for path in out.rglob(".*")]
        check(not left, f"left over: {left}")
        check(not (out / "claims").exists(), "claims are left over")


def _differing(one: dict, other: dict) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def random_kills(bench: Bench) -> str:
    """SIGKILL at random moments: the sweep, its fork server, a cell's process"""
    assert bench.whole
    random.seed(19)
    kills = dict.fromkeys(("sweep", "fork server", "cell"), 0)
    sweeps = 0
    while sum(kills.values()) < KILLS:
        out = bench.root / f"kills-{sweeps}"
        sweeps += 1
        while True:
            with bench.sweep(out) as process:
                while sum(kills.values()) < KILLS and not _ends_within(process, random.uniform(0.3, 5.0)):
                    targets = {name: target for name in kills if (target := _process_of(process.pid, name))}
                    wanted = random.choice(list(targets))
                    with suppress(ProcessLookupError):
                        os.kill(targets[wanted], signal.SIGKILL)
                        kills[wanted] += 1
                said, _ = process.communicate(timeout=200)
                check("Traceback" not in said, said)
                check(wait_until(lambda pid=process.pid: not alive(pid), 10), f"still running: {alive(process.pid)}")
            bench.note_ends(out)
            if process.returncode == 0:
                break
            check(process.returncode in (1, -signal.SIGKILL), f"exit code {process.returncode}: {said}")
        bench.check_tables(out)
    return f"{sum(kills.values())} kills ({', '.join(f'{n} {name}' for name, n in kills.items())}) in {sweeps} sweeps"


def _ends_within(process: subprocess.Popen, seconds: float) -> bool:
    return wait_until(lambda: process.poll() is not None, seconds)


def _process_of(sweep: int, what: str) -> int:
    """A sweep, its fork server, or one of its cells' processes; 0 where there is none now."""
    if what == "sweep":
        return sweep
    servers = [child for child in _children(sweep) if "forkserver" in _words(child)]
    if what == "fork server":
        return servers[0] if servers else 0
    cells = [child for server in servers for child in _children(server)]
    return random.choice(cells) if cells else 0


def _children(process: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def _words(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def two_drivers(bench: Bench) -> str:
    """Two sweeps of one grid in one folder at once"""
    assert bench.whole
    out = bench.root / "two"
    with bench.sweep(out, "--jobs", "1") as first, bench.sweep(out, "--jobs", "1") as second:
        said = [process.communicate(timeout=300)[0] for process in (first, second)]
    check((first.returncode, second.returncode) == (0, 0), "\n".join(said))
    bench.check_tables(out)
    shared = sum("seed" in line and "accuracy" in line and line.startswith("[") for text in said for line in text.splitlines())
    return f"both end with exit code 0; {shared} ends of cells were reported by the two together"


def two_grids(bench: Bench) -> str:
    """Two sweeps of different grids in one folder at once"""
    out = bench.root / "grids"
    with bench.sweep(out) as first:
        check(wait_until(lambda: list(out.glob("claims/sweep-*")), 60), "the first does not begin")
        other = qtablate(bench.cache, "sweep", *GRID[2:], "--tokens", "0,8", "--out", str(out))
        check(other.returncode == 2, f"exit code {other.returncode}")
        check("--tokens: 0,4 there, 0,8 here" in other.stderr, other.stderr)
        said, _ = first.communicate(timeout=300)
    check(first.returncode == 0, said)
    bench.check_tables(out)
    return "the second is refused: " + other.stderr.strip()[7:].replace(str(bench.root), "...")


def suspended_driver(bench: Bench) -> str:
    """A sweep and its cells are suspended; another takes over; the first wakes up"""
    assert bench.whole
    out = bench.root / "suspended"
    with bench.sweep(out, "--jobs", "2", quick_claims=True) as first:
        check(
            wait_until(lambda: list(out.glob("cells/*/train.csv")) or len(list(out.glob("claims/*"))) > 2, 120), "no cell runs"
        )
        os.killpg(first.pid, signal.SIGSTOP)
        with bench.sweep(out, quick_claims=True) as second:
            said, _ = second.communicate(timeout=300)
        check(second.returncode == 0, said)
        bench.note_ends(out)
        os.killpg(first.pid, signal.SIGCONT)
        woken, _ = first.communicate(timeout=300)
    check(first.returncode == 0, woken)
    bench.check_tables(out)
    return "the second finishes every cell; the first wakes, writes none of its own and ends with exit code 0"


def hanging_cell(bench: Bench) -> str:
    """A cell's process hangs (SIGSTOP) until its time limit"""
    assert bench.whole
    out = bench.root / "hanging"
    with bench.sweep(out, "--jobs", "1", "--cell-timeout", "0.4") as process:
        check(wait_until(lambda: list(out.glob("cells/*/record.json")), 120), "no cell begins")
        os.kill(_process_of(process.pid, "cell"), signal.SIGSTOP)
        said, _ = process.communicate(timeout=300)
    check(process.returncode == 1, said)
    check("it took more than 24 s (--cell-timeout) and was ended" in said, said)
    bench.note_ends(out)
    bench.finish(out)
    bench.check_tables(out)
    return "the cell is named and ended, the others finish, exit code 1; the same command runs it"


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[None]:
    """A file system of its own, as small as that."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(bench: Bench) -> str:
    """The results folder's disk is full in the middle; then there is room"""
    assert bench.whole
    messages = set()
    for number, megabytes in enumerate((0.05, 0.15, 0.4)):
        disk = bench.root / f"disk-{number}"
        with small_disk(disk, megabytes):
            done = qtablate(bench.cache, "sweep", *GRID, "--out", str(disk / "r"))
            check(done.returncode in (1, 2), f"exit code {done.returncode}: {done.stderr}")
            check("No space left on device" in done.stderr, done.stderr)
            check("Traceback" not in done.stderr, done.stderr)
            messages |= {f"exit code {done.returncode}"}
            bench.note_ends(disk / "r")
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            bench.finish(disk / "r")
            bench.check_tables(disk / "r")
    return f"with 50, 150 and 400 kB: {', '.join(sorted(messages))}, named with the file; afterwards the same command finishes"


def read_only(bench: Bench) -> str:
    """The results folder becomes read-only in the middle; then it can be written again"""
    assert bench.whole
    disk = bench.root / "read-only"
    with small_disk(disk, 64):
        out = disk / "r"
        with bench.sweep(out) as process:
            check(wait_until(lambda: list(out.glob("cells/*/record.json")), 120), "no cell begins")
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            said, _ = process.communicate(timeout=300)
        check(process.returncode in (1, 2), f"exit code {process.returncode}: {said}")
        check("Read-only file system" in said, said)
        check("Traceback" not in said, said)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        bench.note_ends(out)
        bench.finish(out)
        bench.check_tables(out)
    return f"exit code {process.returncode}, one message with the file; afterwards the same command finishes"


def clock_jumps(bench: Bench) -> str:
    """A second machine's clock is three days ahead, then one is three days behind"""
    check(shutil.which("faketime"), "faketime is not installed (Debian: faketime)")
    assert bench.whole
    for days in ("+3d", "-3d"):
        out = bench.root / f"clock{days}"
        words = command("sweep", *GRID, "--jobs", "1", "--out", str(out))
        with (
            bench.sweep(out, "--jobs", "1") as first,
            running(["faketime", "-f", days, *words], environment(bench.cache)) as second,
        ):
            said = [process.communicate(timeout=300)[0] for process in (first, second)]
        check((first.returncode, second.returncode) == (0, 0), "\n".join(said))
        bench.check_tables(out)
    return "both end with exit code 0; nobody takes over what another runs"


def damaged_files(bench: Bench) -> str:
    """Each file of a finished cell is cut, emptied, filled with zeros or removed"""
    assert bench.whole
    out, spoilt = bench.root / "damaged", 0
    bench.finish(out)
    damages: tuple[Callable[[Path], object], ...] = (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        lambda path: path.unlink(),
    )
    for name in ("record.json", "answers.csv", "train.csv"):
        for damage in damages:
            damage(sorted(out.glob(f"cells/*/{name}"))[0])
            spoilt += 1
            bench.ends.clear()  # it has to run again
            bench.finish(out)
            bench.check_tables(out)
    return f"{spoilt} damages: each runs that cell again, and no other table changes"


def moved_folder(bench: Bench) -> str:
    """A killed sweep's folder goes to another machine"""
    assert bench.whole
    out, there = bench.root / "here", bench.root / "there"
    with bench.sweep(out) as process:
        check(wait_until(lambda: len(list(out.glob("claims/*"))) > 1, 120), "no cell is claimed")
        process.kill()
        process.wait()
    bench.note_ends(out)
    shutil.copytree(out, there)
    for path in there.glob("claims/*.json"):  # written by a machine of which nothing can be known there
        content = json.loads(path.read_text())
        content["owner"] |= {"host": "another", "space": "another"}
        path.write_text(json.dumps(content))
    shutil.rmtree(out)
    began = time.monotonic()
    with bench.sweep(there, quick_claims=True) as process:
        said, _ = process.communicate(timeout=300)
    check(process.returncode == 0, said)
    check(time.monotonic() - began > 6, "a claim that may be alive was not waited for")
    check("run by process" in said, said)
    for path in there.glob("claims/*.json"):  # the sweep that was killed, on a machine that does not exist
        path.unlink()
    (there / "claims").rmdir()
    bench.check_tables(there)
    return "claims of the other machine are watched until they are stale, then taken over"


FAULTS: tuple[Callable[[Bench], str], ...] = (
    random_kills,
    two_drivers,
    two_grids,
    suspended_driver,
    hanging_cell,
    full_disk,
    read_only,
    clock_jumps,
    damaged_files,
    moved_folder,
)
"""Each raises Broken, or returns what was seen."""


def main() -> None:
    """Run all faults and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rows, broken = [], 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        assert bench.whole
        for fault in FAULTS:
            began = time.monotonic()
            try:
                seen, holds = fault(bench), "yes"
            except Exception as error:
                seen, holds, broken = f"{type(error).__name__}: {error}"[:300].replace("\n", " "), "**no**", broken + 1
            rows.append(f"| {(fault.__doc__ or '').strip()} | {holds} | {seen} | {time.monotonic() - began:.0f} |")
            print(rows[-1], flush=True)
    head = ["| fault | tables as undisturbed | what was seen | s |", "|---|---|---|---:|"]
    out.mkdir(parents=True, exist_ok=True)
    text = [
        "# Faults",
        "",
        "A sweep of 4 cells, disturbed, then the same command until it ends: tables byte-identical to an undisturbed sweep's",
        "(times aside), no cell run twice to its end, nothing left over, no traceback.",
        "",
        "`python tests/faults/faults.py --out results/faults`; Slurm and Ray: `python -m pytest -m slow tests/clusters`.",
        "",
    ]
    (out / "README.md").write_text("\n".join([*text, *head, *rows]) + "\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
