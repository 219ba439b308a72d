"""Axes become conditions and cells; what cannot run is refused; a key names all that decides a result."""

import dataclasses

import pytest

from qtablate.axes import BY_NAME
from qtablate.errors import GridError
from qtablate.grid import Cell, Condition, Fingerprints, Grid, Recipe, check, factors, numbers, words

RECIPE = Recipe(
    samples=960,
    image_share=0.25,
    learning_rate=1e-3,
    warm_up=0.2,
    min_lr_ratio=0.25,
    weight_decay=0.02,
    betas=(0.9, 0.999),
    max_grad_norm=None,
    train_language_model=False,
    longest=256,
)
PRINTS = Fingerprints(model="m", training="t", benchmark="b")
CONDITION = Condition(32, 4, 8, "mixed", "normal")
CELL = Cell(CONDITION, 1, 8, RECIPE, PRINTS)

MIXINGS = BY_NAME["mixing"].known


def grid(**axes: object) -> Grid:
    one = {"tokens": (0,), "accum": (1,), "batch_size": (8,), "seeds": (1,), "mixing": ("mixed",), "extra_init": ("normal",)}
    return Grid(**{**one, "hold": "micro-batch", **axes})


def test_numbers_keep_the_order_and_ignore_blanks():
    assert numbers("--tokens", "64, 0,32", 0) == (64, 0, 32)
    assert numbers("--accum", "1", 1) == (1,)


@pytest.mark.parametrize(
    ("text", "named"),
    [("0,32,x", "'x'"), ("1.5", "'1.5'"), ("0,,1", "''"), ("", "''"), ("0,-3", "-3"), ("4,8,4", "4"), ("8,08", "8")],
)
def test_numbers_refuse_naming_option_and_value(text, named):
    with pytest.raises(GridError, match=rf"^--tokens: {named} is (not a whole number|too small|given twice)"):
        numbers("--tokens", text, 0)


def test_numbers_refuse_below_the_least():
    with pytest.raises(GridError, match=r"--accum: 0 is too small; the least is 1"):
        numbers("--accum", "1,0", 1)


def test_words_refuse_unknown_and_repeated_ones():
    assert words("--mixing", "random, mixed", MIXINGS) == ("random", "mixed")
    with pytest.raises(GridError, match=r"--mixing: unknown value 'both'; known: mixed, random, interleaved"):
        words("--mixing", "mixed,both", MIXINGS)
    with pytest.raises(GridError, match=r"--mixing: mixed is given twice"):
        words("--mixing", "mixed,random,mixed", MIXINGS)


def test_initial_value_is_no_axis_where_there_are_no_extra_tokens():
    found = [condition for condition, _ in grid(tokens=(0, 32), extra_init=("normal", "zeros")).conditions()]
    assert [(c.extra_num_query_tokens, c.extra_init) for c in found] == [(0, "none"), (32, "normal"), (32, "zeros")]


def test_conditions_are_the_product_of_the_axes():
    axes = {"tokens": (32, 64), "accum": (1, 2), "batch_size": (4, 8), "mixing": MIXINGS, "extra_init": ("normal", "zeros")}
    found = [condition for condition, _ in grid(**axes).conditions()]
    assert len(found) == len(set(found)) == 48


def test_hold_micro_batch_multiplies_the_effective_batch():
    found = grid(accum=(1, 4)).conditions()
    assert [(c.micro_batch_size, c.effective_batch_size, block) for c, block in found] == [(8, 8, 8), (8, 32, 8)]


def test_hold_effective_batch_splits_into_micro_batches_and_keeps_the_media_block():
    found = grid(accum=(1, 2, 8), hold="effective-batch").conditions()
    assert [(c.micro_batch_size, c.effective_batch_size, block) for c, block in found] == [(8, 8, 8), (4, 8, 8), (1, 8, 8)]


def test_cells_come_seed_by_seed_with_every_condition():
    cells = grid(tokens=(0, 32), accum=(1, 2), seeds=(3, 1)).cells(RECIPE, PRINTS)
    assert [cell.seed for cell in cells] == [3] * 4 + [1] * 4
    assert [cell.condition for cell in cells[:4]] == [cell.condition for cell in cells[4:]]
    assert len({cell.key for cell in cells}) == 8


OTHER = {
    "controls": ("blind", "middle"),
    "diagnose": True,
    "scorers": ("letter",),
    "lora_rank": 16,
    "precision": "bf16",
    "checkpointing": True,
    "extra_num_query_tokens": 64,
    "accumulate_grad_batches": 8,
    "micro_batch_size": 4,
    "mixing": "random",
    "seed": 2,
    "extra_init": "zeros",
    "samples": 961,
    "image_share": 0.5,
    "learning_rate": 2e-3,
    "warm_up": 0.1,
    "min_lr_ratio": 0.0,
    "weight_decay": 0.0,
    "betas": (0.9, 0.99),
    "max_grad_norm": 1.0,
    "train_language_model": True,
    "longest": 128,
    "extra_lr": 10.0,
    "lr_scaling": "sqrt",
    "loss_norm": "none",
    "clip_per": "micro_batch",
    "lr_step_per": "micro_batch",
    "budget": "steps",
    "budget_size": 100,
    "lr_batch": 8,
    "model": "n",
    "training": "u",
    "benchmark": "c",
    "media_block": 16,
    "software": "torch 1",
}


def fields() -> list[tuple[str, str]]:
    parts = [("condition", CONDITION), ("recipe", RECIPE), ("fingerprints", PRINTS)]
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
    twin = Cell(dataclasses.replace(CONDITION), 1, 8, dataclasses.replace(RECIPE), dataclasses.replace(PRINTS))
    assert twin is not CELL
    assert twin.key == CELL.key


@pytest.mark.parametrize(
    ("axes", "recipe", "message"),
    [
        ({"hold": "effective-batch", "accum": (1, 3)}, {}, r"--batch-size 8 is not a multiple of --accum 3"),
        ({"hold": "effective-batch", "accum": (16,)}, {}, r"--batch-size 8 is not a multiple of --accum 16"),
        ({"accum": (1, 4)}, {"samples": 31}, r"--samples 31 is less than one window of --batch-size 8 x --accum 4 = 32"),
        ({"batch_size": (8, 2)}, {}, r"--mixing mixed .* 2 samples at --image-share 0.25 .* micro-batches of 4 or more"),
        ({"hold": "effective-batch", "accum": (1, 4)}, {}, r"--mixing mixed .* 2 samples"),
        ({"mixing": MIXINGS, "batch_size": (2,)}, {"image_share": 0.75}, r"--mixing mixed .* 2 samples at --image-share 0.75"),
    ],
)
def test_check_refuses(axes, recipe, message):
    with pytest.raises(GridError, match=message):
        check(grid(**axes), dataclasses.replace(RECIPE, **recipe))


@pytest.mark.parametrize(
    ("axes", "recipe"),
    [
        ({"accum": (1, 2, 4, 8), "hold": "effective-batch", "mixing": ("random",)}, {}),
        ({"accum": (1, 4)}, {"samples": 32}),
        ({"batch_size": (4,)}, {}),
        ({"batch_size": (1,)}, {"image_share": 0.0}),
        ({"batch_size": (1,)}, {"image_share": 1.0}),
        ({"batch_size": (1,), "mixing": ("random",)}, {}),
    ],
)
def test_check_lets_pass(axes, recipe):
    check(grid(**axes), dataclasses.replace(RECIPE, **recipe))


def exactly(share: float, micro: int) -> None:
    check(grid(batch_size=(micro,)), dataclasses.replace(RECIPE, image_share=share))


@pytest.mark.parametrize(("share", "micro"), [(0.2, 5), (0.1, 10), (0.02, 50), (0.75, 4), (0.95, 20)])
def test_check_lets_a_micro_batch_of_exactly_one_over_the_smaller_share_pass(share, micro):
    exactly(share, micro)


@pytest.mark.parametrize(("share", "micro"), [(0.8, 5), (0.9, 10)])
def test_check_lets_a_micro_batch_pass_at_shares_that_binary_rounds(share, micro):
    exactly(share, micro)


@pytest.mark.parametrize(("share", "advised"), [(0.4, 3), (0.3, 4), (0.7, 4)])
def test_check_advises_a_micro_batch_that_it_would_accept(share, advised):
    recipe = dataclasses.replace(RECIPE, image_share=share)
    with pytest.raises(GridError, match=rf"micro-batches of {advised} or more"):
        check(grid(batch_size=(1,)), recipe)
    check(grid(batch_size=(advised,)), recipe)


@pytest.mark.parametrize("share", [3e-5, 1 - 3e-5])
def test_check_refuses_a_share_that_no_micro_batch_holds(share):
    with pytest.raises(GridError, match=r"--mixing mixed"):
        check(grid(), dataclasses.replace(RECIPE, image_share=share))


def test_incorrect_rules_are_one_condition_where_nothing_is_accumulated():
    found = grid(accum=(1, 4), loss_norm=("tokens", "micro_mean", "none"), lr_step_per=("window", "micro_batch")).conditions()
    assert [(c.accumulate_grad_batches, c.loss_norm, c.lr_step_per) for c, _ in found] == [
        (1, "tokens", "window"),
        *((4, norm, at) for norm in ("tokens", "micro_mean", "none") for at in ("window", "micro_batch")),
    ]


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("sqrt", 2), ("linear", 4)])
def test_the_learning_rate_grows_with_the_effective_batch_as_it_is_asked_to(scaling, factor):
    cells = grid(accum=(1, 4), lr_scaling=(scaling,)).cells(RECIPE, PRINTS)
    assert [cell.learning_rate for cell in cells] == [1e-3, pytest.approx(factor * 1e-3)]
    assert cells[0].condition.lr_scaling == "none"  # the batch that the rate is meant for
    other = grid(accum=(1, 4), lr_scaling=(scaling,), lr_batch=32).cells(RECIPE, PRINTS)
    assert [cell.learning_rate for cell in other] == [pytest.approx(1e-3 / factor), 1e-3]


def test_cells_whose_rate_is_not_scaled_do_not_depend_on_what_it_would_be_scaled_from():
    keys = [{cell.key for cell in grid(accum=(4,), lr_batch=batch).cells(RECIPE, PRINTS)} for batch in (None, 8, 16)]
    assert keys[0] == keys[1] == keys[2]
    scaled = [
        {c.key for c in grid(accum=(4,), lr_batch=batch, lr_scaling=("sqrt",)).cells(RECIPE, PRINTS)} for batch in (8, 16)
    ]
    assert scaled[0] != scaled[1]


@pytest.mark.parametrize(
    ("budget", "samples", "held"),
    [
        ({}, 960, "960 samples"),
        ({"budget": "steps", "budget_size": 30}, 30 * 32, "30 optimizer steps"),
        ({"budget": "tokens", "budget_size": 5000}, None, "5000 supervised tokens"),
    ],
)
def test_a_budget_says_how_many_samples_a_cell_needs(budget, samples, held):
    cell = dataclasses.replace(CELL, recipe=dataclasses.replace(RECIPE, **budget))
    assert cell.samples == samples
    assert cell.recipe.held == held


def test_clipping_at_micro_batches_needs_something_that_clips():
    with pytest.raises(GridError, match=r"--clip-per micro_batch .* give --max-grad-norm"):
        check(grid(clip_per=("window", "micro_batch")), RECIPE)
    check(grid(clip_per=("window", "micro_batch")), dataclasses.replace(RECIPE, max_grad_norm=1.0))


def test_factors():
    assert factors("--extra-lr", "1, 10,0.5") == (1.0, 10.0, 0.5)
    for text, named in (
        ("x", "'x' is not a number"),
        ("0", "0 is not above"),
        ("inf", "inf is not above"),
        ("1,1.0", "1.0 is given"),
    ):
        with pytest.raises(GridError, match=f"--extra-lr: {named}"):
            factors("--extra-lr", text)
