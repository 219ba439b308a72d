"""Axes: where one has no meaning, which levels are incorrect, and how each is told."""

import dataclasses

import pytest

from qtablate.axes import AXES, BY_OPTION, MEANINGLESS, effective, incorrect_levels, settled, told
from qtablate.grid import Condition

USUAL = dataclasses.asdict(Condition(32, 4, 8, "mixed", "zeros", 10.0, "sqrt", "micro_mean", "micro_batch", "micro_batch"))


def test_every_field_of_a_condition_is_an_axis_in_the_same_order():
    assert [axis.name for axis in AXES] == [field.name for field in dataclasses.fields(Condition)]


def test_axes_that_mean_something_keep_their_levels():
    assert settled(USUAL, 8) == USUAL


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
            {"loss_norm": "tokens", "clip_per": "window", "lr_step_per": "window", "lr_scaling": "none"},
        ),
        ({"micro_batch_size": 2}, {"lr_scaling": "none"}),
    ],
)
def test_an_axis_without_a_meaning_has_one_level(change, lost):
    assert settled({**USUAL, **change}, 8) == {**USUAL, **change, **lost}


def test_the_table_of_meanings_names_axes_and_levels_that_exist():
    for axis, _, level in MEANINGLESS:
        known = next(one for one in AXES if one.name == axis)
        assert not known.known or level in (*known.known, known.absent)


def test_a_whole_batch_is_told_by_either_name():
    assert effective({"micro_batch_size": 8, "accumulate_grad_batches": 4}) == 32
    assert effective({"effective_batch_size": 32, "accumulate_grad_batches": 4}) == 32


def test_incorrect_levels_are_labelled_and_no_other():
    assert incorrect_levels(USUAL) == "loss_norm=micro_mean; clip_per=micro_batch; lr_step_per=micro_batch"
    assert incorrect_levels(dataclasses.asdict(Condition(32, 4, 8, "mixed", "zeros"))) == ""
    assert told("loss_norm", "none") == "none (incorrect)"
    assert told("lr_scaling", "none") == "none"  # another axis, where it is a level like any other
    assert told("micro_batch_size", 8) == "8"
    assert told("extra_lr", 10.0) == "10"
    assert {axis.option: axis.incorrect for axis in BY_OPTION.values() if axis.incorrect} == {
        "loss-norm": ("micro_mean", "none"),
        "clip-per": ("micro_batch",),
        "lr-step-per": ("micro_batch",),
    }
