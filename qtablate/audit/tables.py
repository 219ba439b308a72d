"""An audit as sheets and as a csv file; verdict.py says it in words."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from qtablate.audit.records import AGAIN, BATCH, FAULTS, MENDED, OWN_MEAN, WINDOW, Audit, Window, at
from qtablate.table import Table

Column = tuple[str, Callable[[Window], str]]
MICRO_MEAN, NONE, CLIP = FAULTS


def sheets(audit: Audit) -> list[Table]:
    """Gradients, broken rules, schedule, memory and time, Trainer: whatever was measured."""
    windows = audit.measured.windows
    found = [_gradients(windows), _faults(windows), _schedules(audit), _costs(windows)]
    found += [_trainer(audit)] if audit.trainer else []
    return [sheet for sheet in found if sheet.rows]


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
        _difference("again", AGAIN, BATCH),
        _difference("window to fp32", WINDOW, at(BATCH, "fp32")),
        _difference("batch to fp32", BATCH, at(BATCH, "fp32")),
        _difference("both in fp64", at(WINDOW, "fp64"), at(BATCH, "fp64")),
        _difference("window to fp64", WINDOW, at(BATCH, "fp64")),
        _difference("batch to fp64", BATCH, at(BATCH, "fp64")),
    ]
    note = (
        "tokens: supervised ones of a micro-batch, fewest / median / most; difference: |window - batch| / |batch| over all "
        "that is trained; extra: the extra query tokens' part; again: the same batch run twice; both in fp64: window, batch; "
        "window to, batch to: from one batch in that precision."
    )
    optional = ("batch to fp64", "window to fp64", "extra cosine", "extra norm", "again", "batch to fp32", "batch", "norm")
    return _sheet("Gradient of a window and of one batch of the same samples", columns, windows, note, optional)


def _faults(windows: Sequence[Window]) -> Table:
    columns = [
        _ACCUM,
        _difference("micro_mean", MICRO_MEAN, WINDOW),
        _cosine("micro_mean cosine", MICRO_MEAN, WINDOW),
        _difference("none", NONE, WINDOW),
        _cosine("none cosine", NONE, WINDOW),
        ("clipped at", lambda w: f"{w.clip:.3g}"),
        _difference("clip_at micro_batch", CLIP, WINDOW),
        _cosine("clip_at cosine", CLIP, WINDOW),
    ]
    note = (
        "relative difference from the right window's gradient; micro_mean: each micro-batch's mean loss divided by the "
        "accumulation; none: not divided at all; clip_at micro_batch: clipped after each one, against clipped once; clipped "
        "at: --max-grad-norm, or half the norm where there is none."
    )
    return _sheet("What a broken rule would change", columns, windows, note, ("none cosine",))


def _schedules(audit: Audit) -> Table:
    rows = []
    for one in audit.schedules:
        right, counted, early, late = one.rates
        rows.append(
            (
                str(one.accumulate_grad_batches),
                str(one.steps),
                *_two(right.mean, right.last),
                *_two(counted.mean, counted.last),
                share(counted.farthest),
                *_two(early.mean, early.last),
                *_two(late.mean, late.last),
            )
        )
    columns = (
        "accum",
        "steps",
        "mean",
        "last",
        "micro mean",
        "micro last",
        "micro farthest",
        "early mean",
        "early last",
        "late mean",
        "late last",
    )
    note = (
        f"of the peak, at the optimizer steps of a cell of {audit.samples} samples; micro: counted in micro-batches "
        "(schedule_at micro_batch), farthest: at any step from the right rate; early: a schedule of so many steps that "
        "advances with each micro-batch; late: one of as many steps as there are micro-batches that advances once a window."
    )
    return Table("Learning rate", columns, tuple(rows), note, optional=("micro farthest", "steps"))


def _costs(windows: Sequence[Window]) -> Table:
    columns: list[Column] = [
        _ACCUM,
        _BATCH,
        ("micro-batch saves MB", lambda w: f"{w.micro_batch.saved / 1e6:.1f}"),
        ("one batch saves MB", lambda w: f"{w.batch.saved / 1e6:.1f}"),
        ("times", lambda w: f"{w.batch.saved / w.micro_batch.saved:.2f}"),
        ("window peak MB", lambda w: _mb(w.micro_batch.cuda_peak)),
        ("batch peak MB", lambda w: _mb(w.batch.cuda_peak)),
        ("window seconds", lambda w: f"{w.seconds:.3g}"),
        ("batch seconds", lambda w: f"{w.batch_seconds:.3g}"),
    ]
    note = (
        "saves: what autograd keeps for the backward pass, each storage once, parameters not counted, of the largest "
        "micro-batch and of one batch; seconds of forward and backward passes, timed once"
        + ("; peak: allocated on the GPU beyond what was before." if any(w.batch.cuda_peak for w in windows) else ".")
    )
    return _sheet("Memory and time", columns, windows, note)


def _trainer(audit: Audit) -> Table:
    columns = [_ACCUM]
    for name, what in (("mended", MENDED), ("own mean", OWN_MEAN)):
        columns += [
            _difference(name, what, WINDOW),
            _cosine(f"{name} cosine", what, WINDOW),
            _extra(f"{name} extra", what, WINDOW),
            _extra_cosine(f"{name} extra cosine", what, WINDOW),
        ]
    note = (
        "relative difference of the gradient that Trainer's optimizer finds from this window's; mended: the model divides by "
        "num_items_in_batch, which Trainer counts (since October 2024, pull requests 34191 and 34198); own mean: the model "
        "returns a micro-batch's mean loss and Trainer divides it by the accumulation; extra: the extra query tokens' part."
    )
    title = f"The same windows through Trainer of transformers {audit.trainer}"
    return _sheet(title, columns, audit.measured.windows, note)


def _sheet(title: str, columns: Sequence[Column], windows: Sequence[Window], note: str, optional: Sequence[str] = ()) -> Table:
    """Columns in which nothing stands are left out."""
    cells = {name: [cell(window) for window in windows] for name, cell in columns}
    shown = {name: some for name, some in cells.items() if any(some)}
    rows = tuple(zip(*shown.values(), strict=True))
    return Table(title, tuple(shown), rows, note, optional=tuple(name for name in optional if name in shown))


_ACCUM: Column = ("accum", lambda w: str(w.accumulate_grad_batches))
_BATCH: Column = ("batch", lambda w: str(len(w.samples)))


def _difference(name: str, what: str, against: str) -> Column:
    return name, lambda w: share(one.every.relative) if (one := w.of(what, against)) else ""


def _cosine(name: str, what: str, against: str) -> Column:
    return name, lambda w: f"{one.every.cosine:.4f}" if (one := w.of(what, against)) else ""


def _extra(name: str, what: str, against: str) -> Column:
    return name, lambda w: share(one.extra.relative) if (one := w.of(what, against)) and one.extra else ""


def _extra_cosine(name: str, what: str, against: str) -> Column:
    return name, lambda w: f"{one.extra.cosine:.4f}" if (one := w.of(what, against)) and one.extra else ""


def as_csv(audit: Audit) -> str:
    """A row a figure: accumulate_grad_batches, what, against, figure, value, allowed; a missing one is empty."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("accumulate_grad_batches", "what", "against", "figure", "value", "allowed"))
    for window in audit.measured.windows:
        rows.writerows((window.accumulate_grad_batches, *row) for row in _figures(window))
    for schedule in audit.schedules:
        for rates in schedule.rates:
            for figure in ("mean", "last", "farthest"):
                row = ("learning rate of the peak", rates.name, figure, getattr(rates, figure), None)
                rows.writerow((schedule.accumulate_grad_batches, *row))
    return text.getvalue()


def _figures(window: Window) -> Iterator[tuple[str, str, str, float | None, float | None]]:
    for one in window.comparisons:
        yield one.what, one.against, "relative_difference", one.every.relative, one.allowed
        yield one.what, one.against, "cosine", one.every.cosine, None
        if one.extra:
            yield one.what, one.against, "extra_relative_difference", one.extra.relative, None
            yield one.what, one.against, "extra_cosine", one.extra.cosine, None
    yield BATCH, "", "norm", window.norm, None
    yield BATCH, "", "extra_norm", window.extra_norm, None
    yield WINDOW, "", "max_grad_norm", window.clip, None
    for place, tokens in enumerate(window.tokens):
        yield "micro-batch", str(place), "supervised_tokens", tokens, None
    for what, memory in (("largest micro-batch", window.micro_batch), (BATCH, window.batch)):
        yield what, "", "saved_bytes", memory.saved, None
        yield (WINDOW if memory is window.micro_batch else what), "", "cuda_peak_bytes", memory.cuda_peak, None
    yield WINDOW, "", "seconds", window.seconds, None
    yield BATCH, "", "seconds", window.batch_seconds, None


def share(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _two(mean: float, last: float) -> tuple[str, str]:
    return f"{mean:.3f}", f"{last:.3f}"


def _mb(found: int | None) -> str:
    return "" if found is None else f"{found / 1e6:.0f}"
