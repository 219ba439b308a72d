"""The axes of a grid. Each axis is declared once, as an annotated field of Condition.

The command line's options, the fields of GridConfig, the product of conditions, the columns of every CSV file, the labels
of tables and the contrasts of a report all follow from these declarations: a new axis is one new field here.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from qtablate.errors import ConfigError

Level = int | float | str
Levels = Mapping[str, Any]
"""The levels of one condition, by column."""

MAX_INTEGER = 2**32 - 1
"""Largest whole number that a level or a seed may be: what every random generator takes as a seed."""


def _never(levels: Levels, reference_batch: int) -> bool:
    return False


def _unchanged(level: Level, levels: Levels, reference_batch: int) -> Level:
    return level


@dataclass(frozen=True, slots=True)
class Axis:
    """The declaration of an axis: its names, its levels, and where it is inactive."""

    option: str
    """On the command line, without the dashes; with underscores it is the field of GridConfig."""
    label: str
    """At the head of a table's column."""
    help: str
    default: tuple[Level, ...] = ()
    """Levels where the user names none; empty: the model's own value."""
    baseline: Level | None = None
    """The level that others are compared with. None: the first of `default`."""
    minimum: float | None = None
    above: float | None = None
    below: float | None = None
    """Bounds of the levels that are numbers: at least `minimum`, more than `above`, less than `below`."""
    incorrect: tuple[str, ...] = ()
    """Levels that break a rule of accumulation (train/accumulate.py): measured on purpose, and labelled in every table."""
    inactive: Callable[[Levels, int], bool] = _never
    """Whether all levels of the axis are one and the same run, given the other levels of a condition and the effective batch
    size that the learning rate is meant for."""
    when_inactive: Level | None = None
    """What stands in place of the level then."""
    canonical: Callable[[Level, Levels, int], Level] = _unchanged
    """The level that stands for this one, where two levels are the same run in a condition."""
    scaled_levels: tuple[str, ...] = ()
    """Levels whose meaning depends on the reference batch size."""
    column: str = ""
    """The field of Condition, and the column of every CSV file. Filled in from the declaration."""
    names: tuple[str, ...] = ()
    """Levels that are names. Filled in from the field's type."""
    number: type[int] | type[float] | None = None
    """The type of the levels that are numbers. Filled in from the field's type."""

    @property
    def field(self) -> str:
        """The axis in a configuration."""
        return self.option.replace("-", "_")

    @property
    def placeholder(self) -> Level | None:
        """What stands for a level where the axis is inactive, if it is no level itself."""
        return self.when_inactive if isinstance(self.when_inactive, str) and self.when_inactive not in self.names else None

    @property
    def usual(self) -> Level | None:
        """The level that others are compared with where the user names no baseline; None: the first of the grid's levels."""
        if self.baseline is not None:
            return self.baseline
        return self.default[0] if self.default else None

    def parse(self, value: Any) -> tuple[Level, ...]:
        """Levels from a comma list, a sequence or a single level. Raises ValueError that names the wrong one."""
        parts: Sequence[Any]
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",")]
        else:
            parts = list(value) if isinstance(value, Sequence) else [value]
        if not parts and self.default:
            raise ValueError("the list is empty; give at least one level")
        levels = [self.parse_level(part) for part in parts]
        for level in levels:
            if levels.count(level) > 1:
                raise ValueError(
                    f"{level if isinstance(level, str) else f'{level:g}'} is given twice; each level may stand once"
                )
        return tuple(levels)

    def parse_level(self, value: Any) -> Level:
        """One level from text or a value of a file. Raises ValueError."""
        if isinstance(value, str) and value in self.names:
            return value
        if self.number is None:
            raise ValueError(f"unknown value '{value}'; known: {', '.join(self.names)}")
        known = f", or one of: {', '.join(self.names)}" if self.names else ""
        if self.number is int:
            return parse_integer(value, int(self.minimum or 0), f"{known}; give a comma list such as 0,32,64")
        return parse_number(value, self.minimum, self.above, self.below, known)

    def show(self, level: Level) -> str:
        """A level as tables show it; incorrect ones are labelled."""
        text = f"{level:g}" if isinstance(level, float) else str(level)
        return f"{text} (incorrect)" if level in self.incorrect else text


def parse_integer(value: Any, minimum: int, known: str = "; give a comma list such as 0,32,64") -> int:
    """A whole number from text or a value of a file; `known` ends the message about another value. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        try:
            value = int(str(value).strip())
        except ValueError:
            raise ValueError(f"'{value}' is not a whole number{known}") from None
    if value < minimum:
        raise ValueError(f"{value} is too small; the least is {minimum}")
    if value > MAX_INTEGER:
        raise ValueError(f"{value} is too large; the most is {MAX_INTEGER}")
    return int(value)


def parse_number(value: Any, minimum: float | None, above: float | None, below: float | None, known: str = "") -> float:
    """A finite number within its bounds from text or a value of a file. Raises ValueError."""
    text = str(value).strip()
    try:
        number = math.nan if isinstance(value, bool) else float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"'{text}' is not a number{known}; give a comma list such as 1,10")
    if above is not None and not above < number < math.inf:
        raise ValueError(f"{text} is not above {above:g}" if number <= above else f"{text} is not a finite number")
    if minimum is not None and number < minimum:
        raise ValueError(f"{text} is too small; the least is {minimum:g}")
    if below is not None and number >= below:
        raise ValueError(f"{text} is not below {below:g}")
    return number


def effective_batch_size(levels: Levels) -> int:
    """Samples in an optimizer step of a condition."""
    size: int = levels.get("effective_batch_size") or levels["micro_batch_size"] * levels["accumulate_grad_batches"]
    return size


def _no_extra_tokens(levels: Levels, _: int) -> bool:
    return bool(levels["extra_num_query_tokens"] == 0)


def _not_accumulating(levels: Levels, _: int) -> bool:
    return bool(levels["accumulate_grad_batches"] == 1)


def _at_reference_batch(levels: Levels, reference_batch: int) -> bool:
    return effective_batch_size(levels) == reference_batch


ADAM_BETA2 = 0.999
"""Decay of AdamW's second moments, VideoChat2's (videochat2_mistral config_7b_stage3.py) and PyTorch's default."""


def _beta2_at_reference_batch(level: Level, levels: Levels, reference_batch: int) -> Level:
    return ADAM_BETA2 if level == "scaled" and _at_reference_batch(levels, reference_batch) else level


@dataclass(frozen=True, slots=True)
class Condition:
    """One point of the grid: a cell without its seed. Each field is an axis."""

    extra_num_query_tokens: Annotated[
        int,
        Axis("tokens", "extra tokens", "extra_num_query_tokens to compare, 0 included.", (0, 32, 64), 0, minimum=0),
    ]
    accumulate_grad_batches: Annotated[
        int,
        Axis("accum", "accum", "accumulate_grad_batches to compare: micro-batches per optimizer step.", (1, 4), 1, minimum=1),
    ]
    micro_batch_size: Annotated[
        int,
        Axis("batch-size", "micro-batch", "Samples in a micro-batch; see --batch-size-is.", (8,), minimum=1),
    ]
    mixing: Annotated[
        Literal["mixed", "random", "interleaved"],
        Axis(
            "mixing",
            "mixing",
            "Media in micro-batches. mixed: every medium in each; random: one medium each, in random order; interleaved: one "
            "medium each, evenly spread.",
            ("mixed",),
        ),
    ]
    extra_init: Annotated[
        Literal["normal", "zeros", "copy"],
        Axis(
            "extra-init",
            "extra init",
            "Initial values of extra tokens. normal: at the base queries' scale; zeros: VideoChat2's; copy: of base queries.",
            ("normal",),
            inactive=_no_extra_tokens,
            when_inactive="none",
        ),
    ]
    extra_lr: Annotated[
        float,
        Axis(
            "extra-lr",
            "extra lr",
            "Learning rate of the extra tokens, as a multiple of the others'.",
            (1.0,),
            above=0,
            inactive=_no_extra_tokens,
            when_inactive=1.0,
        ),
    ] = 1.0
    lr_scaling: Annotated[
        Literal["none", "sqrt", "linear"],
        Axis(
            "lr-scaling",
            "lr scaling",
            "How the learning rate grows with the effective batch size.",
            ("none",),
            inactive=_at_reference_batch,
            when_inactive="none",
            scaled_levels=("sqrt", "linear"),
        ),
    ] = "none"
    loss_norm: Annotated[
        Literal["tokens", "micro_mean", "none"],
        Axis(
            "loss-norm",
            "loss norm",
            "What a window's summed loss is divided by. tokens: supervised ones; incorrect, to measure: micro_mean, none.",
            ("tokens",),
            incorrect=("micro_mean", "none"),
            inactive=_not_accumulating,
            when_inactive="tokens",
        ),
    ] = "tokens"
    clip_per: Annotated[
        Literal["window", "micro_batch"],
        Axis(
            "clip-per",
            "clip per",
            "Where gradients are clipped: once per window; incorrect, to measure: micro_batch.",
            ("window",),
            incorrect=("micro_batch",),
            inactive=_not_accumulating,
            when_inactive="window",
        ),
    ] = "window"
    lr_step_per: Annotated[
        Literal["window", "micro_batch"],
        Axis(
            "lr-step-per",
            "lr step per",
            "When the learning-rate schedule advances: once per window; incorrect, to measure: micro_batch.",
            ("window",),
            incorrect=("micro_batch",),
            inactive=_not_accumulating,
            when_inactive="window",
        ),
    ] = "window"
    adam_beta2: Annotated[
        float | Literal["scaled"],
        Axis(
            "adam-beta2",
            "beta2",
            f"Decay of AdamW's second moments. scaled: {ADAM_BETA2:g} to the power of effective over reference batch size, so "
            "that the average spans as many samples at every batch size (arXiv 2507.07101).",
            (ADAM_BETA2,),
            minimum=0,
            below=1,
            canonical=_beta2_at_reference_batch,
            scaled_levels=("scaled",),
        ),
    ] = ADAM_BETA2
    frames: Annotated[
        int,
        Axis("frames", "frames", "Frames per clip.", minimum=1),
    ] = 8

    @property
    def effective_batch_size(self) -> int:
        """Samples in an optimizer step."""
        return self.micro_batch_size * self.accumulate_grad_batches


def declared_axes(condition: type) -> tuple[Axis, ...]:
    """The axes that a class like Condition declares, in the order of its fields."""
    axes = []
    for column, hint in get_type_hints(condition, include_extras=True).items():
        kind, axis = get_args(hint)
        parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        names = tuple(name for part in parts if get_origin(part) is Literal for name in get_args(part))
        number = next((part for part in parts if part in (int, float)), None)
        axes.append(replace(axis, column=column, names=names, number=number))
    return tuple(axes)


AXES = declared_axes(Condition)
BY_COLUMN = {axis.column: axis for axis in AXES}
BY_OPTION = {axis.option: axis for axis in AXES}
TOKENS, ACCUMULATION, BATCH_SIZE = (
    BY_COLUMN[name] for name in ("extra_num_query_tokens", "accumulate_grad_batches", "micro_batch_size")
)
HEADLINE = (TOKENS, ACCUMULATION)
"""The axes that the project is about: every table shows them."""
SPLIT = (ACCUMULATION.column, BATCH_SIZE.column)
"""Columns that differ where one effective batch is split in two ways."""


def canonical_levels(
    levels: Levels, reference_batch: int, known: Mapping[str, Collection[Level]] = MappingProxyType({})
) -> dict[str, Any]:
    """The levels of a condition, with one name for those that are one and the same run.

    Args:
        levels: by column.
        reference_batch: effective batch size that the learning rate is meant for.
        known: the levels that a grid has, by column: a level takes the name of another one only if that one is among them.
            An axis that is left out has all.
    """
    out = dict(levels)
    for axis in AXES:
        if axis.column in levels:
            if axis.inactive(levels, reference_batch):
                out[axis.column] = axis.when_inactive
            else:
                canonical = axis.canonical(levels[axis.column], levels, reference_batch)
                if axis.column not in known or canonical in known[axis.column]:
                    out[axis.column] = canonical
    return out


def levels_of(conditions: Iterable[Condition]) -> dict[str, set[Level]]:
    """The levels of each axis that some condition has, by column."""
    listed = list(conditions)
    return {axis.column: {getattr(one, axis.column) for one in listed} for axis in AXES}


def varying_axes(levels: Mapping[str, Collection[Level]]) -> list[Axis]:
    """The axes that have several levels, what stands for an inactive axis aside.

    Args:
        levels: by column; an axis that is left out does not vary.
    """
    return [axis for axis in AXES if len(set(levels.get(axis.column, ())) - {axis.placeholder}) > 1]


def depends_on_reference_batch(levels: Levels) -> bool:
    """Whether a condition scales something with the ratio of its effective to the reference batch size."""
    return any(levels.get(axis.column) in axis.scaled_levels for axis in AXES)


def inactive_axes(levels: Levels, reference_batch: int) -> set[str]:
    """Columns of the axes whose levels are all one and the same run beside the other levels."""
    return {axis.column for axis in AXES if axis.column in levels and axis.inactive(levels, reference_batch)}


def incorrect_levels(levels: Levels) -> str:
    """`loss_norm=micro_mean; clip_per=micro_batch`: the rules of accumulation that a condition breaks; empty for none."""
    return "; ".join(f"{axis.column}={levels[axis.column]}" for axis in AXES if levels.get(axis.column) in axis.incorrect)


def show_level(column: str, level: Level) -> str:
    """A level of an axis as tables show it; of another column, the value."""
    axis = BY_COLUMN.get(column)
    if axis:
        return axis.show(level)
    return f"{level:g}" if isinstance(level, float) else str(level)


def parse_levels(option: str, text: str) -> dict[str, str]:
    """`tokens=0,accum=1` as a level per axis, by the axis' option. Raises ConfigError for what has another form."""
    out: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, level = (piece.strip() for piece in part.partition("="))
        if not (name and equals and level):
            raise ConfigError(
                f"{option}: '{part.strip()}' is not an axis and a level; give a comma list such as tokens=0,accum=1"
            )
        if name in out:
            raise ConfigError(f"{option}: {name} is given twice")
        out[name] = level
    return out
