"""A report in other forms than a terminal's: Markdown, LaTeX, CSV, JSON."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from qtablate.errors import ConfigError
from qtablate.report import tables
from qtablate.report.csv_files import csv_text
from qtablate.report.results import Results
from qtablate.report.sections import Section, tables_of
from qtablate.report.tracked_runs import Place, places
from qtablate.table import Table


def markdown(results: Results, sections: Sequence[Section]) -> str:
    """Return a report as Markdown: the answer, what was run, and the tables of the sections."""
    sweep = results.sweep
    settings, data = sweep.settings, sweep.config.data
    lines = [
        f"# qtablate: {results.store.root.name}",
        "",
        *(line + "\n" for line in results.headline.lines),
        f"Model `{data.model}`, benchmark `{data.bench}` ({sweep.items} items), training `{data.train}`; "
        f"budget: {settings.budget_in_words} per cell, {100 * settings.image_ratio:g} % images; fixed: "
        f"{sweep.config.grid.batch_size_is}; peak learning rate {settings.learning_rate:g}; language model "
        f"{'trained' if settings.train_language_model else 'frozen'}.",
        "",
        *(f"Made by {software}." for software in dict.fromkeys(tables.software_of(results.cells))),
        *(f"\nRuns in {place.tracker}: {_code(place)}" for place in places(results.store)),
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(table.markdown() for table in tables_of(results, sections)) + "\n"


def _code(place: Place) -> str:
    """Return where runs are as Markdown: a link, or code that nothing in it can end."""
    return f"<{place.link}>" if place.link else "`" + place.how.replace("`", "'") + "`"


def latex(results: Results, sections: Sequence[Section]) -> str:
    """Return the tables of the sections as LaTeX (package booktabs), the answer in comments."""
    lines = [f"% {line}" for line in ("needs \\usepackage{booktabs}", *results.headline.lines)]
    return "\n".join([*lines, "", *(_latex_table(table) for table in tables_of(results, sections))])


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{NO-BREAK SPACE}": "~",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}
_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")


def _latex_text(text: str) -> str:
    """Escape text; a minus sign before a figure becomes one of mathematics."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in text.replace("\n", " "))
    return _NEGATIVE.sub("$-$", escaped)


def _latex_table(table: Table) -> str:
    places = table.fitting(10**6)
    columns = [table.columns[place] for place in places]
    rows = [columns, *([row[place] for place in places] for row in table.rows)]
    head, *body = [" & ".join(map(_latex_text, row)) + r" \\" for row in rows]
    alignment = "".join("l" if place < table.left else "r" for place in places)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex_text(table.title)}. {_latex_text(table.notes(columns))}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def csv(results: Results, sections: Sequence[Section]) -> str:
    """Return the frame of one section as CSV. Raises ConfigError for several sections: a CSV file holds one table."""
    if len(sections) != 1:
        raise ConfigError(
            "--format csv: expected one section, since a CSV holds one table; name one, such as `conditions`, or take the CSV "
            "files in the results folder"
        )
    return csv_text(sections[0].frame(results))


def json_text(results: Results, sections: Sequence[Section]) -> str:
    """Return the answer, and the frame of each section as a list of rows; missing figures are null."""
    headline = results.headline
    content = {
        "answer": headline.answer,
        "details": list(headline.details),
        "compared": headline.scope,
        "warnings": list(headline.warnings),
        "sections": {section.name: _plain_rows(section.frame(results)) for section in sections},
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    """Return a value of a frame as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value


FORMATS: dict[str, Callable[[Results, Sequence[Section]], str]] = {
    "markdown": markdown,
    "csv": csv,
    "json": json_text,
    "latex": latex,
}
"""What `report --format` takes, beside `table`."""
