"""Axes: how levels are parsed and shown, where an axis is inactive, which levels are incorrect."""

import dataclasses

import pytest
from settings import config

from qtablate.axes import (
    ADAM_BETA2,
    AXES,
    BY_COLUMN,
    BY_OPTION,
    Condition,
    canonical_levels,
    effective_batch_size,
    inactive_axes,
    incorrect_levels,
    parse_levels,
    show_level,
)
from qtablate.errors import ConfigError
from qtablate.grid_config import GridConfig

RULES = ("micro_mean", "micro_batch", "micro_batch")
USUAL = dataclasses.asdict(Condition(32, 4, 8, "mixed", "zeros", 10.0, "sqrt", *RULES, "scaled", 4))


def test_every_field_of_a_condition_is_an_axis_in_the_same_order():
    assert [axis.column for axis in AXES] == [field.name for field in dataclasses.fields(Condition)]
    assert {axis.field for axis in AXES} <= set(GridConfig.model_fields)


def test_active_axes_keep_their_levels():
    assert canonical_levels(USUAL, 8) == USUAL
    assert inactive_axes(USUAL, 8) == set()


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"extra_num_query_tokens": 0}, {"extra_init": "none", "extra_lr": 1.0}),
        (
            {"accumulate_grad_batches": 1, "micro_batch_size": 32},
            {"loss_norm": "tokens", "clip_per": "window", "lr_step_per": "window"},
        ),
        (
            {"accumulate_grad_batches": 1},
            {
                "loss_norm": "tokens",
                "clip_per": "window",
                "lr_step_per": "window",
                "lr_scaling": "none",
                "adam_beta2": ADAM_BETA2,
            },
        ),
        ({"micro_batch_size": 2}, {"lr_scaling": "none", "adam_beta2": ADAM_BETA2}),
        ({"micro_batch_size": 2, "adam_beta2": 0.98}, {"lr_scaling": "none"}),
    ],
)
def test_levels_that_are_one_and_the_same_run_have_one_name(change, lost):
    assert canonical_levels({**USUAL, **change}, 8) == {**USUAL, **change, **lost}
    assert inactive_axes({**USUAL, **change}, 8) == set(lost) - {"adam_beta2"}


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.option)
def test_what_stands_for_an_inactive_axis_is_a_level_or_a_placeholder(axis):
    known = {*axis.names, axis.placeholder, *axis.default}
    assert axis.when_inactive is None or axis.when_inactive in known
    assert set(axis.incorrect) <= set(axis.names) - set(axis.default)
    assert axis.default or axis.column == "frames"
    assert axis.help.endswith(".")


def test_an_effective_batch_size_is_given_or_follows():
    assert effective_batch_size({"micro_batch_size": 8, "accumulate_grad_batches": 4}) == 32
    assert effective_batch_size({"effective_batch_size": 32, "accumulate_grad_batches": 4}) == 32


def test_incorrect_levels_are_labelled_and_no_other():
    assert incorrect_levels(USUAL) == "loss_norm=micro_mean; clip_per=micro_batch; lr_step_per=micro_batch"
    assert incorrect_levels(dataclasses.asdict(Condition(32, 4, 8, "mixed", "zeros"))) == ""
    assert show_level("loss_norm", "none") == "none (incorrect)"
    assert show_level("lr_scaling", "none") == "none"  # another axis, where it is a level like any other
    assert show_level("micro_batch_size", 8) == "8"
    assert show_level("extra_lr", 10.0) == "10"
    assert show_level("effective_batch_size", 32.0) == "32"  # no axis
    assert {axis.option: axis.incorrect for axis in BY_OPTION.values() if axis.incorrect} == {
        "loss-norm": ("micro_mean", "none"),
        "clip-per": ("micro_batch",),
        "lr-step-per": ("micro_batch",),
    }


def test_whole_numbers_keep_the_order_and_ignore_blanks():
    assert BY_OPTION["tokens"].parse("64, 0,32") == (64, 0, 32)
    assert BY_OPTION["accum"].parse("1") == BY_OPTION["accum"].parse(1) == (1,)
    assert BY_OPTION["tokens"].parse([0, 8]) == (0, 8)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("0,32,x", "'x' is not a whole number"),
        ("1.5", "'1.5' is not a whole number"),
        ("0,,1", "'' is not a whole number"),
        ("", "'' is not a whole number"),
        ("0,-3", "-3 is too small; the least is 0"),
        ("4,8,4", "4 is given twice"),
        ("8,08", "8 is given twice"),
        ([True], "'True' is not a whole number"),
        ([], "the list is empty"),
    ],
)
def test_whole_numbers_are_refused_by_value(text, named):
    with pytest.raises(ValueError, match=rf"^{named}"):
        BY_OPTION["tokens"].parse(text)


def test_a_number_below_the_least_is_refused():
    with pytest.raises(ValueError, match=r"0 is too small; the least is 1"):
        BY_OPTION["accum"].parse("1,0")


def test_unknown_and_repeated_names_are_refused():
    assert BY_OPTION["mixing"].parse("random, mixed") == ("random", "mixed")
    with pytest.raises(ValueError, match=r"unknown value 'multi'; known: mixed, random, interleaved"):
        BY_OPTION["mixing"].parse("mixed,multi")
    with pytest.raises(ValueError, match=r"mixed is given twice"):
        BY_OPTION["mixing"].parse("mixed,random,mixed")


def test_factors_are_above_zero_and_finite():
    assert BY_OPTION["extra-lr"].parse("1, 10,0.5") == (1.0, 10.0, 0.5)
    for text, named in (
        ("x", "'x' is not a number"),
        ("nan", "'nan' is not a number"),
        ("0", "0 is not above"),
        ("inf", "inf is not a finite number"),
        ("1,1.0", "1 is given twice"),
    ):
        with pytest.raises(ValueError, match=named):
            BY_OPTION["extra-lr"].parse(text)


def test_beta2_takes_numbers_below_one_and_a_name():
    assert BY_OPTION["adam-beta2"].parse("0.98,scaled") == (0.98, "scaled")
    for text, named in (
        ("1", "1 is not below 1"),
        ("-0.1", "-0.1 is too small"),
        ("linear", "'linear' is not a number, or one"),
    ):
        with pytest.raises(ValueError, match=named):
            BY_OPTION["adam-beta2"].parse(text)


def test_an_option_is_named_with_what_is_wrong_with_it():
    with pytest.raises(ConfigError, match=r"^grid\.tokens: -1 is too small; the least is 0$"):
        config(tokens="-1")


def test_levels_by_option():
    assert parse_levels("--baseline", "tokens=0, accum=1") == {"tokens": "0", "accum": "1"}
    assert parse_levels("--baseline", "") == {}
    for text, named in (("tokens", "'tokens' is not an axis and a level"), ("tokens=0,tokens=1", "tokens is given twice")):
        with pytest.raises(ConfigError, match=f"--baseline: {named}"):
            parse_levels("--baseline", text)


def test_the_usual_level_is_the_baseline_of_a_report():
    assert {axis.column: axis.usual for axis in AXES if axis.usual is None} == {"frames": None}
    assert BY_COLUMN["extra_num_query_tokens"].usual == 0
    assert BY_COLUMN["adam_beta2"].usual == ADAM_BETA2
