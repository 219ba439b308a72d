"""`qtablate report`: what the data of a sweep support, or two sweeps against each other."""

import difflib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from qtablate.cli.console import console, say, show_tables
from qtablate.cli.options import number, one_of
from qtablate.errors import ConfigError

if TYPE_CHECKING:
    from qtablate.report.build import Report
    from qtablate.report.sections import Section
    from qtablate.store import Store

RESULTS = Path("results")
TABLE = "table"
"""The format of a terminal."""
_WATCH_SECONDS = 5.0


def report(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RESULTS] [OTHER] [SECTION]...",
            help="A results folder (default: the newest under results/), another one to compare it with, sections to show: "
            "conditions, contrasts, tokens, accumulation, tasks, controls, training, cost, items.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show all tables, not the first screen alone.")] = False,
    format: Annotated[
        str, typer.Option(help="table, markdown, csv (of one section), json or latex.", metavar="FORMAT")
    ] = TABLE,
    baseline: Annotated[str, typer.Option(help="Levels that others are compared with, such as tokens=0,accum=1.")] = "",
    margin: Annotated[float, number(0, help="Points below which a difference does not matter to you.")] = 2.0,
    cost_model: Annotated[
        str, typer.Option(help="Language model to estimate costs for: 7b, 13b, mistral-7b, phi-3-mini, a config.json.")
    ] = "7b",
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the plots and write report.html where their data changed.")
    ] = True,
    page: Annotated[Path | None, typer.Option(help="For two folders: write the comparison as a web page, too.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again as cells finish, until the sweep has ended.")] = False,
) -> None:
    """Show what a sweep's data support, finished or not, and write tables, plots and texts; or compare two sweeps."""
    from qtablate.axes import parse_levels
    from qtablate.report.formats import FORMATS
    from qtablate.store import Store, newest

    one_of("--format", format, (TABLE, *FORMATS))
    folders, sections = _folders_and_sections(words or [])
    on_screen = {"--full": full, "--watch": watch, "--no-figures": not figures}
    of_one_folder = {
        **on_screen,
        "--baseline": baseline,
        "--cost-model": cost_model != "7b",
        f"--format {format}": format != TABLE,
        "a section": sections,
    }
    if len(folders) > 1:
        _refuse(of_one_folder, "applies to one folder: leave it out with two folders")
        _show_comparison(folders, margin / 100, page)
        return
    _refuse({"--page": page}, "is for two folders: leave it out, the page of one folder is its report.html")
    if sections:
        _refuse({"--full": full}, "shows all sections: leave it out, or the names of sections")
    store = Store(Path(folders[0])) if folders else newest(RESULTS)
    levels = parse_levels("--baseline", baseline)
    options: dict[str, Any] = {"baseline": levels, "margin": margin / 100, "cost_model": cost_model}
    if format != TABLE:
        _refuse(on_screen, f"is for the terminal's tables: leave it out with --format {format}")
        _print_as(format, store, sections, **options)
    elif watch:
        _watch(store, full, sections, figures, options)
    else:
        show_report(console(), store, full, sections, figures=figures, **options)


def _folders_and_sections(words: Sequence[str]) -> "tuple[list[str], list[Section]]":
    """Tell folders from sections. A folder that has the name of a section is given as ./NAME."""
    from qtablate.report.sections import BY_NAME

    sections = [BY_NAME[word] for word in words if word in BY_NAME]
    folders = [word for word in words if word not in BY_NAME]
    for word in folders:
        near = difflib.get_close_matches(word, BY_NAME, 1)
        if near and not Path(word).exists():
            raise ConfigError(f"no folder and no section '{word}'; did you mean {near[0]}? Sections: {', '.join(BY_NAME)}")
    if len(folders) > 2:
        raise ConfigError(f"expected one or two results folders, and sections ({', '.join(BY_NAME)}); got {' '.join(words)}")
    return folders, sections


def _refuse(given: Mapping[str, Any], why: str) -> None:
    """Refuse the first of these options that stands on the command line. Raises ConfigError."""
    for option, value in given.items():
        if value:
            raise ConfigError(f"{option} {why}")


def _show_comparison(folders: Sequence[str], margin: float, page: Path | None) -> None:
    from qtablate.files import write_text
    from qtablate.report.compare import compare
    from qtablate.report.page.page import comparison_page
    from qtablate.report.tables import comparison_sentence, comparison_table
    from qtablate.store import Store

    first, second = (Store(Path(folder)) for folder in folders)
    if page and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigError(f"--page: {page} cannot be written: name a file in an existing folder")
    found = compare(first, second, margin)
    screen = console()
    say(screen, comparison_sentence(found))
    say(screen, "")
    show_tables(screen, [comparison_table(found)])
    if page:
        try:
            write_text(page, comparison_page(found))
        except OSError as error:
            raise ConfigError(
                f"--page: {page} cannot be written ({error.strerror}): name a file in a folder of yours"
            ) from None
        say(screen, f"Written: {page}")


def show_report(
    screen: Console, store: "Store", full: bool = False, sections: "Sequence[Section]" = (), **options: Any
) -> None:
    """Write a folder's tables, plots and texts, and show the first screen, everything, or some sections."""
    from qtablate.report.build import report as build
    from qtablate.report.sections import WHOLE, tables_of

    built = build(store, **options)
    if full:
        for line in built.results.headline.lines:
            say(screen, line)
        say(screen, "")
    if full or sections:
        show_tables(screen, tables_of(built.results, sections or WHOLE))
        say(screen, built.remark or _written(built), "dim")
    else:
        _show_first_screen(screen, built)


def _show_first_screen(screen: Console, built: "Report") -> None:
    from qtablate.report.first_screen import first_screen
    from qtablate.report.sections import SECTIONS
    from qtablate.report.tracked_runs import places

    results = built.results
    names = " ".join(section.name for section in SECTIONS)
    more = [f"More: qtablate report {results.store.root} --full, or a section of it: {names}", built.remark or _written(built)]
    more += [f"Runs in {place.tracker}: {place.how}" for place in places(results.store)]
    for part in first_screen(results.headline, results.summary, results.cost, screen.width, more):
        screen.print(part)


def _written(built: "Report") -> str:
    """Say what was written where."""
    names = [path.relative_to(built.results.store.root) for path in built.files]
    tables = sum(name.suffix == ".csv" for name in names)
    parts = ["report.html (figures, every item)"] * (Path("report.html") in names) + ["report.md", f"{tables} CSV files"]
    parts += ["plots/"] * any(name.parts[0] == "plots" for name in names)
    return f"Written to {built.results.store.root}: {', '.join(parts)}"


def _print_as(format: str, store: "Store", sections: "Sequence[Section]", **options: Any) -> None:
    """Print a report in another form than a terminal's; nothing is written."""
    from qtablate.report.formats import FORMATS
    from qtablate.report.results import Results
    from qtablate.report.sections import WHOLE

    typer.echo(FORMATS[format](Results(store.root, **options), sections or WHOLE), nl=False)


def _watch(store: "Store", full: bool, sections: "Sequence[Section]", figures: bool, options: dict[str, Any]) -> None:
    """Show the report whenever a cell has begun or ended, until no sweep runs in the folder; plots and page at the end."""
    screen, shown = console(), None
    while True:
        busy = store.busy()
        state = sorted((str(path), path.stat().st_mtime_ns) for path in store.root.glob("cells/*/record.json"))
        if state != shown or not busy:
            shown = state
            if screen.is_terminal:
                screen.clear()
            show_report(screen, store, full, sections, figures=figures and not busy, **options)
        if not busy:
            return
        say(screen, "Watching: Ctrl-C ends this, not the sweep.", "dim")
        time.sleep(_WATCH_SECONDS)
