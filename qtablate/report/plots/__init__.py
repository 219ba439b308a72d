"""Plots of a results folder, as PNG and SVG files under plots/. What has not changed is not drawn again.

A new plot is one function of `Results` in a file here and one line in `PLOTS`.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtablate.report.plots.accumulation import plot_accumulation
from qtablate.report.plots.attention import plot_attention
from qtablate.report.plots.cost import plot_cost
from qtablate.report.plots.drawing import Drawing
from qtablate.report.plots.extra_tokens import plot_extra_tokens
from qtablate.report.plots.interaction import plot_interaction
from qtablate.report.plots.losses import plot_losses
from qtablate.report.plots.style import render
from qtablate.report.plots.tasks import plot_tasks
from qtablate.report.plots.tokens import plot_tokens
from qtablate.report.results import Results
from qtablate.store import Store

PLOTS: tuple[tuple[str, str, Callable[[Results], list[Drawing]]], ...] = (
    ("tokens", "Scores over extra query tokens", plot_tokens),
    ("accumulation", "Accuracy over gradient accumulation", plot_accumulation),
    ("interaction", "Interaction of extra tokens and accumulation", plot_interaction),
    ("tasks", "Gain by task", plot_tasks),
    ("pareto", "Accuracy against cost", plot_cost),
    ("losses", "Training loss", plot_losses),
    ("extra_tokens", "Health of extra query tokens", plot_extra_tokens),
    ("attention", "Cross-attention of visual tokens", plot_attention),
)
"""Name, title and function of every plot, in the order in which they are shown. A function returns no drawing where the data
have nothing to show, and several where there is one per condition."""
INDEX = "plots.json"


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of the folder, as its files hold it."""

    name: str
    """Of its files, without the ending."""
    title: str
    caption: str
    svg: str
    """The text of the SVG file."""
    path_png: Path
    path_svg: Path


def drawings(results: Results) -> list[Drawing]:
    """Return what there is to draw of a folder; nothing is drawn yet."""
    return [drawing for _, _, function in PLOTS for drawing in function(results)]


def draw_plots(results: Results) -> list[Plot]:
    """Draw all plots of a folder into its plots/, and return them.

    Files of an unchanged plot are read back. Files of plots that plots.json lists and that do not apply any more are deleted.

    Raises:
        StoreError: a file cannot be written.
    """
    store = results.store
    before, entries, plots = _read_index(store), {}, []
    for drawing in drawings(results):
        svg = _unchanged(store, drawing, before.get(drawing.name))
        entries[drawing.name] = before[drawing.name] if svg is not None else {}
        if svg is None:
            svg, png = render(drawing.figure(), drawing.name)
            store.write_file(store.plot_file(f"{drawing.name}.svg"), svg)
            store.write_file(store.plot_file(f"{drawing.name}.png"), png)
            entries[drawing.name] = {"digest": drawing.digest, "svg": _sum(svg.encode()), "png": _sum(png)}
        paths = (store.plot_file(f"{drawing.name}.{ending}") for ending in ("png", "svg"))
        plots.append(Plot(drawing.name, drawing.title, drawing.caption, svg, *paths))
    for name in set(before) - set(entries):
        for ending in ("png", "svg"):
            with suppress(OSError):  # what cannot be deleted misleads nobody: the report does not show it
                store.plot_file(f"{name}.{ending}").unlink(missing_ok=True)
    if entries != before:
        store.write_file(store.plot_file(INDEX), json.dumps(entries, indent=1, sort_keys=True) + "\n")
    return plots


def _read_index(store: Store) -> dict[str, dict[str, Any]]:
    """Read the digests of the plots that were drawn, by name; empty where the file is missing or is not one of these."""
    try:
        content = json.loads(store.plot_file(INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        name: entry
        for name, entry in content.items()
        if isinstance(entry, dict) and re.fullmatch(r"[\w+-][\w.+-]*", name)  # no path that leads elsewhere
    }


def _unchanged(store: Store, drawing: Drawing, entry: dict[str, Any] | None) -> str | None:
    """Return the SVG of a plot that was drawn from the same data and whose files are whole; None for another."""
    if not entry or entry.get("digest") != drawing.digest:
        return None
    try:
        svg = store.plot_file(f"{drawing.name}.svg").read_bytes()
        png = store.plot_file(f"{drawing.name}.png").read_bytes()
    except OSError:
        return None
    return svg.decode() if (_sum(svg), _sum(png)) == (entry.get("svg"), entry.get("png")) else None


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
