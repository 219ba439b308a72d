"""Write report.html: one file that opens without a network, with the answer first, then figures, tables and every item."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from qtablate.config import command_of
from qtablate.datatypes import Benchmark, Item
from qtablate.report.compare import Comparison
from qtablate.report.headline import Headline
from qtablate.report.page.browser import Answered, browser_data, read_answered
from qtablate.report.page.sheets import Pictures, order_of_clips, pictures
from qtablate.report.page.svg import inline_svg
from qtablate.report.plots import Plot
from qtablate.report.results import Results
from qtablate.report.scored_benchmark import needs_custom, scored_benchmark
from qtablate.report.sections import WHOLE, Section, tables_of
from qtablate.report.tables import comparison_sentence, comparison_table, software_of
from qtablate.report.tracked_runs import Place, places
from qtablate.table import Table

_ASSETS = ("page.html.j2", "page.css", "page.js")
_HEAD = 2000
"""Characters of the page among which its digest is."""
_WIDE = 400.0
"""Points; a plot for one column of a paper is narrower, one for two columns wider."""


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table as the page shows it."""

    title: str
    html: Markup
    notes: str


@dataclass(frozen=True, slots=True)
class ShownSection:
    """A section as the page shows it."""

    name: str
    title: str
    question: str
    tables: tuple[ShownTable, ...]


@dataclass(frozen=True, slots=True)
class ShownFigure:
    """A plot as the page shows it."""

    name: str
    title: str
    caption: str
    svg: Markup
    wide: bool
    """Whether it is meant for both columns of a paper."""


@dataclass(frozen=True, slots=True)
class Page:
    """What the template shows."""

    title: str
    headline: Headline
    sections: tuple[ShownSection, ...]
    made: Mapping[str, str]
    """What made the results: texts by title."""
    runs: tuple[Place, ...] = ()
    """Where experiment trackers have the runs of the cells."""
    figures: tuple[ShownFigure, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    """Of the item browser (browser.py); empty without one."""
    why_no_texts: str = ""
    """Why the browser has no questions and clips, where it has none."""
    missing_pictures: str = ""
    """How many clips have no picture, and why."""


def write_page(results: Results, plots: Sequence[Plot], run_custom: bool = False) -> Path:
    """Write report.html and return its path; one that shows the same is left as it is. Raises StoreError.

    See `page_text` for the arguments.
    """
    store = results.store
    path, digest = store.table_file("report.html"), _digest(results, plots)
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_HEAD)
        as_written = f'content="{digest}'.encode() in head
        if as_written and (b' complete"' in head or needs_custom(results, run_custom)):
            return path
    store.write_file(path, page_text(results, plots, run_custom, digest))
    return path


def _digest(results: Results, plots: Sequence[Plot]) -> str:
    """Return a hash of everything that the page shows."""
    parts = [results.store.root.name, *results.headline.lines, *(_asset(name) for name in _ASSETS)]
    parts += [table.markdown() for table in tables_of(results)]
    parts += [text for plot in plots for text in (plot.title, plot.caption, plot.svg)]
    parts += [str(results.store.read_record(str(key))) for key in results.cells["key"]]  # with checksums of the answers
    parts += [*_provenance(results).values(), *(place.how for place in places(results.store))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def page_text(results: Results, plots: Sequence[Plot], run_custom: bool = False, digest: str = "") -> str:
    """Return the text of report.html.

    Args:
        results: the results folder.
        plots: its plots.
        run_custom: whether a benchmark that is a Python file may be run to read questions and clips. The file's name comes from
            the folder, which may be someone else's.
        digest: of what the page shows, which is noted in its head.
    """
    answered = read_answered(results)
    benchmark, why_none = scored_benchmark(results, run_custom)
    items = {item.id: item for item in benchmark.items} if benchmark and answered else {}
    drawn = _pictures(answered, benchmark, items) if answered and benchmark else Pictures()
    data: dict[str, Any] = {}
    if answered:
        data = browser_data(answered, items, {clip: number for number, clip in enumerate(drawn.urls)})
        data["pictures"] = list(drawn.urls.values())
    sections = [_shown(section, results) for section in WHOLE]
    page = Page(
        title=f"qtablate: {results.store.root.name}",
        headline=results.headline,
        figures=tuple(map(_shown_figure, plots)),
        sections=tuple(section for section in sections if section.tables),
        made=_provenance(results),
        runs=tuple(places(results.store)),
        data=data,
        why_no_texts=why_none,
        missing_pictures=drawn.missing,
    )
    return _rendered(page, digest)


def comparison_page(comparison: Comparison) -> str:
    """Return the text of a page that compares two results folders."""
    table = comparison_table(comparison)
    answer = comparison_sentence(comparison)
    section = ShownSection("comparison", "Conditions", "Second minus first, in points.", (_shown_table(table),))
    settings = "\n".join(comparison.differing) or "none"
    return _rendered(
        Page(
            title=f"qtablate: {comparison.first} and {comparison.second}",
            headline=Headline(answer),
            sections=(section,),
            made={"Settings that differ (first -> second)": settings},
        )
    )


def _rendered(page: Page, digest: str = "") -> str:
    script = _asset("page.js")
    return _template().render(
        page=page,
        digest=digest,
        data=_json(page.data),
        script=Markup(script),
        style=Markup(_asset("page.css")),
        script_hash=_hash(script),
    )


def _shown(section: Section, results: Results) -> ShownSection:
    tables = tuple(_shown_table(table) for table in section.tables(results) if table)
    return ShownSection(section.name, section.title, section.question, tables)


def _shown_table(table: Table) -> ShownTable:
    return ShownTable(table.title, Markup(table.html()), table.notes())


def _shown_figure(plot: Plot) -> ShownFigure:
    points = re.search(r'width="([\d.]+)pt"', plot.svg)
    wide = points is not None and float(points[1]) > _WIDE
    return ShownFigure(plot.name, plot.title, plot.caption, Markup(inline_svg(plot.svg, plot.name)), wide)


def _pictures(answered: Answered, benchmark: Benchmark, items: Mapping[str, Item]) -> Pictures:
    """Return pictures by name of the clip as the answers have it."""
    clip_of = {item.cluster: item.clip for item in items.values()}
    order = [name for name in order_of_clips(answered) if name in clip_of]
    made = pictures(benchmark, [clip_of[name] for name in order])
    return Pictures({name: made.urls[clip_of[name]] for name in order if clip_of[name] in made.urls}, made.missing)


def _provenance(results: Results) -> dict[str, str]:
    """Return what made the results, by title."""
    sweep = results.sweep
    return {
        "Command": command_of(sweep.config),
        "Settings": yaml.safe_dump(sweep.config.to_dict(), sort_keys=False, default_flow_style=None, width=100),
        "Made by": "\n".join(dict.fromkeys(software_of(results.all_cells))),
        "Versions": "\n".join(f"{name} {version}" for name, version in sweep.versions.items()),
        "Fingerprints": "\n".join(f"{name}: {getattr(sweep.fingerprints, name)}" for name in sweep.fingerprints.__slots__),
    }


def _json(data: Mapping[str, Any]) -> Markup:
    """Return data for a <script type="application/json">: nothing in it can end that element."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _hash(script: str) -> str:
    """Return the hash by which the page's policy knows its own script; no other script runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files(__package__ or "") / name).read_text()


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("qtablate.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
