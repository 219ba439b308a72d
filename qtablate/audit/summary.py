"""An audit in words: what was looked at, what has to be known, and the verdict."""

from collections.abc import Iterator, Sequence

from qtablate.audit.records import (
    AGAIN,
    ALLOWED,
    AT_MOST,
    BATCH,
    CLIPPED,
    HIGHER,
    MENDED,
    OWN_MEAN,
    WINDOW,
    Audit,
    Comparison,
    Window,
)
from qtablate.audit.tables import MICRO_MEAN, share
from qtablate.validate.tables import escape_unprintable

_ROUNDING = 1e-5  # relative: as much as fp32 may round


def headline(audit: Audit) -> str:
    clip = f"clipping at {audit.max_grad_norm:g}" if audit.max_grad_norm else "no clipping"
    return (
        f"{audit.model} in {audit.precision}, {audit.trained:,} trained parameters ({audit.surgery}), micro-batches of "
        f"{audit.batch_size} samples of {audit.train}, seed {audit.seed}, {clip}."
    )


def verdict(audit: Audit) -> str:
    """One sentence, and where it is bad what may be behind it."""
    windows = audit.measured.windows
    if audit.measured.refused:
        return f"Bad: {audit.measured.refused}"
    if not audit.passed:
        failed = [
            (window, next(one for one in window.comparisons if not one.passed)) for window in windows if not window.passed
        ]
        named = "; ".join(
            f"at accumulation {window.accumulate_grad_batches} the {one.what} differs from {one.against} by "
            f"{share(one.every.relative)} (allowed {one.allowed:.0e})"
            for window, one in failed
        )
        return f"Bad: {named}.{_behind(audit)}"
    worst: dict[str, Comparison] = {}
    for one in (one for window in windows for one in window.comparisons if one.allowed is not None and one.what != CLIPPED):
        worst[one.what] = max(one, worst.get(one.what, one), key=lambda each: each.every.relative)
    named = ", ".join(
        f"{share(one.every.relative)} in {_precision(one, audit)} (allowed {one.allowed:.0e})" for one in worst.values()
    )
    return (
        f"Good: at {_accumulations(windows)} a window's gradient is that of one batch of the same samples; the relative "
        f"difference is at most {named}."
    )


def remarks(audit: Audit) -> list[str]:
    """What has to be known to read the sheets, and what they say; one paragraph each."""
    found = [_dropout(audit), *_missing(audit), _rounding(audit), _left_out(audit), _micro_mean(audit), _trainer(audit)]
    return [line for line in found if line]


def _accumulations(windows: Sequence[Window]) -> str:
    *first, last = [str(window.accumulate_grad_batches) for window in windows]
    return f"accumulation {', '.join(first)} and {last}" if first else f"accumulation {last}"


def _precision(one: Comparison, audit: Audit) -> str:
    if one.what != WINDOW:
        return "fp64"
    return audit.precision if one.against == BATCH else f"{audit.precision} against fp32"


def _behind(audit: Audit) -> str:
    again = [one for window in audit.measured.windows if (one := window.of(AGAIN, BATCH))]
    if not all(one.every.relative <= ALLOWED[audit.precision] for one in again):
        return " The same batch run twice differs too: something that is no layer of dropout is random in training."
    exact = [one for window in audit.measured.windows for one in window.comparisons if one.allowed == ALLOWED["fp64"]]
    if exact and all(one.passed for one in exact):
        return " In fp64 the two agree: this is rounding, not the rule."
    if audit.measured.padded_left:
        return (
            " The Q-Former's text is padded on the left (qformer_padded_left), as the original's: a clip's visual tokens then "
            "depend on the batch that it is in."
        )
    return ""


def _dropout(audit: Audit) -> str:
    layers = audit.measured.dropout
    if not layers:
        return ""
    return (
        f"Dropout: {len(layers)} layers draw random masks (the first: {layers[0]}). Masks depend on how a batch is split, so "
        "that no two splits coincide in training; all figures were measured with dropout switched off."
    )


def _missing(audit: Audit) -> Iterator[str]:
    for precision, why in audit.measured.not_copied.items():
        yield f"No reference in {precision}: {why}."


def _rounding(audit: Audit) -> str:
    usual, more = ALLOWED[audit.precision], AT_MOST[audit.precision]
    bounds = [one.allowed for window in audit.measured.windows for one in window.comparisons if one.allowed]
    if max(bounds, default=0.0) <= usual:
        return ""
    return (
        f"One batch alone differs from {HIGHER[audit.precision]} by more than {usual:.0e} in this model: as much as it rounds "
        f"itself, and a tenth more, is allowed, at most {more:.0e}."
    )


def _left_out(audit: Audit) -> str:
    if not audit.left_out:
        return ""
    return (
        f"Passed over, since they cannot be shown: {len(audit.left_out)} clips, "
        f"{escape_unprintable('; '.join(audit.left_out[:3]))}. A "
        "cell leaves such clips out before it draws, so that it sees other samples."
    )


def _micro_mean(audit: Audit) -> str:
    windows = [window for window in audit.measured.windows if window.accumulate_grad_batches > 1]
    found = [one.every.relative for window in windows if (one := window.of(MICRO_MEAN, WINDOW))]
    if not found:
        return ""
    even = all(len(set(window.tokens)) == 1 for window in windows)
    meant = "micro_mean (each micro-batch's mean loss, divided by the accumulation)"
    if max(found) <= _ROUNDING:
        why = "every micro-batch of a window holds equally many supervised tokens" if even else "as these answers are"
        return f"{meant} is harmless here, {why}: it changes the gradient by {share(max(found))} at most."
    return f"{meant} weights short answers more: it changes the gradient by up to {100 * max(found):.2g} %."


def _trainer(audit: Audit) -> str:
    windows = audit.measured.windows
    mended, own = (
        [one.every.relative for window in windows if (one := window.of(what, WINDOW))] for what in (MENDED, OWN_MEAN)
    )
    if not mended:
        return ""
    same = max(mended) <= ALLOWED[audit.precision]
    return (
        f"Trainer of transformers {audit.trainer}: around a model that divides by num_items_in_batch its gradient is "
        f"{'this one' if same else 'another'} (difference at most {share(max(mended))}); around a model that returns its own "
        f"mean loss it differs by up to {share(max(own))}."
    )
