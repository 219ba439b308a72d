"""`qtablate bench ...` and `qtablate data ...`: write the procedural benchmark, check benchmarks and training data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtablate.cli.console import check_writable, console, exit_unless, follow_clips, say, show_tables, write_csv
from qtablate.cli.options import one_of

if TYPE_CHECKING:
    from qtablate.validate.check import ValidationReport

_HEADERS_ONLY = typer.Option("--headers-only", help="Read only the headers of clips: seconds instead of minutes.")


def bench_export(
    directory: Annotated[Path, typer.Argument(help="Folder to write json/ and video/ into; must be empty or new.")],
    items_per_task: Annotated[int, typer.Option(min=1, help="Items per task.")] = 20,
) -> None:
    """Write the procedural benchmark in MVBench's format, with encoded mp4 files."""
    from qtablate.data.export import export_world

    clips, questions = export_world(directory, items_per_task)
    console().print(f"{questions} items and {clips} clips in {directory}: qtablate sweep --bench mvbench:{directory}")


def bench_preview(
    directory: Annotated[Path, typer.Argument(help="Folder to write TASK.png into.")],
    items_per_task: Annotated[int, typer.Option(min=1, help="Items per task.")] = 6,
    level: Annotated[str, typer.Option(help="How hard: easy, normal or hard.")] = "normal",
) -> None:
    """Draw contact sheets of the procedural benchmark: each task's clips, questions and answers."""
    from qtablate.world.levels import LEVELS
    from qtablate.world.preview import preview

    written = preview(directory, items_per_task, one_of("--level", level, LEVELS))
    console().print(f"{len(written)} contact sheets in {directory}")


def bench_check(
    directory: Annotated[Path, typer.Argument(help="Folder in MVBench's format.")],
    frames: Annotated[int, typer.Option(min=1, help="Frames per clip that a model reads.")] = 16,
    headers_only: Annotated[bool, _HEADERS_ONLY] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every finding as a row of this file.")] = None,
) -> None:
    """Check questions and clips: what would be left out, and what would mislead. Exit code 1 if there are errors."""
    from qtablate.validate.check import check_benchmark

    check_writable(csv)
    _show(check_benchmark(str(directory), frames, not headers_only, follow_clips(console(stderr=True))), csv)


def data_check(
    file: Annotated[Path, typer.Argument(help="JSON file in VideoChat2-IT's format.")],
    media_root: Annotated[str, typer.Option(help="Folder that its clips are named from. Default: the file's own.")] = "",
    bench: Annotated[str, typer.Option(help="Folder in MVBench's format: which of its clips are trained on?")] = "",
    frames: Annotated[int, typer.Option(min=1, help="Frames per clip that a model reads.")] = 8,
    headers_only: Annotated[bool, _HEADERS_ONLY] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every finding as a row of this file.")] = None,
) -> None:
    """Check conversations and clips: what would be left out, and what would mislead. Exit code 1 if there are errors."""
    from qtablate.validate.check import check_training

    check_writable(csv)
    follow = follow_clips(console(stderr=True))
    _show(check_training(str(file), media_root, frames, not headers_only, follow, bench.removeprefix("mvbench:")), csv)


def _show(report: "ValidationReport", csv: Path | None) -> None:
    from qtablate.validate.tables import as_csv, report_tables, summary

    screen = console()
    show_tables(screen, report_tables(report))
    say(screen, summary(report))
    write_csv(screen, csv, lambda: as_csv(report))
    exit_unless(not report.count("error"))
