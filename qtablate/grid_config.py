"""The grid of a configuration: levels of every axis, crossed, or conditions listed one by one; and the seeds.

The fields of the axes follow from their declarations (axes.py).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, create_model, model_serializer, model_validator

from qtablate.axes import AXES, BY_OPTION, Axis, Level
from qtablate.setting import Option, Section

BatchSizeIs = Literal["micro-batch", "effective-batch"]


class GridBase(Section):
    """The grid: levels of every axis, crossed, or conditions listed one by one; and the seeds that all of them run with."""

    seeds: Annotated[
        tuple[int, ...],
        BeforeValidator(Axis("seeds", "", "", (1,), minimum=0, number=int).parse),
        Option("--seeds", "Seeds; every condition runs with each."),
    ] = (1, 2, 3)
    """Every condition runs with each of them."""
    batch_size_is: Annotated[
        BatchSizeIs,
        Option("--batch-size-is", "What --batch-size gives: the micro-batch, or the effective batch that --accum splits."),
    ] = "micro-batch"
    """Whether `batch_size` gives the micro-batch, or the effective batch that accumulation splits."""
    lr_reference_batch: Annotated[
        int | None,
        Field(ge=1),
        Option(
            "--lr-reference-batch",
            "Effective batch size that --lr and --adam-beta2 are meant for.",
            default="the grid's smallest",
        ),
    ] = None
    """Effective batch size that the learning rate is meant for. None: the grid's smallest."""
    conditions: tuple[dict[str, Level], ...] = ()
    """Conditions listed one by one, each a level per axis by the axis' option; an axis that a condition leaves out has the
    grid's only level. Empty: the levels of all axes are crossed."""

    @model_validator(mode="before")
    @classmethod
    def _parse_conditions(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("conditions"):
            listed = data["conditions"]
            if not isinstance(listed, (list, tuple)) or not all(isinstance(one, Mapping) for one in listed):
                raise ValueError("conditions: expected a list of conditions such as {tokens: 32, accum: 4}")
            parsed = [_parse_condition(number, one) for number, one in enumerate(listed, start=1)]
            return {**data, "conditions": parsed}
        return data

    @model_validator(mode="after")
    def _check_conditions(self) -> Self:
        for axis in AXES:
            named = [axis.field in one for one in self.conditions]
            if not any(named):
                continue
            if axis.field in self.model_fields_set:
                raise ValueError(
                    f"{axis.field} is given twice: its levels are listed under conditions, and crossed; leave one out"
                )
        for number, one in enumerate(self.conditions, start=1):
            for axis in AXES:
                levels = self.levels(axis)
                if axis.field not in one and len(levels) > 1:
                    raise ValueError(
                        f"condition {number} of conditions names no {axis.field}, and the grid has {len(levels)} levels of it "
                        f"({', '.join(map(str, levels))}): name one"
                    )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_listed_axes(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Crossed levels of an axis that listed conditions name have no effect."""
        listed = {name for one in self.conditions for name in one}
        return {name: value for name, value in handler(self).items() if name not in listed}

    def levels(self, axis: Axis) -> tuple[Any, ...]:
        """The levels of an axis where axes are crossed; empty for the model's own value."""
        return tuple(getattr(self, axis.field))

    def all_levels(self, axis: Axis) -> tuple[Any, ...]:
        """Every configured level of an axis that some condition has."""
        if not self.conditions:
            return self.levels(axis)
        return tuple(
            dict.fromkeys(
                level for one in self.conditions for level in ([one[axis.field]] if axis.field in one else self.levels(axis))
            )
        )

    @property
    def depends_on_reference_batch(self) -> bool:
        """Whether some condition scales something with the ratio of its effective to the reference batch size."""
        return any(set(self.all_levels(axis)) & set(axis.scaled_levels) for axis in AXES)


def _parse_condition(number: int, condition: Mapping[Any, Any]) -> dict[str, Level]:
    out: dict[str, Level] = {}
    for name, value in condition.items():
        axis = BY_OPTION.get(str(name).replace("_", "-"))
        if axis is None:
            raise ValueError(f"condition {number}: unknown axis '{name}'; known: {', '.join(one.field for one in AXES)}")
        if axis.field in out:
            raise ValueError(f"condition {number}: {axis.field} is given twice")
        try:
            out[axis.field] = axis.parse_level(value)
        except ValueError as error:
            raise ValueError(f"condition {number}: {axis.field}: {error}") from None
    return out


def _axis_field(axis: Axis) -> Any:
    return (
        Annotated[
            tuple[Level, ...],
            BeforeValidator(axis.parse),
            Option(f"--{axis.option}", axis.help, default="" if axis.default else "the model's own"),
        ],
        Field(default=axis.default, description=axis.help),
    )


if TYPE_CHECKING:

    class GridConfig(GridBase):
        """GridBase with a field for the levels of each axis, named by the axis' option: `tokens`, `accum`, ..."""

        def __init__(self, **levels: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

else:
    GridConfig = create_model(
        "GridConfig",
        __base__=GridBase,
        __module__=__name__,
        __doc__=GridBase.__doc__,
        **{a.field: _axis_field(a) for a in AXES},
    )
