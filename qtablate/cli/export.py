"""`qtablate export`: the answers of a sweep in the format of another program.

qtablate export results/nano-world --inspect logs
"""

from pathlib import Path
from typing import Annotated

import typer

from qtablate.cli.console import console, say
from qtablate.errors import ConfigError


def export(
    results: Annotated[Path, typer.Argument(help="A results folder.")],
    inspect: Annotated[
        Path | None, typer.Option(help="Folder for logs of Inspect AI, one a cell: `inspect view` shows them.", metavar="DIR")
    ] = None,
) -> None:
    """Write every cell's answers, item by item and control by control, for the viewer of Inspect AI."""
    from qtablate.report.inspect_logs import write_inspect_logs
    from qtablate.report.results import load

    if inspect is None:
        raise ConfigError("say what to write: --inspect DIR for logs of Inspect AI")
    done = write_inspect_logs(load(results), inspect)
    screen = console()
    say(screen, f"{done.logs} log{'s' * (done.logs != 1)} in {inspect}: inspect view --log-dir {inspect}")
    if done.why_no_texts:
        say(screen, f"Without questions and options: {done.why_no_texts}.")
    if done.left_out:
        say(screen, f"Left out: {done.left_out} cells that have neither finished nor failed.")
