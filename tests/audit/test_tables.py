"""An audit in sheets, in words and as csv, from records made by hand."""

import csv
from dataclasses import replace

import pytest
from rich.console import Console

from qtablate.audit.measure import schedule
from qtablate.audit.records import (
    AGAIN,
    BATCH,
    CLIPPED,
    FAULTS,
    MENDED,
    OWN_MEAN,
    WINDOW,
    Audit,
    Comparison,
    Difference,
    Measured,
    Memory,
    Window,
    allowed,
    at,
)
from qtablate.audit.summary import headline, remarks, verdict
from qtablate.audit.tables import as_csv, sheets
from qtablate.grid import Recipe

RECIPE = Recipe(64, 0.25, 1e-3, 0.2, 0.25, 0.0, (0.9, 0.999), None, False, 256)


def compared(what: str, against: str, relative: float, bound: float | None = None, extra: bool = True) -> Comparison:
    part = Difference(relative / 2, 0.5) if extra else None
    return Comparison(what, against, Difference(relative, 1 - relative**2 / 2), part, bound)


def window(accumulation: int, tokens: tuple[int, ...] = (), extra: bool = True, **relative: float) -> Window:
    """Differences by short name; what is not named is as good as can be."""
    found = {"same": 2e-7, "again": 0.0, "fp64": 1e-15, "micro_mean": 0.1, "none": 1.5, "clip": 0.2} | relative
    rows = [
        (WINDOW, BATCH, found["same"], 1e-5),
        (AGAIN, BATCH, found["again"]),
        (CLIPPED, BATCH, found["same"], 1e-5),
        (at(WINDOW, "fp64"), at(BATCH, "fp64"), found["fp64"], 1e-12),
        *((name, WINDOW, found[key]) for name, key in zip(FAULTS, ("micro_mean", "none", "clip"), strict=True)),
    ]
    if "own_mean" in relative:
        rows += [(MENDED, WINDOW, 0.0), (OWN_MEAN, WINDOW, relative["own_mean"])]
    return Window(
        tuple(map(str, range(2 * accumulation))),
        tokens or tuple(range(10, 10 + accumulation)),
        3.0,
        0.5 if extra else None,
        1.5,
        tuple(compared(*row, extra=extra) for row in rows),
        Memory(2_000_000, None),
        Memory(2_000_000 * accumulation, None),
        0.25,
        0.125,
    )


def made(*windows: Window, **changes) -> Audit:
    measured = Measured(
        windows,
        changes.pop("refused", ""),
        changes.pop("dropout", ()),
        changes.pop("padded_left", False),
        changes.pop("not_copied", {}),
    )
    schedules = tuple(schedule(RECIPE, 2, one.accumulate_grad_batches) for one in windows)
    given = Audit("nano", "world", "fp32", 2, 1, None, 64, 1234, "surgery", (), measured, schedules)
    return replace(given, **changes)


def test_a_good_audit_says_how_good():
    found = made(window(1), window(4), window(8, same=3e-7))
    assert found.passed
    assert verdict(found) == (
        "Good: at accumulation 1, 4 and 8 a window's gradient is that of one batch of the same samples; the relative "
        "difference is at most 3.0e-07 in fp32 (allowed 1e-05), 1.0e-15 in fp64 (allowed 1e-12)."
    )
    assert headline(found).startswith("nano in fp32, 1,234 trained parameters (surgery), micro-batches of 2 samples of world")


@pytest.mark.parametrize(
    ("changes", "audit", "said"),
    [
        ({"same": 0.1, "fp64": 0.1}, {}, "Bad: at accumulation 4 the window differs from one batch by 0.100 (allowed 1e-05)."),
        ({"fp64": 1e-6}, {}, "Bad: at accumulation 4 the window in fp64 differs from one batch in fp64 by 1.0e-06 (allowed"),
        ({"same": 2e-5}, {"padded_left": True}, "In fp64 the two agree: this is rounding, not the rule."),
        ({"same": 0.1, "fp64": 0.1, "again": 0.1}, {"padded_left": True}, "The same batch run twice differs too"),
        ({"same": 0.1, "fp64": 0.1}, {"padded_left": True}, "padded on the left (qformer_padded_left)"),
        ({"same": float("nan")}, {}, "differs from one batch by nan"),
    ],
)
def test_a_bad_one_says_where_and_what_may_be_behind_it(changes, audit, said):
    found = made(window(1), window(4, **changes), **audit)
    assert not found.passed
    assert said in verdict(found)
    assert "accumulation 1 " not in verdict(found)


def test_a_refused_model_is_bad_and_has_a_schedule_only():
    found = replace(made(window(4)), measured=Measured((), "layer 'x' is a BatchNorm1d", (), False, {}))
    assert not found.passed
    assert verdict(found) == "Bad: layer 'x' is a BatchNorm1d"
    assert [sheet.title for sheet in sheets(found)] == ["Learning rate"]
    assert remarks(found) == []


def test_what_one_batch_rounds_itself_is_allowed_but_no_broken_rule():
    assert allowed("fp32", None) == allowed("fp32", 1e-6) == 1e-5
    assert allowed("fp32", 1e-4) == pytest.approx(1.1e-4)
    assert allowed("fp32", 0.5) == 1e-3
    assert allowed("bf16", 0.5) == 5e-2


def test_remarks_say_dropout_references_clips_and_what_micro_mean_does():
    found = remarks(
        made(
            window(1, micro_mean=0.0),
            window(4, own_mean=0.1),
            dropout=("a.b", "c"),
            trainer="5.0",
            not_copied={"fp64": "too large"},
            left_out=("x\x1b: broken",),
        )
    )
    assert found[0].startswith("Dropout: 2 layers draw random masks (the first: a.b).")
    assert "measured with dropout switched off" in found[0]
    assert found[1] == "No reference in fp64: too large."
    assert found[2].startswith("Passed over, since they cannot be shown: 1 clips, x")
    assert "\x1b" not in found[2]
    assert "weights short answers more: it changes the gradient by up to 10 %" in found[3]
    assert "its gradient is this one (difference at most 0)" in found[4]
    assert found[4].endswith("it differs by up to 0.100.")


def test_micro_mean_of_equally_long_answers_is_called_harmless():
    [said] = remarks(made(window(4, tokens=(7, 7, 7, 7), micro_mean=1e-7)))
    assert "is harmless here, every micro-batch of a window holds equally many supervised tokens" in said
    [said] = remarks(made(window(4, tokens=(7, 7, 7, 7), micro_mean=0.1)))
    assert "harmless" not in said


def test_sheets_have_a_row_a_window_and_no_empty_column():
    found = {sheet.title: sheet for sheet in sheets(made(window(1, extra=False), window(4, extra=False)))}
    assert list(found) == [
        "Gradient of a window and of one batch of the same samples",
        "What a broken rule would change",
        "Learning rate",
        "Memory and time",
    ]
    gradients = found["Gradient of a window and of one batch of the same samples"]
    assert gradients.columns == ("accum", "batch", "tokens", "norm", "difference", "cosine", "again", "both in fp64")
    assert gradients.rows[1] == ("4", "8", "10 / 11.5 / 13", "3", "2.0e-07", "1.0000", "0", "1.0e-15")
    assert found["Memory and time"].rows[1] == ("4", "8", "2.0", "8.0", "4.00", "0.25", "0.125")
    assert sheets(made(window(4, own_mean=0.1), trainer="5.0"))[-1].rows == (
        ("4", "0", "1.0000", "0", "0.5000", "0.100", "0.9950", "0.050", "0.5000"),
    )


@pytest.mark.parametrize("width", [80, 140])
def test_figures_are_whole_at_any_width(width):
    for sheet in sheets(made(window(1, own_mean=0.1), window(4, own_mean=0.1), trainer="5.0")):
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            console.print(sheet.rich(width))
        shown = capture.get()
        assert max(map(len, shown.splitlines())) <= width
        gone = " ".join(shown.split()).partition("(Not shown: ")[2].partition(".)")[0].split(", ")
        kept = [n for n, name in enumerate(sheet.columns) if name not in gone]
        assert len(kept) > 5
        for row in sheet.rows:
            assert [cell for n in kept if (cell := row[n]) not in shown] == []


def test_csv_has_a_row_a_figure():
    rows = list(csv.DictReader(as_csv(made(window(1, extra=False), window(4, own_mean=0.1))).splitlines()))
    assert list(rows[0]) == ["accumulate_grad_batches", "what", "against", "figure", "value", "allowed"]
    by = {(row["accumulate_grad_batches"], row["what"], row["against"], row["figure"]): row for row in rows}
    assert len(by) == len(rows)
    assert by["4", WINDOW, BATCH, "relative_difference"]["value"] == "2e-07"
    assert by["4", WINDOW, BATCH, "relative_difference"]["allowed"] == "1e-05"
    assert by["4", OWN_MEAN, WINDOW, "extra_cosine"]["value"] == "0.5"
    assert by["4", BATCH, "", "saved_bytes"]["value"] == "8000000"
    assert by["1", BATCH, "", "cuda_peak_bytes"]["value"] == ""
    assert by["4", "micro-batch", "3", "supervised_tokens"]["value"] == "13"
    assert by["4", "learning rate of the peak", "optimizer steps", "last"]["value"] == "0.25"
    assert ("1", WINDOW, BATCH, "extra_cosine") not in by
