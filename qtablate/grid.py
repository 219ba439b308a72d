"""Axes -> conditions -> cells. A cell's key is a hash of all that decides its result. Where it runs decides
nothing: neither the device nor the number of ranks that share its micro-batches is part of it.

Everything is checked here, before anything runs. This module knows no files and no torch.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from qtablate.axes import AXES, BY_NAME, settled, told
from qtablate.errors import GridError

RECORD_SCHEMA = 5  # raise it when the meaning of a recorded figure changes: older cells are then run again

PRECISIONS = ("fp32", "bf16", "fp16")
Hold = Literal["micro-batch", "effective-batch"]
HOLDS: tuple[Hold, ...] = ("micro-batch", "effective-batch")
Budget = Literal["samples", "steps", "tokens"]
BUDGETS: tuple[Budget, ...] = ("samples", "steps", "tokens")
SCALES = {"none": lambda ratio: 1.0, "sqrt": math.sqrt, "linear": float}
"""What the learning rate is multiplied by, of the effective batch over the one that it is meant for."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One point of the grid: a cell without its seed."""

    extra_num_query_tokens: int
    accumulate_grad_batches: int
    micro_batch_size: int
    mixing: str
    extra_init: str
    """Initial values of the extra query tokens; `none` where there are none."""
    extra_lr: float = 1.0
    """The extra query tokens' learning rate as a multiple of the others'."""
    lr_scaling: str = "none"
    loss_norm: str = "tokens"
    clip_per: str = "window"
    lr_step_per: str = "window"

    @property
    def effective_batch_size(self) -> int:
        return self.micro_batch_size * self.accumulate_grad_batches


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all cells of a sweep share in training and evaluation."""

    samples: int
    """Clips and images that each cell trains on, where samples are held; how many the procedural world draws, always."""
    image_share: float
    learning_rate: float
    """At its peak, for the effective batch that it is meant for."""
    warm_up: float
    """Share of the optimizer steps."""
    min_lr_ratio: float
    weight_decay: float
    betas: tuple[float, float]
    max_grad_norm: float | None
    train_language_model: bool
    longest: int
    """Tokens of text in a training sequence at most, beside the visual ones."""
    controls: tuple[str, ...] = ("blind",)
    """What every item is asked with less to see under, one of controls.CONTROLS each."""
    scorers: tuple[str, ...] = ("likelihood",)
    """How answers are read (prompts/mvbench.py); the first decides the score, all are compared."""
    lora_rank: int = 0
    """Of a LoRA of the language model; 0: none is added."""
    precision: str = "fp32"
    """Of what is frozen, and of the arithmetic; what is trained is held in fp32 always."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of kept."""
    diagnose: bool = False
    """Whether to look at what the visual tokens hold (evaluate/tokens.py)."""
    budget: Budget = "samples"
    """What every cell has as much of."""
    budget_size: int = 0
    """Of optimizer steps or supervised tokens, where these are held."""

    @property
    def held(self) -> str:
        """The budget in words."""
        return f"{self.samples if self.budget == 'samples' else self.budget_size} {BUDGET_WORDS[self.budget]}"


BUDGET_WORDS: dict[Budget, str] = {"samples": "samples", "steps": "optimizer steps", "tokens": "supervised tokens"}


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Of everything outside the configuration that a result depends on."""

    model: str
    training: str
    benchmark: str
    software: str = ""
    """Versions of the packages that can change a result (versions.py)."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run and its evaluation."""

    condition: Condition
    seed: int
    media_block: int
    """Samples of one medium in a row when mixing is `random` or `interleaved`: the batch size that was asked for, so that
    splitting it into micro-batches changes nothing. 1 where media are mixed."""
    recipe: Recipe
    fingerprints: Fingerprints
    lr_batch: int | None = None
    """Effective batch that the recipe's learning rate is meant for; None where the rate is not scaled."""

    @property
    def learning_rate(self) -> float:
        """At its peak, scaled with the effective batch as the condition says."""
        ratio = self.condition.effective_batch_size / self.lr_batch if self.lr_batch else 1.0
        return self.recipe.learning_rate * SCALES[self.condition.lr_scaling](ratio)

    @property
    def key(self) -> str:
        text = json.dumps([RECORD_SCHEMA, dataclasses.asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def samples(self) -> int | None:
        """That it trains on; None where supervised tokens are held, which only the texts tell."""
        if self.recipe.budget == "tokens":
            return None
        return (
            self.recipe.samples
            if self.recipe.budget == "samples"
            else (self.recipe.budget_size * self.condition.effective_batch_size)
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """The axes, each a tuple of levels, as they were asked for."""

    tokens: tuple[int, ...]
    accum: tuple[int, ...]
    batch_size: tuple[int, ...]
    seeds: tuple[int, ...]
    mixing: tuple[str, ...]
    extra_init: tuple[str, ...]
    hold: Hold
    extra_lr: tuple[float, ...] = (1.0,)
    lr_scaling: tuple[str, ...] = ("none",)
    loss_norm: tuple[str, ...] = ("tokens",)
    clip_per: tuple[str, ...] = ("window",)
    lr_step_per: tuple[str, ...] = ("window",)
    lr_batch: int | None = None
    """Effective batch that the learning rate is meant for, where it is scaled; None: the smallest of the grid."""

    @property
    def reference_batch(self) -> int:
        smallest = min(self.batch_size) * (1 if self.hold == "effective-batch" else min(self.accum))
        return self.lr_batch or smallest

    def conditions(self) -> list[tuple[Condition, int]]:
        """Every condition with its media block, in the order of the axes; no condition twice."""
        found: dict[Condition, int] = {}
        for tokens, accum, batch, *others in itertools.product(
            self.tokens,
            self.accum,
            self.batch_size,
            self.mixing,
            self.extra_init,
            self.extra_lr,
            self.lr_scaling,
            self.loss_norm,
            self.clip_per,
            self.lr_step_per,
        ):
            micro = batch // accum if self.hold == "effective-batch" else batch
            asked = dict(zip(BY_NAME, (tokens, accum, micro, *others), strict=True))
            # where an axis has no meaning there is one condition, not one for each of its levels
            found.setdefault(Condition(**settled(asked, self.reference_batch)), batch)
        return list(found.items())

    def cells(self, recipe: Recipe, fingerprints: Fingerprints) -> list[Cell]:
        """All cells, seed by seed, so that an unfinished sweep holds whole comparisons."""
        return [
            Cell(
                condition,
                seed,
                block if condition.mixing != "mixed" else 1,
                recipe,
                fingerprints,
                None if condition.lr_scaling == "none" else self.reference_batch,
            )
            for seed in self.seeds
            for condition, block in self.conditions()
        ]


def labels(cells: Sequence[Cell]) -> dict[str, str]:
    """A short name for each cell by its key: that of its condition, and the seed."""
    named = condition_names([cell.condition for cell in cells])
    return {cell.key: f"{named[cell.condition]}, seed {cell.seed}" for cell in cells}


def condition_names(conditions: Sequence[Condition]) -> dict[Condition, str]:
    """A short name for each condition: tokens, accumulation, and whatever else varies among them."""
    varying = [axis for axis in AXES[2:] if len({getattr(c, axis.name) for c in conditions} - {axis.absent}) > 1]
    return {
        c: ", ".join(
            [
                f"tokens {c.extra_num_query_tokens}",
                f"accum {c.accumulate_grad_batches}",
                *(f"{axis.short} {told(axis.name, getattr(c, axis.name))}" for axis in varying),
            ]
        )
        for c in conditions
    }


def exact(share: float) -> Fraction:
    """A share as the fraction that was meant: 0.29 of 100 is 29, which floating point makes 28."""
    return Fraction(repr(share))


MOST = 2**32 - 1  # what every random generator takes as a seed


def numbers(option: str, text: str, least: int) -> tuple[int, ...]:
    """A comma list of whole numbers. Raises GridError naming the value that is wrong."""
    out: list[int] = []
    for part in text.split(","):
        try:
            value = int(part.strip())
        except ValueError:
            raise GridError(f"{option}: '{part.strip()}' is not a whole number; give a comma list such as 0,32,64") from None
        if not least <= value <= MOST:
            size, word, bound = ("small", "least", least) if value < least else ("large", "most", MOST)
            raise GridError(f"{option}: {value} is too {size}; the {word} is {bound}")
        out.append(value)
    return _once(option, out)


def factors(option: str, text: str) -> tuple[float, ...]:
    """A comma list of numbers above zero. Raises GridError naming the value that is wrong."""
    out: list[float] = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise GridError(f"{option}: '{part.strip()}' is not a number; give a comma list such as 1,10") from None
        if not 0 < value < math.inf:
            raise GridError(f"{option}: {part.strip()} is not above zero")
        out.append(value)
    return _once(option, out)


def words(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """A comma list of names out of `known`. Raises GridError naming the one that is wrong."""
    out = [part.strip() for part in text.split(",")]
    for word in out:
        if word not in known:
            raise GridError(f"{option}: unknown value '{word}'; known: {', '.join(known)}")
    return _once(option, out)


def levels(option: str, text: str) -> dict[str, str]:
    """`tokens=0,accum=1` as a level an axis, by the option's name. Raises GridError for what has another form."""
    out: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, level = (piece.strip() for piece in part.partition("="))
        if not (name and equals and level):
            raise GridError(f"{option}: '{part.strip()}' is no axis and level; give a comma list such as tokens=0,accum=1")
        if name in out:
            raise GridError(f"{option}: {name} is given twice")
        out[name] = level
    return out


def _once(option: str, values: list[Any]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise GridError(f"{option}: {value} is given twice; each level may stand once")
    return tuple(values)


def check(grid: Grid, recipe: Recipe, ranks: int = 1) -> None:
    """Refuse values and combinations that cannot be run. Raises GridError."""
    if "micro_batch" in grid.clip_per and recipe.max_grad_norm is None:
        raise GridError("--clip-per micro_batch says where gradients are clipped, and nothing clips them: give --max-grad-norm")
    for option, value in (("--lr", recipe.learning_rate), ("--max-grad-norm", recipe.max_grad_norm)):
        if value is not None and not 0 < value < math.inf:
            raise GridError(f"{option}: {value:g} is no positive number")
    if recipe.lora_rank and recipe.train_language_model:
        raise GridError("--lora trains an adapter beside the frozen language model, --train-lm the model itself: leave one out")
    for batch, accum in itertools.product(grid.batch_size, grid.accum):
        if grid.hold == "effective-batch" and batch % accum:
            raise GridError(
                f"--hold effective-batch splits each batch into micro-batches: --batch-size {batch} is not a multiple of "
                f"--accum {accum}; choose a multiple of every --accum value"
            )
        micro = batch // accum if grid.hold == "effective-batch" else batch
        window = micro * accum
        if micro < ranks:
            split = f"--batch-size {batch} / --accum {accum} = " if grid.hold == "effective-batch" else "--batch-size "
            raise GridError(
                f"--ranks {ranks} share every micro-batch, and {split}{micro} samples are too few for them: raise --batch-size "
                f"or use --ranks {micro}" + (" or fewer" if micro > 1 else "")
            )
        if recipe.budget == "samples" and window > recipe.samples:
            raise GridError(
                f"--samples {recipe.samples} is less than one window of --batch-size {micro} x --accum {accum} = {window} "
                "samples: no optimizer step would be whole; raise --samples or lower one of the others"
            )
        if "mixed" in grid.mixing and 0 < recipe.image_share < 1:
            share = exact(recipe.image_share)
            least = min(share, 1 - share)
            if micro * least < 1:
                raise GridError(
                    f"--mixing mixed wants every medium in each micro-batch, but {micro} samples at --image-share "
                    f"{recipe.image_share:g} do not hold both; use micro-batches of {math.ceil(1 / least)} or more, "
                    "--image-share 0, or --mixing random"
                )
