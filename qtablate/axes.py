"""The axes of a grid: what each is called, which levels are known, which are incorrect, and where an axis has no meaning.

A new axis is one entry here and one field of grid.Condition; tables, contrasts and labels follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Axis:
    name: str
    """In grid.Condition and in every CSV file."""
    option: str
    """On the command line, without the dashes."""
    short: str
    """At the head of a column."""
    known: tuple[str, ...] = ()
    """Its levels where they are words, the usual one first."""
    incorrect: tuple[str, ...] = ()
    """Levels that break a rule of accumulation (train/accumulate.py): to be measured, labelled wherever they are shown."""
    absent: str | None = None
    """What stands in place of a level where the axis has no meaning and no level would be true."""


AXES = (
    Axis("extra_num_query_tokens", "tokens", "extra tokens"),
    Axis("accumulate_grad_batches", "accum", "accum"),
    Axis("micro_batch_size", "batch-size", "micro-batch"),
    Axis("mixing", "mixing", "mixing", ("mixed", "random", "interleaved")),
    Axis("extra_init", "extra-init", "extra init", ("normal", "zeros", "copy"), absent="none"),
    Axis("extra_lr", "extra-lr", "extra lr"),
    Axis("lr_scaling", "lr-scaling", "lr scaling", ("none", "sqrt", "linear")),
    Axis("loss_norm", "loss-norm", "loss norm", ("tokens", "micro_mean", "none"), incorrect=("micro_mean", "none")),
    Axis("clip_per", "clip-per", "clip per", ("window", "micro_batch"), incorrect=("micro_batch",)),
    Axis("lr_step_per", "lr-step-per", "lr step per", ("window", "micro_batch"), incorrect=("micro_batch",)),
)
SPLIT = ("accumulate_grad_batches", "micro_batch_size")
"""What may differ where one effective batch is split in two ways."""
BY_NAME = {axis.name: axis for axis in AXES}
BY_OPTION = {axis.option: axis for axis in AXES}

_Levels = Mapping[str, Any]
MEANINGLESS: tuple[tuple[str, Callable[[_Levels, int], bool], Any], ...] = (
    ("extra_init", lambda c, _: c["extra_num_query_tokens"] == 0, "none"),
    ("extra_lr", lambda c, _: c["extra_num_query_tokens"] == 0, 1.0),
    ("lr_scaling", lambda c, batch: effective(c) == batch, "none"),
    ("loss_norm", lambda c, _: c["accumulate_grad_batches"] == 1, "tokens"),
    ("clip_per", lambda c, _: c["accumulate_grad_batches"] == 1, "window"),
    ("lr_step_per", lambda c, _: c["accumulate_grad_batches"] == 1, "window"),
)
"""(axis, where all its levels are one and the same thing, how that is called). `batch` is the effective batch size that the
learning rate is meant for."""


def effective(levels: Mapping[str, Any]) -> int:
    """Effective batch size of a condition's levels."""
    found: int = levels.get("effective_batch_size") or levels["micro_batch_size"] * levels["accumulate_grad_batches"]
    return found


def settled(levels: Mapping[str, Any], lr_batch: int) -> dict[str, Any]:
    """The levels, with the one that it is called by for every axis that has no meaning beside the others."""
    return {**levels, **{axis: level for axis, alone, level in MEANINGLESS if axis in levels and alone(levels, lr_batch)}}


def meaningless(levels: Mapping[str, Any], lr_batch: int) -> set[str]:
    """The axes whose levels are all one and the same thing beside the others."""
    return {axis for axis, alone, _ in MEANINGLESS if axis in levels and alone(levels, lr_batch)}


def incorrect_levels(levels: Mapping[str, Any]) -> str:
    """`loss_norm=micro_mean; clip_per=micro_batch`: the rules that these levels break; empty for a right condition."""
    return "; ".join(f"{axis.name}={levels[axis.name]}" for axis in AXES if levels.get(axis.name) in axis.incorrect)


def told(axis: str, level: Any) -> str:
    """A level as tables show it."""
    known = BY_NAME.get(axis)
    text = f"{level:g}" if isinstance(level, float) else str(level)
    return f"{text} (incorrect)" if known and level in known.incorrect else text
