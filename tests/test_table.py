"""Tables as text at a fixed width and in Markdown, and the formats of figures."""

import pandas as pd
import pytest
from rich.console import Console

from qtablate.table import Table, number, percent, points, with_error

TABLE = Table(
    "Title",
    ("task name", "n", "accuracy %"),
    (("moving_count", "150", "12.3 ±1.0"), ("a", "2", "")),
    "a note",
    left=1,
    optional=("n",),
)


def drawn(table: Table, width: int) -> str:
    console = Console(width=width, color_system=None, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table.rich(width))
        return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_table_at_a_fixed_width():
    assert drawn(TABLE, 60) == "\n".join(
        [
            "Title",
            "",
            " task                  accuracy",
            " name             n           %",
            " ──────────────────────────────",
            " moving_count   150   12.3 ±1.0",
            " a                2",
            "",
            "a note",
        ]
    )


def test_optional_columns_are_left_out_of_a_narrow_terminal_and_named():
    text = drawn(TABLE, 28)
    assert "150" not in text
    assert "12.3 ±1.0" in text
    assert "(Not shown: n.)" in text
    assert max(map(len, text.splitlines())) <= 28


def test_heads_break_at_hyphens_and_underscores_where_the_table_is_too_wide_otherwise():
    table = Table("Title", ("micro-batch", "mismatched_clip"), (("8", "30.9"),))
    assert "micro-batch   mismatched_clip" in drawn(table, 40)
    narrow = drawn(table, 22)
    assert "micro-   mismatched_" in narrow
    assert " batch          clip" in narrow


def test_markdown_has_every_column_and_escapes_bars():
    text = Table("T", ("a", "b"), (("x|y", "1"),), left=1).markdown()
    assert text.splitlines() == ["## T", "", "| a | b |", "| --- | ---: |", "| x\\|y | 1 |"]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_missing_figures_are_empty(missing):
    assert percent(missing) == ""
    assert number(missing) == ""
    assert with_error(missing, 0.1, 40) == ""
    assert percent(0.5, missing) == "50.0"


def test_standard_error_is_shown_only_where_it_is_informative():
    assert with_error(0.5, 0.1, 10) == "50.0 ±10.0"
    assert with_error(0.5, 0.1, 9) == with_error(0.5, None, 1) == "50.0 (too few)"
    assert with_error(1.0, 0.0, 38) == "100.0"  # all alike: not that it is known to the last digit


def test_zero_has_no_minus_sign():
    assert (number(-0.001, 2), points(-0.0001), percent(-0.0001)) == ("0.00", "+0.0", "0.0")
