"""The one configuration of a sweep: from options of the command line, a YAML file or Python, validated in one place.

    SweepConfig(grid=GridConfig(tokens=(0, 32), seeds=(1, 2, 3)), data=DataConfig(items_per_task=40))

Every setting is declared once, here, in grid_config.py or as an axis (axes.py): its type, default, bounds, unit, option and
help. The command line's options are generated from these declarations (cli/options.py).
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from qtablate.axes import BY_OPTION, MAX_INTEGER, parse_integer
from qtablate.config_messages import describe
from qtablate.controls import Control
from qtablate.errors import ConfigError
from qtablate.grid_config import GridConfig
from qtablate.run_config import RunConfig
from qtablate.setting import Option, Section, comma_list, parse_positive_numbers

Precision = Literal["fp32", "bf16", "fp16"]
BudgetUnit = Literal["samples", "steps", "tokens"]
Scorer = Literal["likelihood", "letter", "generate", "circular"]

SAMPLES = 3200
"""Clips and images that a cell trains on by default."""
BUDGET_UNITS: dict[BudgetUnit, str] = {"samples": "samples", "steps": "optimizer steps", "tokens": "supervised tokens"}


def _budget(value: Any) -> Any:
    """`steps 300`, or both parts in a sequence, as a mapping."""
    parts = value.split() if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)):
        if len(parts) != 2:
            raise ValueError(f"expected a unit and a number such as 'steps 300', got {value!r}")
        units = get_args(BudgetUnit)
        if parts[0] not in units:
            raise ValueError(f"unknown value '{parts[0]}'; known: {', '.join(units)}")
        return {"unit": parts[0], "size": parse_integer(parts[1], 1, "; expected a number as in 'steps 300'")}
    return value


class Budget(Section):
    """What every cell has the same amount of."""

    unit: BudgetUnit
    """Samples, optimizer steps or supervised tokens."""
    size: Annotated[int, Field(ge=1)]
    """How many of them."""


class TrainConfig(Section):
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
    ] = 0.1
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
    """Of frozen parts and of the arithmetic; trained parameters are always fp32."""
    gradient_checkpointing: Annotated[
        bool,
        Option(
            "--gradient-checkpointing",
            "Recompute activations in the backward pass instead of keeping them.",
            negative="--no-gradient-checkpointing",
        ),
    ] = False
    """Whether activations are computed again in the backward pass instead of kept."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lora_rank and self.train_language_model:
            raise ValueError(
                "--lora trains an adapter beside the frozen language model, --train-lm the model itself: leave one out"
            )
        if self.budget and self.budget.unit == "samples":
            if "samples" in self.model_fields_set and self.budget.size != self.samples:
                raise ValueError(f"--budget samples {self.budget.size} and --samples {self.samples} differ; leave one out")
            return self.model_copy(update={"samples": self.budget.size, "budget": None})  # one way to say it
        return self


class EvalConfig(Section):
    """How every trained cell is scored."""

    controls: Annotated[
        tuple[Control, ...],
        comma_list(Control),
        Option(
            "--controls",
            "Controls that items are scored under too: blind and any of middle, shuffled, reversed, mismatched_clip; or all.",
        ),
    ] = ("blind", "shuffled")
    """With less or other visual information: no clip, the middle frame, shuffled or reversed frames, another item's clip. By
    default those that visual gain and temporal gain are made of."""
    scorers: Annotated[
        tuple[Scorer, ...],
        comma_list(Scorer),
        Option("--scorers", "How answers are read: likelihood, letter, generate, circular; the first decides the score."),
    ] = ("likelihood",)
    """How answers are read (prompts/mvbench.py); the first decides the score."""
    diagnose: Annotated[
        bool,
        Option("--diagnose", "Measure what the visual tokens hold too: rank, ablation, attention.", negative="--no-diagnose"),
    ] = False
    """Whether to run token ablations and attention maps (evaluate/token_ablation.py, attention.py)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "blind" not in self.controls:
            raise ValueError("--controls: blind must be among them, since no score means anything without it")
        return self


class DataConfig(Section):
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
        BeforeValidator(parse_positive_numbers),
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


class SweepConfig(Section):
    """All settings of a sweep. Raises ConfigError through `validate_config`, pydantic's ValidationError by itself."""

    grid: GridConfig = Field(default_factory=GridConfig)
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    data: DataConfig = DataConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "micro_batch" in self.grid.all_levels(BY_OPTION["clip-per"]) and self.train.max_grad_norm is None:
            raise ValueError(
                "--clip-per micro_batch says where gradients are clipped, and nothing clips them: give --max-grad-norm"
            )
        if self.grid.lr_reference_batch and not self.grid.depends_on_reference_batch:
            raise ValueError(
                "--lr-reference-batch is the batch size that --lr is scaled from, and nothing is scaled: give --lr-scaling or "
                "--adam-beta2 scaled, or leave it out"
            )
        largest = max(self.grid.seeds)
        if self.run.confirm and largest + self.run.confirm > MAX_INTEGER:
            raise ValueError(
                f"--confirm {self.run.confirm} takes seeds above the largest of --seeds, {largest}, and none may be above "
                f"{MAX_INTEGER}: use smaller --seeds"
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


def command_of(config: SweepConfig) -> str:
    """Return the command that runs a configuration: every option whose value is not the default.

    Conditions that are listed one by one have no option: there the command names a file that holds them.
    """
    words = ["qtablate", "sweep", *(["--config", "FILE"] if config.grid.conditions else [])]
    for (section, name), option in fields().items():
        value = getattr(getattr(config, section), name)
        if value == SECTIONS[section].model_fields[name].get_default(call_default_factory=True):
            continue
        if isinstance(value, bool):
            words += [option.flag] if value else [option.negative]
        elif isinstance(value, Budget):
            words += [option.flag, value.unit, str(value.size)]
        elif value is not None and not (section == "grid" and config.grid.conditions and name != "seeds"):
            text = ",".join(map(_plain, value)) if isinstance(value, tuple) else _plain(value)
            words += [option.flag, shlex.quote(text)]
    return " ".join(words)


def _plain(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def prune(value: Any) -> Any:
    """A nested mapping without the values that say nothing: None, and empty lists."""
    if isinstance(value, dict):
        return {key: prune(inner) for key, inner in value.items() if inner is not None and inner != []}
    return value


SMOKE: dict[str, dict[str, Any]] = {
    "grid": {"tokens": (0, 8), "accum": (1, 2), "seeds": (1,)},
    "train": {"samples": 1200},
    "data": {"items_per_task": 40},
    "run": {"out": "results/smoke"},
}
"""The ablation that CI runs (`qtablate sweep --smoke`)."""


SECTIONS: dict[str, type[BaseModel]] = {
    "grid": GridConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "data": DataConfig,
    "run": RunConfig,
}


def fields() -> dict[tuple[str, str], Option]:
    """Every setting that has an option, as (section, field), in the order of help texts: the axes first."""
    out: dict[tuple[str, str], Option] = {}
    for section, kind in SECTIONS.items():
        found = {
            name: option for name, field in kind.model_fields.items() for option in field.metadata if isinstance(option, Option)
        }
        for name in sorted(found, key=lambda name: name.replace("_", "-") not in BY_OPTION):
            out[section, name] = found[name]
    return out


def default_text(section: str, name: str) -> str:
    """The default of a setting that has an option, as help texts and `qtablate explain settings` show it."""
    value = SECTIONS[section].model_fields[name].get_default(call_default_factory=True)
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
        messages = [describe(one, SECTIONS, named or {}, where) for one in error.errors()]
        raise ConfigError("\n".join(messages)) from None
