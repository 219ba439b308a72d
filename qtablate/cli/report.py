"""`qtablate report`: the tables of a sweep, or two sweeps against each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from qtablate.cli.console import console, say, show_tables
from qtablate.cli.options import number
from qtablate.errors import ConfigError

if TYPE_CHECKING:
    from qtablate.store import Store

RESULTS = Path("results")


def report(
    results: Annotated[Path | None, typer.Argument(help="A results folder. Default: the newest under results/.")] = None,
    other: Annotated[Path | None, typer.Argument(help="Another one to compare with the first, condition by condition.")] = None,
    baseline: Annotated[str, typer.Option(help="Levels that others are compared with, such as tokens=0,accum=1.")] = "",
    margin: Annotated[float, number(0, help="Points below which a difference does not matter to you.")] = 2.0,
    cost_model: Annotated[
        str, typer.Option(help="Language model to estimate costs for: 7b, 13b, mistral-7b, phi-3-mini, a config.json.")
    ] = "7b",
) -> None:
    """Show the tables of a sweep, finished or not, and write them as CSV and Markdown; or compare two sweeps."""
    from qtablate.axes import parse_levels
    from qtablate.store import Store, newest

    if results and other:
        from qtablate.report.compare import compare
        from qtablate.report.results import COST_MODEL
        from qtablate.report.tables import comparison_table

        if baseline or cost_model != COST_MODEL:
            raise ConfigError(
                "--baseline and --cost-model apply to the conditions of one folder: leave them out with two folders"
            )
        show_tables(console(), [comparison_table(compare(Store(results), Store(other), margin / 100))])
        return
    store = Store(results) if results else newest(RESULTS)
    show_report(console(), store, baseline=parse_levels("--baseline", baseline), margin=margin / 100, cost_model=cost_model)


def show_report(screen: Console, store: "Store", **options: Any) -> None:
    """Write a folder's tables and show them."""
    from qtablate.report.build import report as build

    built = build(store, **options)
    for line in built.headline.lines:
        say(screen, line)
    say(screen, "")
    show_tables(screen, built.tables)
    say(screen, built.remark or "Written: " + ", ".join(str(path) for path in built.files))
