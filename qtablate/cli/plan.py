"""What `qtablate sweep --dry-run` shows: the plan, timed by probes, and what the grid can detect."""

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from qtablate.cli import console as consoles
from qtablate.cli.console import say
from qtablate.cli.progress import ProgressDisplay
from qtablate.errors import ConfigError

if TYPE_CHECKING:
    from qtablate.sweep.estimate import Events
    from qtablate.sweep.forecast import Forecast
    from qtablate.sweep.plan import SweepPlan
    from qtablate.table import Table


def check_plan_options(
    dry_run: bool, probes: bool, deviations: Path | None, seed_sd: float | None, margin: float | None
) -> None:
    """Refuse options that have no effect. Raises ConfigError."""
    values = {"--no-probes": None if probes else True, "--deviations": deviations, "--seed-sd": seed_sd, "--margin": margin}
    given = [option for option, value in values.items() if value is not None]
    if given and not dry_run:
        raise ConfigError(
            f"{given[0]} is for the plan alone, and this sweep would run: add --dry-run, or leave it out"
            + (" (the report has a --margin of its own: qtablate report --margin)" if "--margin" in given else "")
        )
    if deviations is not None and seed_sd is not None:
        raise ConfigError("--deviations and --seed-sd both say how much seeds differ: leave one out")


def what_it_detects(plan: "SweepPlan", deviations: Path | None, seed_sd: float | None, margin: float | None) -> "Table | str":
    """Return what the grid can detect, as a table or as the reason why there is none.

    Args:
        plan: what is planned.
        deviations: an earlier sweep's results folder.
        seed_sd: standard deviation between seeds of one condition, in points.
        margin: difference that seeds or items should make detectable, in points; None: the report's.

    Raises:
        StoreError: the folder says nothing about seeds.
    """
    from qtablate.report.results import MARGIN
    from qtablate.sweep.detectable_table import detectable_table
    from qtablate.sweep.deviations import known_deviations

    known = known_deviations(plan, deviations, None if seed_sd is None else seed_sd / 100)
    return detectable_table(plan, known, MARGIN if margin is None else margin / 100)


def show_detectable(screen: Console, detectable: "Table | str") -> None:
    """Show what the grid can detect, behind an empty line."""
    screen.print()
    if isinstance(detectable, str):
        say(screen, detectable)
    else:
        screen.print(detectable.rich(screen.width))


def probe_and_show_plan(screen: Console, plan: "SweepPlan", progress: Console, probes: bool = True) -> "Forecast":
    """Probe, shown on `progress`, unless no probes are wanted, and show the plan with what it takes on `screen`."""
    from qtablate.sweep.at_once import decide
    from qtablate.sweep.estimate import estimate
    from qtablate.sweep.forecast import Forecast

    expected = estimate(plan, partial(_follow_probes, progress)) if probes else Forecast()
    if expected.estimates:
        probed = [one.peak_memory_mb for one in expected.estimates.values()]
        plan = replace(plan, at_once=decide(plan.config, plan.settings, plan.store, plan.cells, probed))
    show_plan(screen, plan, expected)
    return expected


def show_plan(screen: Console, plan: "SweepPlan", expected: "Forecast") -> None:
    """Show the table of a plan, and what decides its results."""
    from qtablate.sweep.describe import explain_defaults, plan_table

    screen.print(plan_table(plan, expected).rich(screen.width))
    for line in expected.warnings():
        say(screen, line, "red")
    for line in explain_defaults(plan, expected):
        say(screen, line)


def _follow_probes(screen: Console, events: "Events", total: int) -> "Events":
    """Pass on the events of probes and show them: a spinner in a terminal, elsewhere a line at the start and some later."""
    title = f"Timing a few micro-batches of {total} condition{'s' * (total != 1)}"
    board = ProgressDisplay(title, {}, 1)
    if not screen.is_terminal:
        screen.print(f"{title}, one at a time")
    printed = time.monotonic()
    with screen.status(title) if screen.is_terminal else nullcontext() as status:
        for event in events:
            board.labels.setdefault(event.key, event.key)
            if event.text:
                screen.print(f"{event.key}: {event.text}", soft_wrap=True)
            else:
                board.take(event)
            if status:
                running = ", ".join(map(str.strip, board.status_lines()))
                status.update(f"Timing micro-batches, {min(board.over + 1, total)} of {total}: {running}")
            elif time.monotonic() - printed > consoles.STATUS_SECONDS:
                printed = time.monotonic()
                for line in board.status_lines():
                    screen.print(line, soft_wrap=True)
            yield event
