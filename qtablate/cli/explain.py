"""`qtablate explain`: the documentation, as topic pages in the terminal."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from qtablate.cli.console import console

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_WIDTH = 110
"""Columns of a page in a wide terminal: longer lines of prose are hard to read."""


def explain(
    topic: Annotated[str, typer.Argument(help="Name of a page. Default: the list of all pages.")] = "",
) -> None:
    """Show a page of the documentation, or the list of pages."""
    from qtablate.explain import TOPICS, page, summary

    if topic:
        text = page(topic)
    else:
        lines = [f"| `{name}` | {summary(name)} |" for name in TOPICS]
        text = "\n".join(
            ["# Topics", "", "`qtablate explain TOPIC` shows a page:", "", "| topic | what it says |", "|---|---|", *lines, ""]
        )
    show(console(), text)


def show(screen: Console, text: str) -> None:
    """Print a page: rendered in a terminal, as the Markdown that it is elsewhere."""
    if screen.is_terminal:
        screen.print(_rendered(text), width=min(screen.width, MAX_WIDTH))
    else:
        screen.print(text.removesuffix("\n"), soft_wrap=True)


def _rendered(text: str) -> "RenderableType":
    """Markdown for a terminal, with headings at the left and tables that keep their first columns whole."""
    from rich.markdown import Heading, Markdown
    from rich.text import Text

    class LeftHeading(Heading):
        def __rich_console__(self, console: Any, options: Any) -> Any:
            self.text.justify = "left"
            yield Text("")
            yield Text.assemble(self.text, style="bold underline" if self.tag == "h1" else "bold")

    class Page(Markdown):
        elements = {**Markdown.elements, "heading_open": LeftHeading}  # noqa: RUF012

    return Page(text, hyperlinks=False)
