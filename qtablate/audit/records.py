"""Records of an audit: gradients, memory, time and learning rates of a setting. No torch is needed to read them."""

from collections.abc import Mapping
from dataclasses import dataclass

TOLERANCE = {"fp64": 1e-12, "fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-2}
"""Precision -> largest relative difference of a window's gradient from that of one batch; bf16 and fp16 against fp32."""
MAX_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
"""Upper bound of the tolerance where one batch itself rounds more than TOLERANCE. On answers of different lengths every
incorrect rule differs by far more."""
HIGHER_PRECISION = {"fp32": "fp64", "bf16": "fp32", "fp16": "fp32"}
"""Precision -> the one against which the rounding of one batch is measured."""

WINDOW, BATCH, REPEAT, CLIPPED = "window", "one batch", "one batch, repeated", "clipped window"
"""Names of gradients."""
INCORRECT_RULES = ("micro_mean", "none", "clip_per micro_batch")
"""Gradients of the incorrect forms of rules 1 and 2 (train/accumulate.py)."""
TRAINER_TOKENS, TRAINER_MEAN = "Trainer, loss / num_items_in_batch", "Trainer, the model's own mean"
"""Gradients of transformers' Trainer: around a model that receives the window's number of tokens, and around one that returns
its mean loss."""


def tolerance(precision: str, rounding: float | None) -> float:
    """Return the largest relative difference that counts as rounding.

    Args:
        precision: The precision of the audit.
        rounding: Relative difference of one batch's gradient from the same in a higher precision; None where not measured.
    """
    return max(TOLERANCE[precision], min(MAX_TOLERANCE[precision], 1.1 * (rounding or 0.0)))


def in_precision(gradient: str, precision: str) -> str:
    """Name a gradient that is computed in another precision than the audit's."""
    return f"{gradient} in {precision}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of a gradient a from a gradient b."""

    relative: float
    """|a - b| / |b|"""
    cosine: float
    """Cosine of the angle between a and b."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two gradients of the same samples."""

    gradient: str
    """Name of the gradient that is compared."""
    reference: str
    """Name of the gradient that it is compared with."""
    total: Difference
    """Over all trained parameters."""
    extra: Difference | None
    """Over the extra query tokens; None without extra query tokens."""
    tolerance: float | None = None
    """Largest relative difference that passes; None for a comparison that cannot fail."""

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.tolerance is None or self.total.relative <= self.tolerance


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a forward pass and, on a GPU, of a forward and backward pass, in bytes."""

    saved: int
    """Activations saved for the backward pass, each storage counted once, without parameters and buffers."""
    cuda_peak: int | None
    """Peak of allocated memory above that before the pass, so without model, copies and gradients; None without a GPU."""


@dataclass(frozen=True, slots=True)
class Window:
    """One accumulation window and one batch of the same samples."""

    samples: tuple[str, ...]
    """Sample ids in order."""
    tokens: tuple[int, ...]
    """Supervised tokens of each micro-batch."""
    norm: float
    """Norm of one batch's gradient."""
    extra_norm: float | None
    """The extra query tokens' part of the norm; None without extra query tokens."""
    clip_norm: float
    """max_grad_norm at which clipping is compared: the setting's, or half the norm."""
    comparisons: tuple[Comparison, ...]
    window_memory: Memory
    """`saved` is that of the largest micro-batch, `cuda_peak` that of the window."""
    batch_memory: Memory
    window_seconds: float
    """Time of forward and backward passes of the window, after a first run that is not timed."""
    batch_seconds: float
    """The same of one batch."""

    @property
    def accumulate_grad_batches(self) -> int:
        """Number of micro-batches."""
        return len(self.tokens)

    def comparison(self, gradient: str, reference: str) -> Comparison | None:
        """Return the comparison of two gradients by name; None if they were not compared."""
        return next((c for c in self.comparisons if (c.gradient, c.reference) == (gradient, reference)), None)

    @property
    def passed(self) -> bool:
        """Whether all comparisons passed."""
        return all(comparison.passed for comparison in self.comparisons)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The windows of one model in one precision."""

    windows: tuple[Window, ...]
    """Empty for a rejected model."""
    rejection: str
    """Why no accumulation can equal a larger batch, with the layer's name; empty for a model that can be measured."""
    dropout: tuple[str, ...]
    """Names of layers with dropout. Their dropout was disabled."""
    padded_left: bool
    """Whether the Q-Former's text is padded on the left, so that a clip's visual tokens depend on the batch."""
    missing_references: Mapping[str, str]
    """Precision -> why there is no reference in it."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates at the optimizer steps of a cell, as shares of the peak."""

    name: str
    """How the schedule advances."""
    mean: float
    last: float
    max_deviation: float
    """Largest absolute difference from the correct schedule at any step."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rates of a whole cell by the way its schedule advances."""

    accumulate_grad_batches: int
    steps: int
    """Optimizer steps."""
    rates: tuple[Rates, ...]
    """The correct schedule first."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One setting and everything that was measured."""

    model: str
    train: str
    precision: str
    micro_batch_size: int
    seed: int
    max_grad_norm: float | None
    samples: int
    """Training samples of a cell, which the schedules are computed for."""
    trained_parameters: int
    query_resize: str
    """Which query tokens were kept and which are new."""
    skipped_clips: tuple[str, ...]
    """Clips that could not be read, with the reason."""
    measurement: Measurement
    schedules: tuple[Schedule, ...]
    trainer_version: str = ""
    """Version of transformers; empty without a comparison with its Trainer."""

    @property
    def passed(self) -> bool:
        """Whether the model was accepted and all windows passed."""
        return not self.measurement.rejection and all(window.passed for window in self.measurement.windows)
