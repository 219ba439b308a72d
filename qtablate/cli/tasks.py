"""`qtablate tasks`: the tasks of a benchmark, with their size, chance and an example; `tasks show` draws some of one."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtablate.cli.console import console, say, show_tables
from qtablate.cli.options import Given, flags, with_settings
from qtablate.config import validate_config
from qtablate.errors import BadMedia, ConfigError

if TYPE_CHECKING:
    from qtablate.datatypes import Benchmark, Item

SETTINGS = ("bench", "items_per_task", "items_seed", "model")


@with_settings(("data",), SETTINGS)
def tasks(given: Given, context: typer.Context) -> None:
    """List the tasks of a benchmark: short code, items, chance, and an example with its correct option marked."""
    from qtablate.data.tasks import of_task, task_code
    from qtablate.table import Table, percent

    if context.invoked_subcommand:
        context.obj = given
        return
    rows = []
    for task, items in of_task(_opened(given).items).items():
        chance = sum(1 / len(item.options) for item in items) / len(items)
        rows.append((task_code(task), task, str(len(items)), percent(chance), _example(items[0])))
    note = "Chance: mean over items of 1 / options. `qtablate tasks show CODE` shows more of a task."
    columns = ("code", "task", "n", "chance %", "example")
    show_tables(console(), [Table("Tasks", columns, tuple(rows), note, left=len(columns), optional=("chance %",))])


@with_settings(("data",), SETTINGS)
def show(
    given: Given,
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A task or its short code, such as moving_direction or MD.", metavar="TASK")],
    save: Annotated[Path | None, typer.Option(help="Draw their clips with questions and options into this PNG.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many items.")] = 6,
) -> None:
    """Show items of one task, and draw them."""
    from qtablate.data.tasks import find_task, of_task

    benchmark = _opened({**(context.obj or {}), **given})  # options may stand before `show`, too
    by_task = of_task(benchmark.items)
    name = find_task(task, list(by_task))
    items = by_task[name][:count]
    screen = console()
    say(screen, f"{name}: {len(by_task[name])} items", "bold")
    for item in items:
        say(screen, f"{item.id}: {_example(item)}")
    if save:
        _draw(save, benchmark, items)
        say(screen, f"Written: {save}")


def _opened(given: Given) -> "Benchmark":
    from qtablate.data.sources import open_benchmark
    from qtablate.model.directory import read_config

    values: dict[str, dict[str, object]] = {"data": {name: value for (_, name), value in given.items()}}
    data = validate_config(values, flags(given)).data
    return open_benchmark(data, read_config(data.model))


def _example(item: "Item") -> str:
    options = "; ".join(f"{option} ✓" if number == item.answer else option for number, option in enumerate(item.options))
    return f"{textwrap.shorten(item.question, 120)} {options}"


def _draw(path: Path, benchmark: "Benchmark", items: "Sequence[Item]") -> None:
    """Write the picture. Raises ConfigError where that is not possible."""
    from qtablate.files import atomic_path
    from qtablate.video.contact_sheet import contact_sheet

    if path.suffix.lower() != ".png" or not path.parent.is_dir() or path.is_dir():
        raise ConfigError(f"--save: {path} cannot be written: expected the name of a .png file in an existing folder")
    try:
        sheet = contact_sheet(benchmark, items)
    except BadMedia as problem:
        raise ConfigError(f"--save: a clip of these items cannot be decoded ({problem}); see qtablate bench check") from None
    try:
        with atomic_path(path) as temporary:
            sheet.save(temporary, format="png")
    except OSError as error:
        raise ConfigError(f"--save: {path} cannot be written ({error.strerror}): name a file in a folder of yours") from None
