"""Tables and CSV of an audit, from records made by hand."""

import csv

import pytest
from audit_records import audit_of, window
from rich.console import Console

from qtablate.audit.records import BATCH, TRAINER_MEAN, WINDOW
from qtablate.audit.tables import as_csv, tables


def test_tables_have_one_row_per_window_and_no_empty_column():
    by_title = {table.title: table for table in tables(audit_of(window(1, extra=False), window(4, extra=False)))}
    assert list(by_title) == [
        "Gradient of a window and of one batch of the same samples",
        "Gradients of incorrect accumulation rules",
        "Learning rate",
        "Memory and time",
    ]
    gradients = by_title["Gradient of a window and of one batch of the same samples"]
    assert gradients.columns == ("accum", "batch", "tokens", "norm", "difference", "cosine", "repeat", "both in fp64")
    assert gradients.rows[1] == ("4", "8", "10 / 11.5 / 13", "3", "2.0e-07", "1.0000", "0", "1.0e-15")
    assert by_title["Memory and time"].rows[1] == ("4", "8", "2.0", "8.0", "4.00", "0.25", "0.125")
    assert tables(audit_of(window(4, trainer_mean=0.1), trainer_version="5.0"))[-1].rows == (
        ("4", "0", "1.0000", "0", "0.5000", "0.100", "0.9950", "0.050", "0.5000"),
    )


@pytest.mark.parametrize("width", [80, 140])
def test_figures_are_not_cut_at_any_width(width):
    for table in tables(audit_of(window(1, trainer_mean=0.1), window(4, trainer_mean=0.1), trainer_version="5.0")):
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            console.print(table.rich(width))
        output = capture.get()
        assert max(map(len, output.splitlines())) <= width
        dropped = " ".join(output.split()).partition("(Not shown: ")[2].partition(".)")[0].split(", ")
        kept = [n for n, name in enumerate(table.columns) if name not in dropped]
        assert len(kept) > 5
        for row in table.rows:
            assert [cell for n in kept if (cell := row[n]) not in output] == []


def test_csv_has_one_row_per_figure():
    rows = list(csv.DictReader(as_csv(audit_of(window(1, extra=False), window(4, trainer_mean=0.1))).splitlines()))
    assert list(rows[0]) == ["accumulate_grad_batches", "gradient", "reference", "metric", "value", "tolerance"]
    by = {(row["accumulate_grad_batches"], row["gradient"], row["reference"], row["metric"]): row for row in rows}
    assert len(by) == len(rows)
    assert by["4", WINDOW, BATCH, "relative_difference"]["value"] == "2e-07"
    assert by["4", WINDOW, BATCH, "relative_difference"]["tolerance"] == "1e-05"
    assert by["4", TRAINER_MEAN, WINDOW, "extra_cosine"]["value"] == "0.5"
    assert by["4", BATCH, "", "saved_bytes"]["value"] == "8000000"
    assert by["1", BATCH, "", "cuda_peak_bytes"]["value"] == ""
    assert by["4", "micro-batch", "3", "supervised_tokens"]["value"] == "13"
    assert by["4", "learning rate of the peak", "optimizer steps", "last"]["value"] == "0.25"
    assert ("1", WINDOW, BATCH, "extra_cosine") not in by
