"""Audit records made by hand, for the tests of tables and sentences."""

from dataclasses import replace

from settings import settings

from qtablate.audit.measure import schedule
from qtablate.audit.records import (
    BATCH,
    CLIPPED,
    INCORRECT_RULES,
    REPEAT,
    TRAINER_MEAN,
    TRAINER_TOKENS,
    WINDOW,
    Audit,
    Comparison,
    Difference,
    Measurement,
    Memory,
    Window,
    in_precision,
)

SETTINGS = settings(samples=64, weight_decay=0.0)


def comparison(gradient: str, reference: str, relative: float, bound: float | None = None, extra: bool = True) -> Comparison:
    part = Difference(relative / 2, 0.5) if extra else None
    return Comparison(gradient, reference, Difference(relative, 1 - relative**2 / 2), part, bound)


def window(accumulation: int, tokens: tuple[int, ...] = (), extra: bool = True, **differences: float) -> Window:
    """A window with relative differences by short name; those without a name here are as small as can be.

    Args:
        accumulation: Number of micro-batches, of two samples each.
        tokens: Supervised tokens of each micro-batch.
        extra: Whether there are extra query tokens.
        differences: same, repeat, fp64, micro_mean, none, clip, trainer_mean.
    """
    relative = {"same": 2e-7, "repeat": 0.0, "fp64": 1e-15, "micro_mean": 0.1, "none": 1.5, "clip": 0.2} | differences
    rows = [
        (WINDOW, BATCH, relative["same"], 1e-5),
        (REPEAT, BATCH, relative["repeat"]),
        (CLIPPED, BATCH, relative["same"], 1e-5),
        (in_precision(WINDOW, "fp64"), in_precision(BATCH, "fp64"), relative["fp64"], 1e-12),
        *((name, WINDOW, relative[key]) for name, key in zip(INCORRECT_RULES, ("micro_mean", "none", "clip"), strict=True)),
    ]
    if "trainer_mean" in differences:
        rows += [(TRAINER_TOKENS, WINDOW, 0.0), (TRAINER_MEAN, WINDOW, differences["trainer_mean"])]
    return Window(
        tuple(map(str, range(2 * accumulation))),
        tokens or tuple(range(10, 10 + accumulation)),
        3.0,
        0.5 if extra else None,
        1.5,
        tuple(comparison(*row, extra=extra) for row in rows),
        Memory(2_000_000, None),
        Memory(2_000_000 * accumulation, None),
        0.25,
        0.125,
    )


def audit_of(*windows: Window, **changes) -> Audit:
    """An audit of nano with these windows; `changes` are fields of Measurement and of Audit."""
    measurement = Measurement(
        windows,
        changes.pop("rejection", ""),
        changes.pop("dropout", ()),
        changes.pop("padded_left", False),
        changes.pop("missing_references", {}),
    )
    schedules = tuple(schedule(SETTINGS, 2, row.accumulate_grad_batches) for row in windows)
    audit = Audit("nano", "world", "fp32", 2, 1, None, 64, 1234, "all rows new", (), measurement, schedules)
    return replace(audit, **changes)
