"""The one configuration of a sweep: from options of the command line, a YAML file or Python, validated in one place.

    SweepConfig(grid=GridConfig(tokens=(0, 32), seeds=(1, 2, 3)), data=DataConfig(items_per_task=40))

Every setting is declared once, here or as an axis (axes.py): its type, default, bounds, unit, option and help. The command
line's options are generated from these declarations (cli/options.py).
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)

from qtablate.axes import AXES, BY_OPTION, Axis, Level, parse_integer, parse_number
from qtablate.controls import Control
from qtablate.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
BatchSizeIs = Literal["micro-batch", "effective-batch"]
BudgetUnit = Literal["samples", "steps", "tokens"]
Scorer = Literal["likelihood", "letter", "generate", "circular"]

SAMPLES = 4800
"""Clips and images that a cell trains on where nothing else is said."""
BUDGET_UNITS: dict[BudgetUnit, str] = {"samples": "samples", "steps": "optimizer steps", "tokens": "supervised tokens"}


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """How a setting is given on the command line."""

    flag: str
    help: str
    metavar: str = ""
    negative: str = ""
    """The flag that turns a switch off, where there is one."""
    default: str = ""
    """What stands for the default in help texts, where the value alone would not say it."""
    hidden: bool = False


def _names(value: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    return Axis("", "", "", (known[0],), names=known).parse(value)  # type: ignore[return-value]


def _comma_list(literal: Any) -> BeforeValidator:
    """Names out of a Literal, as a comma list or a sequence."""
    return BeforeValidator(lambda value: _names(value, get_args(literal)))


def _numbers(value: Any) -> Any:
    """Positive numbers, as a comma list or a sequence; empty text is none."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")] if value.strip() else []
    return [parse_number(part, None, 0, None) for part in value] if isinstance(value, (list, tuple)) else value


def _budget(value: Any) -> Any:
    """`steps 300`, or both parts in a sequence, as a mapping."""
    parts = value.split() if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)):
        if len(parts) != 2:
            raise ValueError(f"expected a unit and a number such as 'steps 300', got {value!r}")
        units = get_args(BudgetUnit)
        if parts[0] not in units:
            raise ValueError(f"unknown value '{parts[0]}'; known: {', '.join(units)}")
        return {"unit": parts[0], "size": parse_integer(parts[1], 1)}
    return value


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False, use_attribute_docstrings=True
    )


class Budget(_Section):
    """What every cell has the same amount of."""

    unit: BudgetUnit
    """Samples, optimizer steps or supervised tokens."""
    size: Annotated[int, Field(ge=1)]
    """How many of them."""


class GridBase(_Section):
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
        """Every level of an axis that some condition has, as asked for."""
        if not self.conditions:
            return self.levels(axis)
        return tuple(
            dict.fromkeys(
                level for one in self.conditions for level in ([one[axis.field]] if axis.field in one else self.levels(axis))
            )
        )


def _parse_condition(number: int, condition: Mapping[Any, Any]) -> dict[str, Level]:
    out: dict[str, Level] = {}
    for name, value in condition.items():
        axis = BY_OPTION.get(str(name).replace("_", "-"))
        if axis is None:
            raise ValueError(f"condition {number}: unknown axis '{name}'; known: {', '.join(one.field for one in AXES)}")
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


class TrainConfig(_Section):
    """What is trained, on how much, and at which rate: the same in every condition."""

    samples: Annotated[int, Field(ge=1), Option("--samples", "Budget: clips and images that each cell trains on.")] = SAMPLES
    """Clips and images that a cell trains on; how many the procedural world draws, whatever the budget."""
    budget: Annotated[
        Budget | None,
        BeforeValidator(_budget),
        Option(
            "--budget",
            "What each cell has N of, instead of --samples; tokens: supervised ones.",
            "samples|steps|tokens N",
            default="--samples",
        ),
    ] = None
    """What every cell has the same amount of. None: `samples`."""
    image_ratio: Annotated[
        float | None, Field(ge=0, le=1), Option("--image-ratio", "Share of images among the samples.", default="as the data")
    ] = None
    """Share of images among the samples. None: as in the data; of the procedural world, 1/8."""
    learning_rate: Annotated[float | None, Field(gt=0), Option("--lr", "Peak learning rate.", default="the model's own")] = None
    """At its peak, for the effective batch size that it is meant for. None: the model's own."""
    warmup_ratio: Annotated[
        float, Field(ge=0, le=1), Option("--warmup-ratio", "Share of the optimizer steps that warm up.")
    ] = 0.2
    """Share of the optimizer steps in which the learning rate rises."""
    min_lr_ratio: Annotated[
        float, Field(ge=0, le=1), Option("--min-lr-ratio", "Where the cosine schedule ends, as a share of the peak.")
    ] = 0.25
    """Where the cosine schedule ends, as a share of the peak (VideoChat2: 0.25)."""
    weight_decay: Annotated[float, Field(ge=0), Option("--weight-decay", "AdamW's weight decay of matrices.")] = 0.02
    """AdamW's weight decay of matrices (VideoChat2: 0.02)."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1), Option("--adam-beta1", "Decay of AdamW's first moments.")] = 0.9
    """Decay of AdamW's first moments (VideoChat2: 0.9)."""
    max_grad_norm: Annotated[
        float | None, Field(gt=0), Option("--max-grad-norm", "Clip each window's gradient at this norm.", default="no clipping")
    ] = None
    """Norm at which gradients are clipped. None: no clipping."""
    train_language_model: Annotated[bool, Option("--train-lm", "Train the language model too.", negative="--freeze-lm")] = False
    """Whether the language model is trained too."""
    lora_rank: Annotated[
        int, Field(ge=0), Option("--lora", "Rank of a LoRA of the language model (VideoChat2: 16); 0: none.")
    ] = 0
    """Rank of a LoRA of the language model; 0: none (VideoChat2: 16)."""
    precision: Annotated[Precision, Option("--precision", "fp32, or bf16 or fp16 for frozen parts and arithmetic.")] = "fp32"
    """Of frozen parts and of the arithmetic; what is trained is held in fp32 always."""
    gradient_checkpointing: Annotated[
        bool, Option("--gradient-checkpointing", "Recompute activations in the backward pass instead of keeping them.")
    ] = False
    """Whether activations are computed again in the backward pass instead of kept."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lora_rank and self.train_language_model:
            raise ValueError(
                "--lora trains an adapter beside the frozen language model, --train-lm the model itself: leave one out"
            )
        if self.budget and self.budget.unit == "samples" and self.samples != SAMPLES and self.budget.size != self.samples:
            raise ValueError(f"--budget samples {self.budget.size} and --samples {self.samples} differ; leave one out")
        return self


class EvalConfig(_Section):
    """How every trained cell is scored."""

    controls: Annotated[
        tuple[Control, ...],
        _comma_list(Control),
        Option(
            "--controls",
            "Controls that every item is scored under too: blind and any of middle, shuffled, reversed, mismatched_clip.",
        ),
    ] = get_args(Control)
    """With less or other visual information: no clip, the middle frame, shuffled or reversed frames, another item's clip."""
    scorers: Annotated[
        tuple[Scorer, ...],
        _comma_list(Scorer),
        Option("--scorers", "How answers are read: likelihood, letter, generate, circular; the first decides the score."),
    ] = ("likelihood",)
    """How answers are read (prompts/mvbench.py); the first decides the score."""
    diagnose: Annotated[bool, Option("--diagnose", "Measure what the visual tokens hold too: rank, ablation, attention.")] = (
        False
    )
    """Whether to run token ablations and attention maps (evaluate/token_ablation.py, attention.py)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "blind" not in self.controls:
            raise ValueError("--controls: blind must be among them, since no score means anything without it")
        return self


class DataConfig(_Section):
    """The model, the benchmark and the training data, as the user names them."""

    model: Annotated[str, Field(min_length=1), Option("--model", "nano (in the package) or a model directory.")] = "nano"
    """`nano`, or a model directory."""
    bench: Annotated[
        str,
        Field(min_length=1),
        Option("--bench", "world (procedural), world:easy, world:hard, mvbench:DIR or custom:FILE.py."),
    ] = "world"
    """`world`, `world:LEVEL`, `mvbench:DIR` or `custom:FILE.py`."""
    items_per_task: Annotated[
        int | None, Field(ge=1), Option("--items-per-task", "Items per task at most.", default="all; of the world, 100")
    ] = None
    """Items per task at most. None: all; of the procedural world, 100."""
    items_seed: Annotated[
        int, Field(ge=0), Option("--items-seed", "Which --items-per-task of a folder are drawn, stratified by answer.")
    ] = 0
    """Which items are drawn where `items_per_task` leaves some out."""
    train: Annotated[
        str,
        Field(min_length=1),
        Option("--train", "world, world:LEVEL, a JSON file of conversations, a comma list, or a YAML file of these."),
    ] = "world"
    """`world`, `world:LEVEL`, a JSON file of conversations, a comma list of these, or a YAML file that lists them."""
    mixture_weights: Annotated[
        tuple[float, ...],
        BeforeValidator(_numbers),
        Option("--mixture-weights", "How often each source in --train is drawn from: a comma list."),
    ] = ()
    """How often each of several sources is drawn from."""
    media_root: Annotated[
        str, Option("--media-root", "Folder that the clips in --train are named from.", default="each file's own")
    ] = ""
    """Folder that the clips of the training files are named from. Empty: each file's own."""
    max_invalid: Annotated[
        float,
        Field(ge=0, le=1),
        Option("--max-invalid", "Share of the training samples, and of the items, that may be invalid and are left out."),
    ] = 0.1
    """Share of the training samples, and of the items, that may be invalid: they are left out by name. More stop the sweep."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.items_seed and (not self.bench.startswith("mvbench:") or not self.items_per_task):
            raise ValueError(
                "--items-seed selects which --items-per-task of a folder are drawn: it needs --items-per-task and --bench "
                "mvbench:DIR"
            )
        return self


class RunConfig(_Section):
    """Where and how cells run: nothing here changes a result."""

    out: Annotated[Path | None, Option("--out", "Results folder.", default="results/MODEL-BENCH")] = None
    """Results folder. None: results/MODEL-BENCH."""
    jobs: Annotated[int | None, Field(ge=1), Option("--jobs", "Cells at once.", default="as GPUs, or cores, allow")] = None
    """Cells at once. None: as many as GPUs, or else cores, allow."""
    processes_per_cell: Annotated[
        int, Field(ge=1), Option("--processes-per-cell", "Processes that train one cell together, each on a GPU or a core.")
    ] = 1
    """Processes that train one cell together, each with a share of every micro-batch."""
    checkpoint_minutes: Annotated[
        float,
        Field(ge=0),
        Option("--checkpoint-minutes", "Minutes between two checkpoints of a cell in training; 0: only at its end."),
    ] = 10.0
    """Minutes between two checkpoints of a cell in training; 0: only when its training has ended."""
    cell_timeout: Annotated[
        float | None,
        Field(ge=0.01),
        Option("--cell-timeout", "Minutes after which a cell is ended and counts as failed.", default="none"),
    ] = None
    """Minutes after which a cell is ended and counts as failed. None: never."""

    @property
    def checkpoint_seconds(self) -> float | None:
        """Seconds between two checkpoints, at least two of them before a cell is ended, so that each further run gets on.
        None: only when training has ended."""
        minutes = min(self.checkpoint_minutes, self.cell_timeout / 3) if self.cell_timeout else self.checkpoint_minutes
        return 60 * minutes or None

    @property
    def cell_timeout_seconds(self) -> float | None:
        return 60 * self.cell_timeout if self.cell_timeout else None


class SweepConfig(_Section):
    """Everything that a sweep is told. Raises ConfigError through `validate_config`, pydantic's ValidationError by itself."""

    grid: GridConfig = Field(default_factory=GridConfig)
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    data: DataConfig = DataConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        levels = self.grid.all_levels
        if "micro_batch" in levels(BY_OPTION["clip-per"]) and self.train.max_grad_norm is None:
            raise ValueError(
                "--clip-per micro_batch says where gradients are clipped, and nothing clips them: give --max-grad-norm"
            )
        scales = set(levels(BY_OPTION["lr-scaling"])) != {"none"} or "scaled" in levels(BY_OPTION["adam-beta2"])
        if self.grid.lr_reference_batch and not scales:
            raise ValueError(
                "--lr-reference-batch is the batch size that --lr is scaled from, and nothing is scaled: give --lr-scaling or "
                "--adam-beta2 scaled, or leave it out"
            )
        return self

    @property
    def default_out(self) -> Path:
        """results/MODEL-BENCH."""
        kind, _, where = self.data.bench.partition(":")
        return Path("results", "-".join(part for part in (Path(self.data.model).name, kind, Path(where).name) if part))

    @property
    def out(self) -> Path:
        """The results folder."""
        return self.run.out or self.default_out

    def to_dict(self) -> dict[str, Any]:
        """Plain values by section, as a YAML or JSON file holds them; what is left to the model or the data is left out."""
        dumped: dict[str, Any] = prune(self.model_dump(mode="json"))
        return dumped


def prune(value: Any) -> Any:
    """A nested mapping without the values that say nothing: None, and empty lists."""
    if isinstance(value, dict):
        return {key: prune(inner) for key, inner in value.items() if inner is not None and inner != []}
    return value


SMOKE: dict[str, dict[str, Any]] = {
    "grid": {"tokens": (0, 8), "accum": (1, 2), "seeds": (1,)},
    "train": {"samples": 2400},
    "data": {"items_per_task": 40},
    "run": {"out": "results/smoke"},
}
"""The ablation that CI runs (`qtablate sweep --smoke`)."""


def fields() -> dict[tuple[str, str], Option]:
    """Every setting that has an option, as (section, field), in the order of help texts: the axes first."""
    out: dict[tuple[str, str], Option] = {}
    for section, info in SweepConfig.model_fields.items():
        kind: Any = GridConfig if section == "grid" else info.annotation
        found = {
            name: option for name, field in kind.model_fields.items() for option in field.metadata if isinstance(option, Option)
        }
        for name in sorted(found, key=lambda name: name.replace("_", "-") not in BY_OPTION):
            out[section, name] = found[name]
    return out


def default_text(section: str, name: str) -> str:
    """The default of a setting that has an option, as help texts and `qtablate explain settings` show it."""
    kind: Any = GridConfig if section == "grid" else SweepConfig.model_fields[section].annotation
    value = kind.model_fields[name].get_default(call_default_factory=True)
    return fields()[section, name].default or _show(value)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(_show(one) for one in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def validate_config(
    values: Mapping[str, Any], named: Mapping[tuple[str, str], str] | None = None, where: str = ""
) -> SweepConfig:
    """A configuration from plain values by section.

    Args:
        values: section -> field -> value, as a YAML file holds them; text is parsed as on the command line.
        named: what to call a setting in messages, by section and field: its option where it came from the command line.
        where: the file that the others came from.

    Raises:
        ConfigError: what is wrong, each setting by name, with its value and the remedy.
    """
    try:
        return SweepConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(describe(one, named or {}, where) for one in error.errors())) from None


def describe(error: Mapping[str, Any], named: Mapping[tuple[str, str], str], where: str = "") -> str:
    """One of pydantic's errors in this project's words: what was expected, what came, what to do."""
    section, name, *_ = (*map(str, error["loc"]), "", "")
    option = named.get((section, name))
    place = option or ".".join(part for part in (section, name) if part)
    if where and not option:
        place = f"{where}: {place}" if place else where
    reason = (error.get("ctx") or {}).get("error")
    if reason is not None:
        text = str(reason)
        if text.startswith("--") and not where:
            return text  # it names its options itself
        return f"{place}: {text}"
    if error["type"] == "extra_forbidden":
        import difflib

        kinds: dict[str, Any] = {one: info.annotation for one, info in SweepConfig.model_fields.items()} | {"grid": GridConfig}
        known = list(kinds[section].model_fields) if name and section in kinds else list(kinds)
        close = difflib.get_close_matches(name or section, known, 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        return f"{place}: unknown setting; {hint}known: {', '.join(known)}"
    value = error["input"]
    return f"{place}: expected {_expected(section, name, error)}, got {value if isinstance(value, str) else repr(value)}"


def _expected(section: str, name: str, error: Mapping[str, Any]) -> str:
    """What a setting takes, in words, from its type and bounds."""
    if error["type"] == "literal_error":
        return f"one of {error['ctx']['expected'].replace(chr(39), '')}"
    if error["type"].startswith("bool"):
        return "true or false"
    kinds: dict[str, Any] = {one: info.annotation for one, info in SweepConfig.model_fields.items()} | {"grid": GridConfig}
    info = getattr(kinds.get(section), "model_fields", {}).get(name)
    if info is None:
        return "settings by name"
    bounds = {
        key: getattr(one, key)
        for one in info.metadata
        for key in ("gt", "ge", "lt", "le")
        if getattr(one, key, None) is not None
    }
    types = get_args(info.annotation) or (info.annotation,)
    if int in types:
        return f"a whole number of {bounds['ge']} or more" if "ge" in bounds else "a whole number"
    if float in types:
        return number_words(bounds)
    return f"another value ({error['msg']})"


def number_words(bounds: Mapping[str, float]) -> str:
    """`number from 0 to 1`, `positive number`, ...: what a field with these bounds takes."""
    if "le" in bounds:
        return f"a number from {bounds['ge']:g} to {bounds['le']:g}"
    if "lt" in bounds:
        return f"a number from {bounds['ge']:g} to below {bounds['lt']:g}"
    if bounds.get("gt") == 0:
        return "a positive number"
    least = bounds.get("ge", -math.inf)
    return f"a finite number of {least:g} or more" if math.isfinite(least) else "a finite number"
