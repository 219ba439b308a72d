"""An audit as tables and as a CSV file; summary.py states it in sentences."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from qtablate.audit.records import (
    BATCH,
    INCORRECT_RULES,
    REPEAT,
    TRAINER_MEAN,
    TRAINER_TOKENS,
    WINDOW,
    Audit,
    Comparison,
    Rates,
    Window,
    in_precision,
)
from qtablate.table import Table

Column = tuple[str, Callable[[Window], str]]
"""Header of a column and the function that formats its cell."""
MICRO_MEAN, NONE, CLIP = INCORRECT_RULES

_ACCUM: Column = ("accum", lambda w: str(w.accumulate_grad_batches))
_BATCH: Column = ("batch", lambda w: str(len(w.samples)))


def tables(audit: Audit) -> list[Table]:
    """Return the tables of everything that was measured: gradients, rules, learning rates, costs, Trainer."""
    windows = audit.measurement.windows
    out = [_gradients(windows), _incorrect_rules(windows), _schedules(audit), _costs(windows)]
    if audit.trainer_version:
        out.append(_trainer(audit))
    return [table for table in out if table.rows]


def _gradients(windows: Sequence[Window]) -> Table:
    columns = [
        _ACCUM,
        _BATCH,
        ("tokens", lambda w: f"{min(w.tokens)} / {median(w.tokens):g} / {max(w.tokens)}"),
        ("norm", lambda w: f"{w.norm:.3g}"),
        _difference("difference", WINDOW, BATCH),
        _cosine("cosine", WINDOW, BATCH),
        ("extra norm", lambda w: "" if w.extra_norm is None else f"{w.extra_norm:.3g}"),
        _extra("extra difference", WINDOW, BATCH),
        _extra_cosine("extra cosine", WINDOW, BATCH),
        _difference("repeat", REPEAT, BATCH),
        _difference("window to fp32", WINDOW, in_precision(BATCH, "fp32")),
        _difference("batch to fp32", BATCH, in_precision(BATCH, "fp32")),
        _difference("both in fp64", in_precision(WINDOW, "fp64"), in_precision(BATCH, "fp64")),
        _difference("window to fp64", WINDOW, in_precision(BATCH, "fp64")),
        _difference("batch to fp64", BATCH, in_precision(BATCH, "fp64")),
    ]
    note = (
        "tokens: supervised tokens per micro-batch, minimum / median / maximum; difference: |window - batch| / |batch| over "
        "all trained parameters; extra: the same over the extra query tokens; repeat: the same batch run twice; both in fp64: "
        "window against batch; window to, batch to: difference from one batch in that precision."
    )
    optional = ("batch to fp64", "window to fp64", "extra cosine", "extra norm", "repeat", "batch to fp32", "batch", "norm")
    return _table("Gradient of a window and of one batch of the same samples", columns, windows, note, optional)


def _incorrect_rules(windows: Sequence[Window]) -> Table:
    columns = [
        _ACCUM,
        _difference("micro_mean", MICRO_MEAN, WINDOW),
        _cosine("micro_mean cosine", MICRO_MEAN, WINDOW),
        _difference("none", NONE, WINDOW),
        _cosine("none cosine", NONE, WINDOW),
        ("clipped at", lambda w: f"{w.clip_norm:.3g}"),
        _difference("clip_per micro_batch", CLIP, WINDOW),
        _cosine("clip_per cosine", CLIP, WINDOW),
    ]
    note = (
        "relative difference from the gradient of the correct rule; micro_mean: the mean loss of each micro-batch, divided by "
        "the accumulation; none: the same without the division; clip_per micro_batch: clipped after each micro-batch instead "
        "of once per window; clipped at: --max-grad-norm, or half the norm without it."
    )
    return _table("Gradients of incorrect accumulation rules", columns, windows, note, ("none cosine",))


def _schedules(audit: Audit) -> Table:
    rows = []
    for schedule in audit.schedules:
        correct, per_micro_batch, too_fast, too_slow = schedule.rates
        rows.append(
            (
                str(schedule.accumulate_grad_batches),
                str(schedule.steps),
                *_mean_and_last(correct),
                *_mean_and_last(per_micro_batch),
                format_difference(per_micro_batch.max_deviation),
                *_mean_and_last(too_fast),
                *_mean_and_last(too_slow),
            )
        )
    columns = (
        "accum",
        "steps",
        "mean",
        "last",
        "micro mean",
        "micro last",
        "micro max deviation",
        "fast mean",
        "fast last",
        "slow mean",
        "slow last",
    )
    note = (
        f"shares of the peak rate at the optimizer steps of a cell of {audit.samples} samples; micro: the schedule counts "
        "micro-batches (lr_step_per micro_batch); max deviation: largest difference from the correct rate at any step; fast: "
        "as long as the optimizer steps but advanced with each micro-batch; slow: as long as the micro-batches but advanced "
        "once per window."
    )
    return Table("Learning rate", columns, tuple(rows), note, optional=("micro max deviation", "steps"))


def _costs(windows: Sequence[Window]) -> Table:
    columns: list[Column] = [
        _ACCUM,
        _BATCH,
        ("micro-batch saves MB", lambda w: f"{w.window_memory.saved / 1e6:.1f}"),
        ("one batch saves MB", lambda w: f"{w.batch_memory.saved / 1e6:.1f}"),
        ("ratio", lambda w: f"{w.batch_memory.saved / w.window_memory.saved:.2f}"),
        ("window peak MB", lambda w: _mb(w.window_memory.cuda_peak)),
        ("batch peak MB", lambda w: _mb(w.batch_memory.cuda_peak)),
        ("window seconds", lambda w: f"{w.window_seconds:.3g}"),
        ("batch seconds", lambda w: f"{w.batch_seconds:.3g}"),
    ]
    note = (
        "saves: activations that autograd saves for the backward pass, without parameters, of the largest micro-batch and of "
        "one batch; seconds: forward and backward passes, timed once"
        + (
            "; peak: memory allocated on the GPU above that before the pass."
            if any(w.batch_memory.cuda_peak for w in windows)
            else "."
        )
    )
    return _table("Memory and time", columns, windows, note)


def _trainer(audit: Audit) -> Table:
    columns = [_ACCUM]
    for name, what in (("token loss", TRAINER_TOKENS), ("mean loss", TRAINER_MEAN)):
        columns += [
            _difference(name, what, WINDOW),
            _cosine(f"{name} cosine", what, WINDOW),
            _extra(f"{name} extra", what, WINDOW),
            _extra_cosine(f"{name} extra cosine", what, WINDOW),
        ]
    note = (
        "relative difference of the gradient that Trainer's optimizer receives from this window's; token loss: the model "
        "divides by num_items_in_batch, which Trainer counts (since October 2024, pull requests 34191 and 34198); mean loss: "
        "the model returns the mean loss of a micro-batch and Trainer divides it by the accumulation; extra: the same over the "
        "extra query tokens."
    )
    title = f"The same windows through Trainer of transformers {audit.trainer_version}"
    return _table(title, columns, audit.measurement.windows, note)


def _table(title: str, columns: Sequence[Column], windows: Sequence[Window], note: str, optional: Sequence[str] = ()) -> Table:
    """Build a table with one row per window, without columns that are empty throughout."""
    cells = {name: [cell(window) for window in windows] for name, cell in columns}
    filled = {name: column for name, column in cells.items() if any(column)}
    rows = tuple(zip(*filled.values(), strict=True))
    return Table(title, tuple(filled), rows, note, optional=tuple(name for name in optional if name in filled))


def _difference(name: str, gradient: str, reference: str) -> Column:
    return name, _cell(gradient, reference, lambda c: format_difference(c.total.relative))


def _cosine(name: str, gradient: str, reference: str) -> Column:
    return name, _cell(gradient, reference, lambda c: f"{c.total.cosine:.4f}")


def _extra(name: str, gradient: str, reference: str) -> Column:
    return name, _cell(gradient, reference, lambda c: format_difference(c.extra.relative) if c.extra else "")


def _extra_cosine(name: str, gradient: str, reference: str) -> Column:
    return name, _cell(gradient, reference, lambda c: f"{c.extra.cosine:.4f}" if c.extra else "")


def _cell(gradient: str, reference: str, text: Callable[[Comparison], str]) -> Callable[[Window], str]:
    """Format one comparison of a window; empty where the two were not compared."""

    def cell(window: Window) -> str:
        comparison = window.comparison(gradient, reference)
        return text(comparison) if comparison else ""

    return cell


def as_csv(audit: Audit) -> str:
    """Return the audit as CSV, one row per figure. Missing values are empty.

    Columns: accumulate_grad_batches, gradient, reference, metric, value, tolerance.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("accumulate_grad_batches", "gradient", "reference", "metric", "value", "tolerance"))
    for window in audit.measurement.windows:
        rows.writerows((window.accumulate_grad_batches, *row) for row in _figures(window))
    for schedule in audit.schedules:
        for rates in schedule.rates:
            for metric, value in (("mean", rates.mean), ("last", rates.last), ("max_deviation", rates.max_deviation)):
                row = ("learning rate of the peak", rates.name, metric, value, None)
                rows.writerow((schedule.accumulate_grad_batches, *row))
    return text.getvalue()


def _figures(window: Window) -> Iterator[tuple[str, str, str, float | None, float | None]]:
    """Yield (gradient, reference, metric, value, tolerance)."""
    for c in window.comparisons:
        yield c.gradient, c.reference, "relative_difference", c.total.relative, c.tolerance
        yield c.gradient, c.reference, "cosine", c.total.cosine, None
        if c.extra:
            yield c.gradient, c.reference, "extra_relative_difference", c.extra.relative, None
            yield c.gradient, c.reference, "extra_cosine", c.extra.cosine, None
    yield BATCH, "", "norm", window.norm, None
    yield BATCH, "", "extra_norm", window.extra_norm, None
    yield WINDOW, "", "max_grad_norm", window.clip_norm, None
    for number, tokens in enumerate(window.tokens):
        yield "micro-batch", str(number), "supervised_tokens", tokens, None
    yield "largest micro-batch", "", "saved_bytes", window.window_memory.saved, None
    yield WINDOW, "", "cuda_peak_bytes", window.window_memory.cuda_peak, None
    yield BATCH, "", "saved_bytes", window.batch_memory.saved, None
    yield BATCH, "", "cuda_peak_bytes", window.batch_memory.cuda_peak, None
    yield WINDOW, "", "seconds", window.window_seconds, None
    yield BATCH, "", "seconds", window.batch_seconds, None


def format_difference(value: float) -> str:
    """Format a relative difference: three decimals, or scientific notation below 0.001."""
    return "0" if value == 0 else f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _mean_and_last(rates: Rates) -> tuple[str, str]:
    return f"{rates.mean:.3f}", f"{rates.last:.3f}"


def _mb(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f}"
