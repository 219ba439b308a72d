"""Tables as text at a fixed width and in Markdown, and the formats of figures."""

import dataclasses
import io

import pandas as pd
import pytest
from rich.console import Console

from qtablate.table import ColumnNote, Table, number, percent, points, with_error

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
            "                       accuracy",
            " task name        n           %",
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


def test_heads_are_no_wider_than_their_figures_where_they_can_break():
    table = Table("Title", ("95 % interval", "s / step", "extra tokens"), (("+13.7 to +17.4", "1", "32"),))
    heads = drawn(table, 60).replace("\N{NO-BREAK SPACE}", " ").splitlines()[2:4]
    assert heads == ["                              extra", "  95 % interval   s / step   tokens"]


def test_a_note_on_a_column_is_dropped_with_it_and_remarks_come_last():
    about = (ColumnNote(("n",), "n: items."), ColumnNote(("accuracy %", "n"), "Accuracy: of items."))
    table = dataclasses.replace(TABLE, about=about, remarks="In words: more.")
    assert drawn(table, 60).endswith("a note n: items. Accuracy: of items.\nIn words: more.")
    narrow = " ".join(drawn(table, 28).split())
    assert narrow.endswith("a note Accuracy: of items. (Not shown: n.) In words: more.")
    assert table.markdown().endswith("a note n: items. Accuracy: of items.\nIn words: more.")


def test_an_optional_column_without_text_is_neither_shown_nor_named():
    table = Table("Title", ("a", "b"), (("1", ""), ("2", "")), optional=("b",))
    assert drawn(table, 40).splitlines()[2:5] == [" a", " ─", " 1"]
    assert "Not shown" not in drawn(table, 1)


def test_a_word_of_a_verdict_has_a_color_beside_it():
    console = Console(width=60, color_system="standard", force_terminal=True, file=io.StringIO())
    with console.capture() as capture:
        console.print(Table("T", ("verdict",), (("worse",), ("somewhat worse",))).rich(60))
    assert "\x1b[31m         worse" in capture.get()
    assert "\n somewhat worse \n" in capture.get()


def test_html_is_escaped_and_tells_words_from_figures():
    text = Table("T", ("<b>", "n"), (("<script>", "1"),), left=1).html()
    assert "<script>" not in text
    assert '<td class="word">&lt;script&gt;</td><td class="figure">1</td>' in text


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
