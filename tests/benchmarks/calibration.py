"""Measures what the report claims on simulated grids with known effects: coverage, false claims, power, required seeds.

    python tests/benchmarks/calibration.py [--runs 1000] [--out results/statistics] [--processes 2]

Answers are drawn item by item (simulated_reports.py) and go through the report's own code. On the same grids stand the report's
former rule and others that were considered (interval_rules.py). Tables, and a CSV file for each, are written to --out.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from calibration_tables import described
from compared_folders import PAIRS, compared
from report_errors import Row, coverage_and_errors, selection, with_one_seed
from report_power import power
from simulated_reports import DESIGNS, README

COVERAGE, POWER, SELECTION, COMPARE = "calibration", "calibration_power", "calibration_selection", "calibration_compare"
"""Names of the CSV files."""
Task = tuple[str, int, int]
"""The file, the number of the design and the number of grids."""


def coverage_rows(number: int, runs: int) -> list[Row]:
    return coverage_and_errors(DESIGNS[number], number, runs)


def power_rows(number: int, runs: int) -> list[Row]:
    return [power(DESIGNS[number], number, runs)]


def selection_rows(number: int, runs: int) -> list[Row]:
    return [selection((README, with_one_seed(README))[number], number, runs)]


def compare_rows(number: int, runs: int) -> list[Row]:
    return compared(PAIRS[number], number, runs)


STUDIES: dict[str, tuple[Callable[[int, int], list[Row]], int]] = {
    COVERAGE: (coverage_rows, len(DESIGNS)),
    POWER: (power_rows, len(DESIGNS)),
    COMPARE: (compare_rows, len(PAIRS)),
    SELECTION: (selection_rows, 2),
}


def measured(task: Task) -> tuple[Task, list[Row]]:
    """Run one design of one study."""
    name, number, runs = task
    return task, STUDIES[name][0](number, runs)


def write(found: Sequence[tuple[Task, list[Row]]], out: Path, runs: int) -> None:
    """Write a CSV file a study, and all tables in one document."""
    tables = [pd.DataFrame([row for (of_study, *_), rows in found if of_study == study for row in rows]) for study in STUDIES]
    out.mkdir(parents=True, exist_ok=True)
    for name, table in zip(STUDIES, tables, strict=True):
        table.round(4).to_csv(out / f"{name}.csv", index=False)
    (out / "calibration.md").write_text(described(*tables, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the processes that are started below
    start, found = time.perf_counter(), dict[Task, list[Row]]()
    tasks = [(name, number, arguments.runs) for name, (_, count) in STUDIES.items() for number in range(count)]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for task, rows in pool.imap_unordered(measured, tasks):
            found[task] = rows
            print(
                f"{time.perf_counter() - start:6.0f} s  {len(found)} of {len(tasks)}: {task[0]}, {rows[0]['design']}",
                flush=True,
            )
    write([(task, found[task]) for task in tasks], arguments.out, arguments.runs)


if __name__ == "__main__":
    main()
