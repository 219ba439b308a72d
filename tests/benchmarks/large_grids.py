"""Time and peak memory of the commands on large grids: the report, the plan, a sweep's own process, a finished sweep again.

    python tests/benchmarks/large_grids.py --against CHECKOUT --out results/large    # nothing else may run beside it; minutes

The folders are made up (--keep DIR leaves them): 100 conditions, 10 numbers of extra tokens x 10 accumulations; with 5 seeds,
2,000 items and 6 controls, in files as a real cell writes them; and with 20 seeds and 60 items. Every command is a process of
one thread. With --against, another checkout of the repository runs each command just before this one does, and all files that
the two write are compared byte by byte.
"""

import argparse
import dataclasses
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from finished_cells import finish  # noqa: E402
from settings import config  # noqa: E402

from qtablate.cell.outputs import ANSWER_COLUMNS, TRAIN_COLUMNS  # noqa: E402
from qtablate.controls import CONTROLS, FULL  # noqa: E402
from qtablate.datatypes import Item  # noqa: E402
from qtablate.grid import Cell  # noqa: E402
from qtablate.report.csv_files import csv_text  # noqa: E402
from qtablate.store import Store  # noqa: E402
from qtablate.sweep.plan import make_plan  # noqa: E402
from qtablate.sweep.write import sweep_file  # noqa: E402
from qtablate.world.benchmark import WorldBench  # noqa: E402

TOKENS = (0, 4, 8, 16, 24, 32, 48, 64, 96, 128)
ACCUMULATIONS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
STEPS = 300
"""Rows of each train.csv of the large cells."""
OPTIONS = 4
PLAN = """
import sys
from rich.console import Console
from qtablate.cli.plan import show_detectable, show_plan, what_it_detects
from qtablate.cli.sweep import read_settings
from qtablate.sweep.forecast import Forecast
from qtablate.sweep.plan import make_plan
given = {("grid", name): text for name, text in zip(("tokens", "accum", "seeds"), sys.argv[1:])} | {("run", "out"): sys.argv[4]}
plan = make_plan(read_settings(given, None))
found = what_it_detects(plan, None, None, None)
show_plan(Console(width=160), plan, Forecast())
show_detectable(Console(width=160), found)
"""
"""What `sweep --dry-run` does beside its probes."""
PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[5])
from finished_cells import Finisher
import qtablate.sweep.run as run
from qtablate.cli.sweep import read_settings
from qtablate.sweep.plan import make_plan
try:
    import qtablate.sweep.executors as executors
except ImportError:  # of an earlier checkout
    executors = run
given = {("grid", name): text for name, text in zip(("tokens", "accum", "seeds"), sys.argv[1:])} | {("run", "out"): sys.argv[4]}
executors.run_jobs = Finisher(lambda cell: 0.5)
rss = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
plan = make_plan(read_settings(given, None))
before = rss()
run.run_plan(plan)
print(before, rss())
"""
"""A sweep whose cells finish at once, without training: what its own process does around them."""

LAUNCH = """
import os, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)
print(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a command from a small process: the peak memory of a process counts that of the one it was forked from."""


@dataclass(frozen=True)
class Command:
    """A command that is measured."""

    what: str
    words: list[str]
    """Of python."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fresh: Path | None = None
    """A folder that is emptied before."""


def grid_words(seeds: int) -> list[str]:
    """The levels of tokens, accumulation and seeds as on the command line."""
    return [",".join(map(str, levels)) for levels in (TOKENS, ACCUMULATIONS, range(1, seeds + 1))]


def make_cells(folder: Path, seeds: int, large: bool) -> None:
    """Write a finished sweep of all conditions; cells have 60 items under one control, or 2,000 under five (`large`)."""
    changes = {
        "tokens": TOKENS,
        "accum": ACCUMULATIONS,
        "seeds": tuple(range(1, seeds + 1)),
        "image_ratio": None,
        "controls": None,
    }
    plan, items = make_plan(config(out=folder, controls=None, **changes)), WorldBench().items if large else ()
    for number, cell in enumerate(plan.cells):
        accuracy = 0.5 + 0.02 * (cell.condition.extra_num_query_tokens > 8) - 0.002 * cell.condition.accumulate_grad_batches
        finish(plan.store, cell, accuracy)
        if large:
            enlarge(plan.store, cell, number, accuracy, items)
    plan.store.write_sweep(sweep_file(plan))


def enlarge(store: Store, cell: Cell, number: int, accuracy: float, items: Sequence[Item]) -> None:
    """Give a finished cell the files of a full-size one."""
    random = np.random.default_rng(number)
    common = np.random.default_rng((7, cell.seed)).uniform(size=len(items))
    lines = [",".join(ANSWER_COLUMNS)]
    for control in (FULL, *CONTROLS):
        share = accuracy if control == FULL else 0.3
        right = 0.7 * common + 0.3 * random.uniform(size=len(items)) < share
        chosen = np.where(right, 0, random.integers(1, OPTIONS, len(items)))
        totals = -8 * random.uniform(size=(len(items), OPTIONS))
        totals[np.arange(len(items)), chosen] = totals.max(axis=1) + 0.1
        for item, good, choice, scores in zip(items, right, chosen, totals, strict=True):
            predicted = (item.answer + choice) % OPTIONS
            texts = ";".join([f"{score:.6g}" for score in np.roll(scores, item.answer)])
            fields = f"{item.answer},{predicted},{predicted},{int(good)},{int(good)},{OPTIONS},{texts},4;4;4;4"
            lines.append(f"{control},{item.id},{item.task},{item.cluster},{fields}")
    store.write_file(store.cell_file(cell.key, "answers.csv"), "\n".join([*lines, ""]))
    tokens, accumulate = cell.condition.extra_num_query_tokens, cell.condition.accumulate_grad_batches
    steps = pd.DataFrame({name: random.uniform(size=STEPS) for name in TRAIN_COLUMNS})
    steps["step"], steps["samples_seen"] = np.arange(STEPS), 8 * accumulate * np.arange(1, STEPS + 1)
    steps["supervised_tokens"] = 40 * accumulate
    steps["loss"] = 2 - np.arange(STEPS) / STEPS + 0.1 * steps["loss"]
    if not tokens:
        steps[["extra_grad_norm", "extra_update", "extra_cosine", "extra_rank"]] = np.nan
    store.write_file(store.cell_file(cell.key, "train.csv"), csv_text(steps[list(TRAIN_COLUMNS)]))
    record = store.read_record(cell.key)
    assert record
    assert record.figures
    controls, task = dict.fromkeys(CONTROLS, record.figures["controls"]["blind"]), record.figures["tasks"][0]
    tasks = [task | {"task": name, "controls": controls} for name in dict.fromkeys(item.task for item in items)]
    figures = record.figures | {"controls": controls, "tasks": tasks}
    store.write_record(dataclasses.replace(record, figures=figures, files=store.checksums(cell.key)))


def commands(folder: Path) -> list[Command]:
    """What is measured; `folder` holds `large` (500 cells) and `many` (2,000 cells)."""
    off = {"QTABLATE_FIGURES": "off"}
    cli, large, many, new = ["-m", "qtablate"], str(folder / "large"), str(folder / "many"), str(folder / "new")
    tokens, accumulations, seeds = grid_words(20)
    grid = ["--tokens", tokens, "--accum", accumulations, "--seeds", seeds]
    return [
        Command("report --no-figures, 500 cells x 2,000 items x 6 controls", [*cli, "report", large, "--no-figures"]),
        Command("report, the same", [*cli, "report", large]),
        Command("report --no-figures, 2,000 cells x 60 items x 2 controls", [*cli, "report", many, "--no-figures"]),
        Command("plan of 2,000 cells without its probes", ["-c", PLAN, tokens, accumulations, seeds, new], fresh=Path(new)),
        Command("plan of 2,000 cells, all finished", [*cli, "sweep", *grid, "--out", many, "--dry-run"]),
        Command("sweep --dry-run of 2,000 cells", [*cli, "sweep", *grid, "--out", new, "--dry-run"], fresh=Path(new)),
        Command("finished sweep of 2,000 cells again, no figures", [*cli, "sweep", *grid, "--out", many], off),
        Command(
            "sweep of 2,000 cells that finish at once, its own process",
            ["-c", PARENT, tokens, accumulations, seeds, new, str(ROOT / "tests")],
            fresh=Path(new),
        ),
    ]


def run(command: Command, checkout: Path) -> tuple[dict[str, float], str]:
    """Run a command with the code of a checkout: seconds by the clock and of processors, peak MB of its largest process; and
    what it printed."""
    if command.fresh:
        subprocess.run(["rm", "-rf", str(command.fresh)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", **command.environment}
    words = [sys.executable, "-S", "-c", LAUNCH, sys.executable, *command.words]
    done = subprocess.run(words, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    *printed, last = done.stdout.strip().split("\n")
    if done.returncode:
        raise SystemExit(f"{command.what}: exit code {done.returncode}\n{done.stdout}")
    return dict(zip(("s", "cpu s", "MB"), map(float, last.split()), strict=True)), "\n".join(printed)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a report has written."""
    names = [path for pattern in ("*.csv", "*.md", "*.html", "plots/*") for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(names)}


def measure(folder: Path, checkouts: Mapping[str, Path], rounds: int, chosen: str) -> pd.DataFrame:
    """Return a row per command: medians over rounds by each checkout, the checkouts in turn."""
    rows = []
    for command in commands(folder):
        if chosen not in command.what:
            continue
        found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        written, last = {}, {}
        for _ in range(rounds):
            for name, checkout in checkouts.items():
                figures, last[name] = run(command, checkout)
                found[name].append(figures)
                written[name] = [digests(folder / part) for part in ("large", "many")]
        row: dict[str, object] = {"what": command.what, "rounds": rounds}
        for name, times in found.items():
            row |= {f"{name} {unit}": statistics.median(one[unit] for one in times) for unit in times[0]}
            row[f"{name} MB around cells"] = last[name].split("\n")[-1] if PARENT in command.words else ""
        row["files"] = "" if len(checkouts) < 2 else "equal" if len(set(map(str, written.values()))) == 1 else "DIFFER"
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/large"))
    parser.add_argument("--against", type=Path, help="another checkout: `git worktree add DIR COMMIT`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the folders are made, or were")
    parser.add_argument("--only", default="", help="commands with this in their description")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.keep or Path(scratch)).resolve()
        for name, seeds in (("large", 5), ("many", 20)):
            if not (folder / name / "sweep.json").exists():
                make_cells(folder / name, seeds, name == "large")
        checkouts = {"before": arguments.against.resolve()} if arguments.against else {}
        table = measure(folder, {**checkouts, "now": ROOT}, arguments.rounds, arguments.only)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out / "large_grids.csv", index=False, float_format="%.4g")
    (arguments.out / "README.md").write_text(markdown(table, arguments.rounds))


def markdown(table: pd.DataFrame, rounds: int) -> str:
    """The table as a page, with its command."""
    shown = table.map(lambda value: f"{value:.3g}" if isinstance(value, float) and value < 1000 else str(value))
    rows = [table.columns.tolist(), ["---"] * len(table.columns), *shown.to_numpy().tolist()]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    head = [
        "# Large grids",
        "",
        f"`python tests/benchmarks/large_grids.py --against CHECKOUT --rounds {rounds} --out results/large`: made-up folders,",
        "100 conditions; seconds by the clock and of processors, and the peak memory of the largest process: medians over the",
        "rounds, the two checkouts in turn, nothing beside them. *files*: whether all tables, texts, pages and plots that both",
        "wrote are equal to the byte. *MB around cells*: of the sweep's own process before and after its cells.",
        "",
    ]
    return "\n".join([*head, *lines]) + "\n"


if __name__ == "__main__":
    main()
