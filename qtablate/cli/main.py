"""The command line: every command by its name, and how mistakes and signals end it.

qtablate sweep --tokens 0,32,64
qtablate status
qtablate report
qtablate check RESULTS --above-blind --max-failed 0
qtablate export RESULTS --inspect DIR
qtablate audit --accum 1,2,4,8
qtablate convert STAGE.pth ... --llm DIR --out DIR
qtablate assemble --vision DIR --llm DIR --out DIR
qtablate bench export DIR
qtablate bench check DIR
qtablate data check FILE
qtablate tasks
qtablate explain TOPIC
"""

import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from qtablate import interrupts
from qtablate.cli.audit import audit
from qtablate.cli.check import check
from qtablate.cli.data import bench_check, bench_export, bench_preview, data_check
from qtablate.cli.explain import explain
from qtablate.cli.export import export
from qtablate.cli.models import assemble, cache, convert
from qtablate.cli.options import GroupedCommand
from qtablate.cli.report import report
from qtablate.cli.status import status
from qtablate.cli.sweep import sweep
from qtablate.cli.tasks import show as tasks_show
from qtablate.cli.tasks import tasks
from qtablate.errors import QtablateError
from qtablate.interrupts import Stopped

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 140},
    help="Ablate a video language model's query tokens and gradient accumulation, and say how sure the answer is.",
)
bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks: write the procedural one as files, check yours.")
data_app = typer.Typer(no_args_is_help=True, help="Training data: check yours.")
tasks_app = typer.Typer(help="The tasks of a benchmark: list them, show some items of one.")
tasks_app.callback(invoke_without_command=True)(tasks)
COMMANDS: tuple[tuple[typer.Typer, str, Callable[..., None], str], ...] = (
    (app, "sweep", sweep, "Train and evaluate every cell of a grid, and report."),
    (app, "status", status, "Show where every cell of a sweep stands, while it runs."),
    (app, "report", report, "Show the tables of a sweep, or compare two sweeps."),
    (app, "check", check, "Check a sweep's results against gates, for CI."),
    (app, "export", export, "Write a sweep's answers as logs of Inspect AI."),
    (app, "audit", audit, "Measure whether a window's gradient is that of one batch."),
    (app, "convert", convert, "Convert VideoChat2's checkpoints to a model directory."),
    (app, "assemble", assemble, "Build a model around a vision tower and a language model."),
    (app, "cache", cache, "Show the cached visual features, or remove some."),
    (app, "explain", explain, "Show the documentation: words, columns, formats, settings."),
    (bench_app, "export", bench_export, "Write the procedural benchmark as files."),
    (bench_app, "preview", bench_preview, "Draw contact sheets of the procedural benchmark."),
    (bench_app, "check", bench_check, "Check questions and clips for what would mislead."),
    (tasks_app, "show", tasks_show, "Show items of one task, and draw them."),
    (data_app, "check", data_check, "Check conversations and clips for what would mislead."),
)
"""(group, name, function, what it does) of every command. A new command is one entry here."""
for _group, _name, _command, _help in COMMANDS:
    _group.command(_name, cls=GroupedCommand, short_help=_help)(_command)
app.add_typer(bench_app, name="bench")
app.add_typer(data_app, name="data")
app.add_typer(tasks_app, name="tasks")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"qtablate {metadata.version('qtablate')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The options of `qtablate` itself."""


_USAGE = cast("type[Exception]", typer.BadParameter.__mro__[2])
"""What the command line's parser raises, all kinds of it."""


def main() -> None:
    """Run the command line: a user's mistake is one message and exit code 2, a signal "Stopped." and 128 more than its number;
    anything else is a bug and keeps its traceback."""
    try:
        with interrupts.raised():
            _call()
    except Stopped as stop:  # before a sweep has begun, or outside of one
        Console(stderr=True).print("Stopped.")
        sys.exit(stop.code)


def _call() -> None:
    try:
        _refuse_empty(sys.argv[1:])
        sys.exit(app(prog_name="qtablate", standalone_mode=False))
    except QtablateError as error:
        _complain(str(error))
    except _USAGE as error:
        message, context = cast(Any, error).format_message(), getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(message, err=True)
        else:
            message = re.sub(r"^Invalid value for '(\S+)': ", r"\1: ", message).rstrip(".")
            _complain(message + (f"; see {context.command_path} --help" if context else ""))
    sys.exit(2)


def _complain(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", style="red", markup=False)


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse arguments without a character, which an unset variable of a shell leaves: a path of them would be the current
    folder. Raises QtablateError that names the option."""
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        if equals and not value.strip():
            named = f"{option}: " if option.startswith("--") else ""
            raise QtablateError(f"{named}expected a value, got an empty one; give it, or leave it out")


if __name__ == "__main__":
    main()
