"""What an audit found: the records, what is allowed, and the verdict. Light: whoever reads them needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

ALLOWED = {"fp64": 1e-12, "fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-2}
"""Largest relative difference between a window's gradient and that of one batch, by precision; bf16 and fp16
against fp32."""
AT_MOST = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
"""What is allowed at most where one batch itself rounds more than that; every broken rule is far beyond on ragged answers."""
HIGHER = {"fp32": "fp64", "bf16": "fp32", "fp16": "fp32"}
"""The precision that one batch's own rounding is measured against."""

WINDOW, BATCH, AGAIN, CLIPPED = "window", "one batch", "one batch again", "clipped window"
FAULTS = ("micro_mean", "none", "clip_at micro_batch")
"""The incorrect forms of rules 1 and 2 (train/accumulate.py)."""
MENDED, OWN_MEAN = "Trainer, loss / num_items_in_batch", "Trainer, the model's own mean"
"""transformers' Trainer around a model that takes the window's number of tokens, and around one that does not."""


def allowed(precision: str, rounding: float | None) -> float:
    """The largest relative difference that is no fault. `rounding`: of one batch's gradient from that in a higher precision."""
    return max(ALLOWED[precision], min(AT_MOST[precision], 1.1 * (rounding or 0.0)))


def at(what: str, precision: str) -> str:
    """Where it is computed in another precision than the audit's."""
    return f"{what} in {precision}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a gradient a from a gradient b."""

    relative: float
    """|a - b| / |b|"""
    cosine: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two gradients of the same samples."""

    what: str
    against: str
    every: Difference
    """Over all that is trained."""
    extra: Difference | None
    """The extra query tokens' part; None where there are none."""
    allowed: float | None = None
    """The largest relative difference that is no fault; None where no verdict rests on it."""

    @property
    def passed(self) -> bool:
        """What is not a number has not passed."""
        return self.allowed is None or self.every.relative <= self.allowed


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one forward pass, and on a GPU of forward and backward pass."""

    saved: int
    """Bytes kept for the backward pass, each storage once, parameters and buffers not counted."""
    cuda_peak: int | None
    """Bytes that are allocated at the peak beyond what was before: model, copies and earlier gradients not counted."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window of `len(tokens)` micro-batches, measured beside one batch of the same samples."""

    samples: tuple[str, ...]
    """Their ids, in order."""
    tokens: tuple[int, ...]
    """Supervised tokens of each micro-batch."""
    norm: float
    """Of one batch's gradient."""
    extra_norm: float | None
    clip: float
    """max_grad_norm that clipping was compared at: the user's, or half the norm."""
    comparisons: tuple[Comparison, ...]
    micro_batch: Memory
    """Of the largest micro-batch; the peak is the whole window's."""
    batch: Memory
    seconds: float
    """Forward and backward passes of the window, after a first run."""
    batch_seconds: float

    @property
    def accumulate_grad_batches(self) -> int:
        return len(self.tokens)

    def of(self, what: str, against: str) -> Comparison | None:
        return next((one for one in self.comparisons if (one.what, one.against) == (what, against)), None)

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.comparisons)


@dataclass(frozen=True, slots=True)
class Measured:
    """Windows of one model in one precision."""

    windows: tuple[Window, ...]
    """Empty where the model was refused."""
    refused: str
    """Why no accumulation can equal a larger batch, the layer by name; empty where nothing speaks against it."""
    dropout: tuple[str, ...]
    """Layers that draw random masks, by name. They were switched off."""
    padded_left: bool
    """Whether the Q-Former's text is padded on the left, so that a clip's tokens depend on the batch it is in."""
    not_copied: Mapping[str, str]
    """Why there is no reference in a precision, by precision."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates at the optimizer steps of a run, relative to the peak."""

    name: str
    mean: float
    last: float
    farthest: float
    """Largest distance from the right sequence."""


@dataclass(frozen=True, slots=True)
class Schedule:
    accumulate_grad_batches: int
    steps: int
    rates: tuple[Rates, ...]
    """The right one first."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One setting, and what was measured of it."""

    model: str
    train: str
    precision: str
    batch_size: int
    seed: int
    max_grad_norm: float | None
    samples: int
    """Of a sweep's cell, which the schedule is of."""
    trained: int
    """Parameters."""
    surgery: str
    left_out: tuple[str, ...]
    """Clips that could not be shown, and why."""
    measured: Measured
    schedules: tuple[Schedule, ...]
    trainer: str = ""
    """Its version, where it was compared with."""

    @property
    def passed(self) -> bool:
        return not self.measured.refused and all(window.passed for window in self.measured.windows)
