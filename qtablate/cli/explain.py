"""`qtablate explain`: the documentation, as topic pages in the terminal."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.theme import Theme

from qtablate.cli.console import console

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType, RenderResult

MAX_WIDTH = 110
"""Columns of a page in a wide terminal: longer lines of prose are hard to read."""
_COLUMN_SHARE = 0.33
"""Share of the width that a column of a table may take, other than the last one, which holds sentences."""


def explain(
    topic: Annotated[str, typer.Argument(help="Name of a page. Default: the list of all pages.")] = "",
) -> None:
    """Show a page of the documentation, or the list of pages."""
    from qtablate.explain import list_of_topics, page

    show(console(), page(topic) if topic else list_of_topics())


def show(screen: Console, text: str) -> None:
    """Print a page: rendered in a terminal, as the Markdown that it is elsewhere."""
    if screen.is_terminal:
        with screen.use_theme(Theme({"markdown.code": "bold cyan"})):  # rich's own has a background, unfit for light terminals
            screen.print(_rendered(text), width=min(screen.width, MAX_WIDTH))
    else:
        screen.print(text.removesuffix("\n"), soft_wrap=True)


def _rendered(text: str) -> "RenderableType":
    """Markdown for a terminal: headings at the left, and no text of a table cut off."""
    from rich.markdown import Heading, Markdown, TableElement
    from rich.table import Table
    from rich.text import Text

    class LeftHeading(Heading):
        def __rich_console__(self, console: Console, options: "ConsoleOptions") -> "RenderResult":
            self.text.justify = "left"
            yield Text.assemble(self.text, style="bold underline" if self.tag == "h1" else "bold")

    class WholeTable(TableElement):
        def __rich_console__(self, console: Console, options: "ConsoleOptions") -> "RenderResult":
            for part in super().__rich_console__(console, options):
                if isinstance(part, Table):
                    for column in part.columns:
                        column.overflow = "fold"
                    for column in part.columns[:-1]:
                        column.max_width = int(options.max_width * _COLUMN_SHARE)
                yield part

    class Page(Markdown):
        elements = {**Markdown.elements, "heading_open": LeftHeading, "table_open": WholeTable}  # noqa: RUF012

    return Page(text, hyperlinks=False, code_theme="ansi_dark")  # a theme without a background of its own
