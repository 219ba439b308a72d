"""Axes become conditions and cells; what cannot run is refused; a key names all that decides a result."""

import dataclasses
import math

import pytest
from settings import SETTINGS, config, settings

from qtablate import grid
from qtablate.axes import BY_COLUMN, Condition
from qtablate.config import validate_config
from qtablate.errors import ConfigError
from qtablate.grid import Cell, Fingerprints, conditions
from qtablate.sweep.validate import validate_grid

PRINTS = Fingerprints(model="m", training="t", benchmark="b")
CONDITION = Condition(32, 4, 8, "mixed", "normal")
CELL = Cell(CONDITION, 1, 8, SETTINGS, PRINTS)

MIXINGS = BY_COLUMN["mixing"].names


def points(**axes: object) -> list[tuple[Condition, int]]:
    """(condition, media block) of a grid."""
    return conditions(config(**axes).grid, 8)


def cells(**axes: object) -> list[Cell]:
    return grid.cells(config(**axes).grid, SETTINGS, lambda _: PRINTS, 8)


def check(axes: dict, changes: dict = {}) -> None:  # noqa: B006
    validate_grid(config(**axes), settings(**changes), {"model_type": "videochat2", "vision_config": {}, "num_frames": 8})


def test_initial_value_is_no_axis_where_there_are_no_extra_tokens():
    found = [condition for condition, _ in points(tokens=(0, 32), extra_init=("normal", "zeros"))]
    assert [(c.extra_num_query_tokens, c.extra_init) for c in found] == [(0, "none"), (32, "normal"), (32, "zeros")]


def test_conditions_are_the_product_of_the_axes():
    axes = {"tokens": (32, 64), "accum": (1, 2), "batch_size": (4, 8), "mixing": MIXINGS, "extra_init": ("normal", "zeros")}
    found = [condition for condition, _ in points(**axes)]
    assert len(found) == len(set(found)) == 48


def test_hold_micro_batch_multiplies_the_effective_batch():
    found = points(accum=(1, 4))
    assert [(c.micro_batch_size, c.effective_batch_size, block) for c, block in found] == [(8, 8, 8), (8, 32, 8)]


def test_hold_effective_batch_splits_into_micro_batches_and_keeps_the_media_block():
    found = points(accum=(1, 2, 8), batch_size_is="effective-batch")
    assert [(c.micro_batch_size, c.effective_batch_size, block) for c, block in found] == [(8, 8, 8), (4, 8, 8), (1, 8, 8)]


def test_cells_come_seed_by_seed_with_every_condition():
    found = cells(tokens=(0, 32), accum=(1, 2), seeds=(3, 1))
    assert [cell.seed for cell in found] == [3] * 4 + [1] * 4
    assert [cell.condition for cell in found[:4]] == [cell.condition for cell in found[4:]]
    assert len({cell.key for cell in found}) == 8


OTHER = {
    "controls": ("blind", "middle"),
    "diagnose": True,
    "scorers": ("letter",),
    "lora_rank": 16,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "extra_num_query_tokens": 64,
    "accumulate_grad_batches": 8,
    "micro_batch_size": 4,
    "mixing": "random",
    "seed": 2,
    "extra_init": "zeros",
    "samples": 961,
    "image_ratio": 0.5,
    "learning_rate": 2e-3,
    "warmup_ratio": 0.1,
    "min_lr_ratio": 0.0,
    "weight_decay": 0.0,
    "adam_beta1": 0.95,
    "adam_beta2": "scaled",
    "frames": 16,
    "max_grad_norm": 1.0,
    "train_language_model": True,
    "max_text_tokens": 128,
    "extra_lr": 10.0,
    "lr_scaling": "sqrt",
    "loss_norm": "none",
    "clip_per": "micro_batch",
    "lr_step_per": "micro_batch",
    "budget": "steps",
    "budget_size": 100,
    "reference_batch": 8,
    "model": "n",
    "training": "u",
    "benchmark": "c",
    "media_block": 16,
    "software": "torch 1",
}


def fields() -> list[tuple[str, str]]:
    parts = [("condition", CONDITION), ("settings", SETTINGS), ("fingerprints", PRINTS)]
    inner = [(part, field.name) for part, value in parts for field in dataclasses.fields(value)]
    outer = [("", field.name) for field in dataclasses.fields(CELL) if field.name not in dict(parts)]
    return inner + outer


@pytest.mark.parametrize(("part", "name"), fields())
def test_key_changes_with_every_field(part, name):
    """A field that is new and has no other value in OTHER fails here, so that none is forgotten."""
    change = {name: OTHER[name]}
    other = dataclasses.replace(CELL, **({part: dataclasses.replace(getattr(CELL, part), **change)} if part else change))
    assert other.key != CELL.key


def test_key_is_equal_for_equal_cells():
    twin = Cell(dataclasses.replace(CONDITION), 1, 8, dataclasses.replace(SETTINGS), dataclasses.replace(PRINTS))
    assert twin is not CELL
    assert twin.key == CELL.key


@pytest.mark.parametrize(
    ("axes", "recipe", "message"),
    [
        ({"batch_size_is": "effective-batch", "accum": (1, 3)}, {}, r"--batch-size 8 is not a multiple of --accum 3"),
        ({"batch_size_is": "effective-batch", "accum": (16,)}, {}, r"--batch-size 8 is not a multiple of --accum 16"),
        ({"accum": (1, 4)}, {"samples": 31}, r"--samples 31 is less than one window of --batch-size 8 x --accum 4 = 32"),
        ({"batch_size": (8, 2)}, {}, r"--mixing mixed .* 2 samples at --image-ratio 0.25 .* micro-batches of 4 or more"),
        ({"batch_size_is": "effective-batch", "accum": (1, 4)}, {}, r"--mixing mixed .* 2 samples"),
        ({"mixing": MIXINGS, "batch_size": (2,)}, {"image_ratio": 0.75}, r"--mixing mixed .* 2 samples at --image-ratio 0.75"),
    ],
)
def test_check_refuses(axes, recipe, message):
    with pytest.raises(ConfigError, match=message):
        check(axes, recipe)


@pytest.mark.parametrize(
    ("axes", "recipe"),
    [
        ({"accum": (1, 2, 4, 8), "batch_size_is": "effective-batch", "mixing": ("random",)}, {}),
        ({"accum": (1, 4)}, {"samples": 32}),
        ({"batch_size": (4,)}, {}),
        ({"batch_size": (1,)}, {"image_ratio": 0.0}),
        ({"batch_size": (1,)}, {"image_ratio": 1.0}),
        ({"batch_size": (1,), "mixing": ("random",)}, {}),
    ],
)
def test_check_lets_pass(axes, recipe):
    check(axes, recipe)


def exactly(share: float, micro: int) -> None:
    check({"batch_size": (micro,)}, {"image_ratio": share})


@pytest.mark.parametrize(("share", "micro"), [(0.2, 5), (0.1, 10), (0.02, 50), (0.75, 4), (0.95, 20)])
def test_check_lets_a_micro_batch_of_exactly_one_over_the_smaller_share_pass(share, micro):
    exactly(share, micro)


@pytest.mark.parametrize(("share", "micro"), [(0.8, 5), (0.9, 10)])
def test_check_lets_a_micro_batch_pass_at_shares_that_binary_rounds(share, micro):
    exactly(share, micro)


@pytest.mark.parametrize(("share", "advised"), [(0.4, 3), (0.3, 4), (0.7, 4)])
def test_check_advises_a_micro_batch_that_it_would_accept(share, advised):
    with pytest.raises(ConfigError, match=rf"micro-batches of {advised} or more"):
        check({"batch_size": (1,)}, {"image_ratio": share})
    check({"batch_size": (advised,)}, {"image_ratio": share})


@pytest.mark.parametrize("share", [3e-5, 1 - 3e-5])
def test_check_refuses_a_share_that_no_micro_batch_holds(share):
    with pytest.raises(ConfigError, match=r"--mixing mixed"):
        check({}, {"image_ratio": share})


def test_incorrect_rules_are_one_condition_where_nothing_is_accumulated():
    found = points(accum=(1, 4), loss_norm=("tokens", "micro_mean", "none"), lr_step_per=("window", "micro_batch"))
    assert [(c.accumulate_grad_batches, c.loss_norm, c.lr_step_per) for c, _ in found] == [
        (1, "tokens", "window"),
        *((4, norm, at) for norm in ("tokens", "micro_mean", "none") for at in ("window", "micro_batch")),
    ]


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("sqrt", 2), ("linear", 4)])
def test_the_learning_rate_grows_with_the_effective_batch_as_it_is_asked_to(scaling, factor):
    found = cells(accum=(1, 4), lr_scaling=(scaling,))
    assert [cell.learning_rate for cell in found] == [1e-3, pytest.approx(factor * 1e-3)]
    assert found[0].condition.lr_scaling == "none"  # the batch that the rate is meant for
    if scaling == "none":
        return
    other = cells(accum=(1, 4), lr_scaling=(scaling,), lr_reference_batch=32)
    assert [cell.learning_rate for cell in other] == [pytest.approx(1e-3 / factor), 1e-3]


def test_cells_whose_rate_is_not_scaled_do_not_depend_on_what_it_would_be_scaled_from():
    keys: dict[str, list[set[str]]] = {"none": [], "sqrt": []}
    for batch in (None, 8, 16):
        found = cells(accum=(4,), lr_reference_batch=batch, lr_scaling=("none", "sqrt"))
        for scaling, seen in keys.items():
            seen.append({cell.key for cell in found if cell.condition.lr_scaling == scaling})
    assert keys["none"][0] == keys["none"][1] == keys["none"][2]
    assert keys["sqrt"][1] != keys["sqrt"][2]


@pytest.mark.parametrize(
    ("budget", "samples", "held"),
    [
        ({}, 960, "960 samples"),
        ({"budget": "steps", "budget_size": 30}, 30 * 32, "30 optimizer steps"),
        ({"budget": "tokens", "budget_size": 5000}, None, "5000 supervised tokens"),
    ],
)
def test_a_budget_says_how_many_samples_a_cell_needs(budget, samples, held):
    cell = dataclasses.replace(CELL, settings=settings(**budget))
    assert cell.samples == samples
    assert cell.settings.budget_in_words == held


def test_clipping_at_micro_batches_needs_something_that_clips():
    with pytest.raises(ConfigError, match=r"--clip-per micro_batch .* give --max-grad-norm"):
        config(clip_per=("window", "micro_batch"))
    config(clip_per=("window", "micro_batch"), max_grad_norm=1.0)


def test_scaled_beta2_keeps_the_samples_that_its_average_spans():
    """beta2 to the power of effective over reference batch size: the half-life in samples is the same (arXiv 2507.07101)."""
    found = cells(accum=(1, 4), batch_size=(2, 8), adam_beta2="0.98,scaled", lr_reference_batch=8)
    betas = {(c.condition.effective_batch_size, c.condition.adam_beta2): c.betas for c in found}
    assert set(betas.values()) == {(0.9, 0.98), (0.9, 0.999**0.25), (0.9, 0.999), (0.9, 0.999**4)}
    scaled = {batch: beta2 for (batch, level), (_, beta2) in betas.items() if level != 0.98}
    assert set(scaled) == {2, 8, 32}
    half_lives = [batch * math.log(0.5) / math.log(beta2) for batch, beta2 in scaled.items()]
    assert half_lives == pytest.approx([half_lives[0]] * 3)


def test_scaled_beta2_is_the_default_at_the_reference_batch_where_the_grid_has_both():
    """One cell where the two are the same run; `scaled` stays a whole row of the grid where the default is no level."""
    at_reference = {"accum": (1,), "batch_size": (8,), "lr_reference_batch": 8}
    assert [c.adam_beta2 for c, _ in points(adam_beta2="0.999,scaled", **at_reference)] == [0.999]
    assert [c.adam_beta2 for c, _ in points(adam_beta2="0.95,scaled", **at_reference)] == [0.95, "scaled"]
    assert {c.adam_beta2 for c, _ in points(adam_beta2="scaled", accum=(1, 4), lr_reference_batch=8)} == {"scaled"}


def test_listed_conditions_vary_together():
    listed = [{"tokens": 0, "accum": 1}, {"tokens": 64, "accum": 4, "extra-lr": 10}]
    found = points(conditions=listed, tokens=None, accum=None)
    assert [(c.extra_num_query_tokens, c.accumulate_grad_batches, c.extra_lr) for c, _ in found] == [(0, 1, 1.0), (64, 4, 10.0)]
    crossed = points(tokens=(0, 64), accum=(1, 4), extra_lr=(1, 10))
    assert {c for c, _ in found} < {c for c, _ in crossed}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"conditions": [{"tokens": 0}]},
            r"condition 1 of conditions names no accum, and the grid has 2 levels of it \(1, 4\)",
        ),
        ({"conditions": [{"tokens": 0, "accum": 1}], "tokens": [0, 8]}, "tokens is given twice"),
        ({"conditions": [{"tokens": 0, "lr": 1}]}, "condition 1: unknown axis 'lr'; known: tokens, accum"),
        ({"conditions": [{"tokens": -1}]}, "condition 1: tokens: -1 is too small"),
        ({"conditions": 5}, "expected a list of conditions"),
        ({"conditions": ["tokens"]}, "expected a list of conditions"),
        ({"conditions": [{"tokens": 0, "accum": 1, "extra_lr": 1, "extra-lr": 10}]}, "condition 1: extra_lr is given twice"),
    ],
)
def test_listed_conditions_are_checked(grid, message):
    with pytest.raises(ConfigError, match=message):
        validate_config({"grid": grid})


def test_frames_are_the_models_own_where_none_are_named():
    assert {c.frames for c, _ in points()} == {8}
    assert [c.frames for c, _ in points(frames=(4, 8))] == [4, 8]
    assert {c.frames for c, _ in conditions(config().grid, 16)} == {16}
    some = [{"tokens": 0, "accum": 1, "frames": 4}, {"tokens": 0, "accum": 1}]
    assert [c.frames for c, _ in points(conditions=some, tokens=None, accum=None)] == [4, 8]
