"""An audit in sentences: its setting, remarks on the measurement, and the result."""

from collections.abc import Iterator, Sequence

from qtablate.audit.records import (
    BATCH,
    CLIPPED,
    HIGHER_PRECISION,
    MAX_TOLERANCE,
    REPEAT,
    TOLERANCE,
    TRAINER_MEAN,
    TRAINER_TOKENS,
    WINDOW,
    Audit,
    Comparison,
    Window,
)
from qtablate.audit.tables import MICRO_MEAN, format_difference
from qtablate.data.texts import escape_unprintable

_ROUNDING = 1e-5  # relative difference up to which fp32 may round


def headline(audit: Audit) -> str:
    """State the setting in one sentence."""
    clip = f"clipping at {audit.max_grad_norm:g}" if audit.max_grad_norm else "no clipping"
    return (
        f"{audit.model} in {audit.precision}, {audit.trained_parameters:,} trained parameters ({audit.query_resize}), "
        f"micro-batches of {audit.micro_batch_size} samples of {audit.train}, seed {audit.seed}, {clip}."
    )


def summary(audit: Audit) -> str:
    """State whether the audit passed; for one that failed, also where and the likely cause."""
    windows = audit.measurement.windows
    if audit.measurement.rejection:
        return f"Failed: {audit.measurement.rejection}"
    if not audit.passed:
        first_failures = [(w, next(c for c in w.comparisons if not c.passed)) for w in windows if not w.passed]
        named = "; ".join(
            f"at accumulation {window.accumulate_grad_batches} the {failure.gradient} differs from {failure.reference} by "
            f"{format_difference(failure.total.relative)} (tolerance {failure.tolerance:.0e})"
            for window, failure in first_failures
        )
        return f"Failed: {named}.{_likely_cause(audit)}"
    largest: dict[str, Comparison] = {}
    for comparison in _judged(windows):
        if comparison.gradient != CLIPPED:
            other = largest.get(comparison.gradient, comparison)
            largest[comparison.gradient] = max(comparison, other, key=lambda c: c.total.relative)
    named = ", ".join(
        f"{format_difference(c.total.relative)} in {_precision(c, audit)} (tolerance {c.tolerance:.0e})"
        for c in largest.values()
    )
    return (
        f"Passed: at {_accumulations(windows)} the gradient of a window is that of one batch of the same samples; the relative "
        f"difference is at most {named}."
    )


def remarks(audit: Audit) -> list[str]:
    """Return what is needed to read the tables and what follows from them, one paragraph each."""
    paragraphs = [
        _dropout(audit),
        *_missing_references(audit),
        _rounding(audit),
        _skipped_clips(audit),
        _micro_mean(audit),
        _trainer(audit),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


def _judged(windows: Sequence[Window]) -> list[Comparison]:
    """Return the comparisons that can fail."""
    return [comparison for window in windows for comparison in window.comparisons if comparison.tolerance is not None]


def _differences(windows: Sequence[Window], gradient: str, reference: str) -> list[float]:
    """Return the relative difference of two gradients in each window that has them."""
    comparisons = [window.comparison(gradient, reference) for window in windows]
    return [comparison.total.relative for comparison in comparisons if comparison]


def _accumulations(windows: Sequence[Window]) -> str:
    *first, last = [str(window.accumulate_grad_batches) for window in windows]
    return f"accumulation {', '.join(first)} and {last}" if first else f"accumulation {last}"


def _precision(comparison: Comparison, audit: Audit) -> str:
    if comparison.gradient != WINDOW:
        return "fp64"
    return audit.precision if comparison.reference == BATCH else f"{audit.precision} against fp32"


def _likely_cause(audit: Audit) -> str:
    windows = audit.measurement.windows
    repeats = _differences(windows, REPEAT, BATCH)
    if not all(repeat <= TOLERANCE[audit.precision] for repeat in repeats):
        return " The same batch run twice differs too: something other than a dropout layer is random in training."
    exact = [comparison for comparison in _judged(windows) if comparison.tolerance == TOLERANCE["fp64"]]
    if exact and all(comparison.passed for comparison in exact):
        return " In fp64 the two agree: the difference is rounding, not an incorrect rule."
    if audit.measurement.padded_left:
        return (
            " The Q-Former's text is padded on the left (qformer_padded_left), as in VideoChat2: the visual tokens of a clip "
            "then depend on its batch."
        )
    return ""


def _dropout(audit: Audit) -> str:
    layers = audit.measurement.dropout
    if not layers:
        return ""
    return (
        f"Dropout: {len(layers)} layers draw random masks (the first: {layers[0]}). Masks depend on how a batch is split, so "
        "that no two splits agree in training; all figures were measured with dropout disabled."
    )


def _missing_references(audit: Audit) -> Iterator[str]:
    for precision, reason in audit.measurement.missing_references.items():
        yield f"No reference in {precision}: {reason}."


def _rounding(audit: Audit) -> str:
    usual = TOLERANCE[audit.precision]
    bounds = [comparison.tolerance or 0.0 for comparison in _judged(audit.measurement.windows)]
    if max(bounds, default=0.0) <= usual:
        return ""
    return (
        f"One batch alone differs from {HIGHER_PRECISION[audit.precision]} by more than {usual:.0e} in this model. The "
        f"tolerance is therefore this difference and a tenth more, at most {MAX_TOLERANCE[audit.precision]:.0e}."
    )


def _skipped_clips(audit: Audit) -> str:
    if not audit.skipped_clips:
        return ""
    return (
        f"Skipped {len(audit.skipped_clips)} clips that cannot be read: "
        f"{escape_unprintable('; '.join(audit.skipped_clips[:3]))}. A cell "
        "leaves such clips out before it draws samples, so it trains on other samples."
    )


def _micro_mean(audit: Audit) -> str:
    windows = [window for window in audit.measurement.windows if window.accumulate_grad_batches > 1]
    differences = _differences(windows, MICRO_MEAN, WINDOW)
    if not differences:
        return ""
    even = all(len(set(window.tokens)) == 1 for window in windows)
    rule = "micro_mean (the mean loss of each micro-batch, divided by the accumulation)"
    if max(differences) <= _ROUNDING:
        why = "since all micro-batches of a window hold equally many supervised tokens" if even else "with these answers"
        return f"{rule} is harmless here, {why}: it changes the gradient by at most {format_difference(max(differences))}."
    return f"{rule} gives short answers more weight: it changes the gradient by up to {100 * max(differences):.2g} %."


def _trainer(audit: Audit) -> str:
    windows = audit.measurement.windows
    tokens, mean = (_differences(windows, gradient, WINDOW) for gradient in (TRAINER_TOKENS, TRAINER_MEAN))
    if not tokens:
        return ""
    same = max(tokens) <= TOLERANCE[audit.precision]
    return (
        f"Trainer of transformers {audit.trainer_version}: around a model that divides by num_items_in_batch its gradient is "
        f"{'the same' if same else 'different'} (difference at most {format_difference(max(tokens))}); around a model that "
        f"returns its mean loss the gradient differs by up to {format_difference(max(mean))}."
    )
