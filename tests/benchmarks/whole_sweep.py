"""Whole sweeps by the clock: the default grid, one worker against two, what is lost between cells, start, and shared memory.

    python tests/benchmarks/whole_sweep.py --out results/speed       # nothing else may run beside it; some minutes

Each sweep runs as a user starts it, with all features cached. `pure` is the sum over cells of the seconds of training steps
and of scoring, from cells.csv; overhead is (seconds of the command from the first reported step on) x workers / pure.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
from learner import markdown

COMMAND = [sys.executable, "-m", "qtablate"]
FOUR = ["--tokens", "32", "--accum", "1", "--seeds", "1,2,3,4"]


def timed(words: list[str], times: int) -> tuple[float, float]:
    """Median (seconds, seconds of processor) of a command."""
    found = []
    for _ in range(times):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*COMMAND, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((time.perf_counter() - began, cpu))
    return statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found)


def sweep(words: list[str], folder: Path, memory: dict[str, list[float]] | None = None) -> dict[str, float]:
    """Run a sweep; seconds of the command, until its first training step is reported and from then on, and pure ones."""
    began = time.perf_counter()
    with subprocess.Popen(
        [*COMMAND, "sweep", *words, "--out", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        first_step = float("nan")
        assert process.stderr is not None
        if memory is not None:
            threading.Thread(target=watch, args=(process.pid, memory), daemon=True).start()
        for line in process.stderr:
            if first_step != first_step and ": step " in line:
                first_step = time.perf_counter() - began
    seconds = time.perf_counter() - began
    assert process.returncode == 0
    cells = pd.read_csv(folder / "cells.csv")
    pure = float(cells[["train_seconds", "eval_seconds", "control_seconds"]].sum().sum())
    return {"command s": seconds, "from first step s": seconds - first_step, "first step s": first_step, "pure s": pure}


def watch(pid: int, memory: dict[str, list[float]]) -> None:
    """Note RSS and PSS in MB of the running cells: processes of the fork server of `pid` that train."""
    while Path(f"/proc/{pid}").is_dir():
        time.sleep(2.0)
        for server in children(pid):
            for cell in children(server):
                try:
                    text = Path(f"/proc/{cell}/smaps_rollup").read_text()
                except OSError:
                    continue
                for name in ("Rss", "Pss"):
                    memory.setdefault(name, []).append(int(text.split(f"{name}:")[1].split()[0]) / 1024)


def children(pid: int) -> list[int]:
    """Process ids of a process's children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    arguments = parser.parse_args()
    rows: list[tuple[str, float]] = []
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows.append(("--help, seconds of processor, median of 5", timed(["--help"], 5)[1]))
        sweep(["--tokens", "32", "--accum", "1", "--seeds", "9"], folder / "warm")
        memory: dict[str, list[float]] = {}
        whole = sweep([], folder / "default", memory)
        rows.append(("default grid, 18 cells, two workers: command, s", whole["command s"]))
        rows.append(("of it training and scoring alone, s of one core", whole["pure s"]))
        rows.append(("first step reported after, s", whole["first step s"]))
        overhead = whole["from first step s"] * 2 / whole["pure s"]
        rows.append(("overhead from the first step on: wall x 2 / pure", overhead))
        rows.append(("the finished sweep again, s, median of 3", timed(["sweep", "--out", str(folder / "default")], 3)[0]))
        rows.append(("report, s, median of 3", timed(["report", str(folder / "default")], 3)[0]))
        rows.append(("a running cell's RSS, MB, median", statistics.median(memory["Rss"])))
        rows.append(("a running cell's PSS, MB, median", statistics.median(memory["Pss"])))
        cells = pd.read_csv(folder / "default" / "cells.csv")
        cells["seconds"] = cells[["train_seconds", "eval_seconds", "control_seconds"]].sum(axis=1)
        for tokens, group in cells.groupby("extra_num_query_tokens"):
            rows.append(
                (f"a cell of {tokens} extra tokens, training and scoring, two at once, s, mean", group["seconds"].mean())
            )
        one = sweep([*FOUR, "--jobs", "1"], folder / "one")
        two = sweep([*FOUR, "--jobs", "2"], folder / "two")
        for name, found in (("one", one), ("two", two)):
            rows.append((f"4 cells of 32 tokens, {name} at once: from the first step on, s", found["from first step s"]))
            rows.append((f"4 cells of 32 tokens, {name} at once: pure, s", found["pure s"]))
        rows.append(("two workers against one", one["from first step s"] / two["from first step s"]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = f"One run each; {platform.machine()}, {os.cpu_count()} cores.\n\n" + markdown(
        pd.DataFrame(rows, columns=["what", "found"]), 2
    )
    (arguments.out / "whole.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
