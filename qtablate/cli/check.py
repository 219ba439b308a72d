"""`qtablate check`: gates on the results of a sweep, for continuous integration.

qtablate check results/smoke --above-blind --max-failed 0
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from qtablate.cli.console import console, exit_unless, say, show_tables
from qtablate.cli.options import number
from qtablate.errors import ConfigError

if TYPE_CHECKING:
    from qtablate.report.gates.judge import Gate
    from qtablate.table import Table

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Environment variable of GitHub Actions that names the file of a step's summary."""


def check(
    results: Annotated[Path, typer.Argument(help="A results folder.")],
    max_failed: Annotated[
        int | None, typer.Option(min=0, help="At most this number of the sweep's cells are not finished.", metavar="N")
    ] = None,
    above_blind: Annotated[
        bool, typer.Option("--above-blind", help="Every finished cell scores above its blind control by two standard errors.")
    ] = False,
    min_accuracy: Annotated[
        float | None, number(0, 1, help="The mean accuracy of every condition is at least this share, from 0 to 1.")
    ] = None,
    better: Annotated[
        list[str] | None,
        typer.Option(
            help="The first level beats the second, such as tokens=32,tokens=0. May stand several times.", metavar="A,B"
        ),
    ] = None,
    max_drop: Annotated[
        float | None, number(0, help="No condition is surely worse than in --against by more than this number of points.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="For --max-drop: the results folder to compare with.")] = None,
    split_equivalent: Annotated[
        bool, typer.Option("--split-equivalent", help="Cells that split one effective batch in different ways coincide.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write the outcomes as JUnit XML to this file.")] = None,
) -> None:
    """Check the results of a sweep against gates; exit code 1 where one fails or cannot be judged."""
    from qtablate.report.gates.better import parse_better
    from qtablate.report.gates.drop import MaxDrop
    from qtablate.report.gates.judge import GATES, judge_gates
    from qtablate.report.gates.tables import gate_table
    from qtablate.report.results import load
    from qtablate.store import Store

    pairs = [parse_better(text) for text in better or ()]
    if len(set(pairs)) < len(pairs):
        raise ConfigError("--better: expected different comparisons, got one of them twice; leave it out")
    if (max_drop is None) != (against is None):
        given, lacking = ("--max-drop", "--against DIR") if against is None else ("--against", "--max-drop POINTS")
        raise ConfigError(f"{given} needs {lacking}: give both, or leave it out")
    if against and against.resolve() == results.resolve():
        raise ConfigError(f"--against: expected another results folder, got {against} itself; name the one to compare with")
    values = {
        "max-failed": max_failed,
        "above-blind": above_blind or None,
        "min-accuracy": min_accuracy,
        "better": pairs or None,
        "max-drop": None if max_drop is None or against is None else MaxDrop(max_drop / 100, Store(against)),
        "split-equivalent": split_equivalent or None,
    }
    asked = {name: value for name, value in values.items() if value is not None}
    if not asked:
        raise ConfigError(f"expected a gate, got none; give one or more of {', '.join(f'--{name}' for name in GATES)}")
    opened = load(results)
    if against:
        Store(against).read_sweep()  # a folder that is no sweep's is a mistake, one that cannot be compared fails the gate
    gates, seconds = [], []
    begun = time.monotonic()
    for gate in judge_gates(opened, asked):
        gates.append(gate)
        seconds.append(time.monotonic() - begun)
        begun = time.monotonic()
    table = gate_table(gates, str(results))
    show_tables(console(), [table])
    if junit:
        _write_junit(junit, gates, seconds, str(results))
    _append_summary(console(stderr=True), table)
    failed = sum(not gate.passed for gate in gates)
    said = f"{failed} of {len(gates)} gates failed." if failed else f"All {len(gates)} gates passed."
    say(console(), said, style="red" if failed else None)
    exit_unless(not failed)


def _write_junit(path: Path, gates: "Sequence[Gate]", seconds: Sequence[float], folder: str) -> None:
    """Write the file of --junit. Raises ConfigError where that is not possible."""
    from qtablate.files import write_text
    from qtablate.report.gates.tables import junit_xml

    try:
        write_text(path, junit_xml(gates, seconds, folder))
    except OSError as error:
        raise ConfigError(f"--junit: {path} cannot be written ({error.strerror}): name a file in a folder of yours") from None


def _append_summary(screen: Console, table: "Table") -> None:
    """Append the table to the summary of a step of GitHub Actions; warn where that is not possible."""
    path = os.environ.get(SUMMARY)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(table.markdown() + "\n\n")
    except OSError as error:
        say(screen, f"warning: {SUMMARY}: {path} cannot be written ({error.strerror}); the table is not in the step's summary")
