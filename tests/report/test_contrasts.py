"""Which contrasts a grid of conditions allows."""

from dataclasses import replace

import numpy as np
import pytest
from answer_grids import (
    AXES,
    GRID,
    answers_of,
    condition,
    contrasts_of,
    flat_answers,
    grid_condition,
    with_rule,
)

from qtablate.errors import QtablateError
from qtablate.report import tables
from qtablate.report.answers import Answers, axes_of
from qtablate.report.contrasts import INTERACTION, MAIN, SIMPLE, WHOLE, baselines, contrasts
from qtablate.report.families import ALL


def test_a_grid_of_two_axes_has_simple_main_and_interaction_contrasts():
    wanted, _ = contrasts_of(answers_of(GRID))
    names = {(one.kind, one.axis, one.level, one.fixed_levels, one.other_level) for one in wanted}
    t, a = "extra_num_query_tokens", "accumulate_grad_batches"
    assert names == {
        *((SIMPLE, t, level, ((a, (accum,)),), None) for level in (32, 64) for accum in (1, 4)),
        *((MAIN, t, level, ((a, (1, 4)),), None) for level in (32, 64)),
        *((SIMPLE, a, 4, ((t, (tokens,)),), None) for tokens in (0, 32, 64)),
        (MAIN, a, 4, ((t, (0, 32, 64)),), None),
        *((INTERACTION, t, level, (), 4) for level in (32, 64)),
    }
    for one in wanted:
        assert sum(one.weights.values()) == pytest.approx(0)
        assert sum(weight for weight in one.weights.values() if weight > 0) == pytest.approx(
            2 if one.kind == INTERACTION else 1
        )


def test_zeros_and_normal_have_one_baseline_without_extra_tokens():
    effects = {condition(0): 0.0} | {condition(t, init=i): 0.1 for t in (32, 64) for i in ("normal", "zeros")}
    wanted, rows = contrasts_of(answers_of(effects))
    tokens = [one for one in wanted if one.axis == "extra_num_query_tokens" and one.kind == SIMPLE]
    assert {(one.level, one.fixed_levels) for one in tokens} == {
        (level, (("extra_init", (init,)),)) for level in (32, 64) for init in ("normal", "zeros")
    }
    assert all(condition(0) in one.weights for one in tokens)
    inits = [one for one in wanted if one.axis == "extra_init" and one.kind == SIMPLE]
    assert [(one.level, one.baseline, one.fixed_levels) for one in inits] == [
        ("zeros", "normal", (("extra_num_query_tokens", (level,)),)) for level in (32, 64)
    ]
    assert not [one for one in wanted if one.kind == INTERACTION]  # 0 tokens with zeros is not another condition
    main = next(one for one in wanted if one.kind == MAIN and one.level == 32)
    assert main.weights[condition(0)] == pytest.approx(-1)
    assert rows["difference"].notna().all()


def test_another_baseline():
    wanted, _ = contrasts_of(answers_of(GRID), tokens="64", accum="4")
    assert {one.level for one in wanted if one.axis == "extra_num_query_tokens"} == {0, 32}
    assert {one.baseline for one in wanted if one.axis == "accumulate_grad_batches"} == {4}


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"token": "0"}, "unknown axis 'token'; known: tokens, accum"), ({"tokens": "7"}, "tokens=7: no finished cell has it; ")],
)
def test_unknown_baseline_is_an_error(asked, words):
    with pytest.raises(QtablateError, match=words):
        baselines(answers_of(GRID), asked)


def test_a_condition_without_a_finished_seed_has_no_contrast():
    answers = answers_of(GRID, missing={(condition(64, 4), seed) for seed in (1, 2, 3)})
    wanted, _ = contrasts_of(answers)
    assert not any(condition(64, 4) in one.weights for one in wanted)
    assert [one for one in wanted if one.kind == INTERACTION and one.level == 64] == []


def test_no_finished_cell_and_a_single_condition_have_no_contrasts():
    nothing = Answers(AXES, {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_))
    for answers in (nothing, answers_of({condition(0): 0.0})):
        wanted, rows = contrasts_of(answers)
        assert wanted == []
        assert rows.empty
        assert tables.contrast_table(rows) is None
        assert tables.task_contrast_table(rows) is None


def test_effective_batch_is_an_axis_where_batches_are_split():
    axes = axes_of("effective-batch")
    assert "micro_batch_size" not in axes
    right = {(condition(32, accum, batch=32), 1): np.ones(4) for accum in (1, 4)}
    answers = Answers(axes, right, np.arange(4), np.array(["a"] * 4), np.arange(4).astype(str))
    wanted = contrasts(answers, baselines(answers, {}))
    assert [(one.axis, one.level) for one in wanted] == [("accumulate_grad_batches", 4)]


def test_an_incorrect_rule_is_compared_only_with_the_correct_one():
    answers = answers_of({with_rule(1): 0.0, with_rule(4): 0.0, with_rule(4, "micro_mean"): -0.1, with_rule(4, "none"): -0.2})
    wanted, rows = contrasts_of(answers)
    found = {(one.axis, one.level, one.fixed_levels) for one in wanted}
    a = "accumulate_grad_batches"
    assert found == {
        *(("loss_norm", norm, ((a, (4,)),)) for norm in ("micro_mean", "none")),
        (a, 4, (("loss_norm", ("tokens",)),)),  # and at no incorrect one
    }
    whole = rows[rows["task"] == ALL]
    table = tables.contrast_table(rows)
    assert [row[0] for row in table.rows if "incorrect" in " ".join(row)] == [
        "loss norm micro_mean (incorrect) - tokens",
        "loss norm none (incorrect) - tokens",
    ]
    incorrect = whole[whole["level"] == "none"].iloc[0]
    assert incorrect["verdict"] == "worse"


def test_a_level_called_none_is_a_level():
    """`none` stands for no initial value, but for a learning rate that is not scaled too."""
    effects = {with_rule(1): 0.0, with_rule(4): 0.0, with_rule(4, scaling="sqrt"): 0.1, with_rule(4, scaling="linear"): 0.1}
    answers = answers_of(effects)
    answers = replace(answers, reference_batch=8)
    wanted, _ = contrasts_of(answers)
    simple = {(one.axis, one.level, one.baseline) for one in wanted if one.kind == SIMPLE}
    assert simple == {
        ("lr_scaling", "sqrt", "none"),
        ("lr_scaling", "linear", "none"),
        ("accumulate_grad_batches", 4, 1),
    }
    assert sum(one.axis == "accumulate_grad_batches" and one.kind == SIMPLE for one in wanted) == 3  # one at each scaling
    assert baselines(answers, {"lr-scaling": "sqrt"})["lr_scaling"] == "sqrt"


ONE_LEVEL = {
    "the rate is scaled and scaled only": ([grid_condition(t, a, scaling="sqrt") for t in (0, 32) for a in (1, 4)], 8),
    "beta2 is scaled and scaled only": ([grid_condition(t, a, beta2="scaled") for t in (0, 32) for a in (1, 4)], 8),
    "another rate of the extra tokens": ([grid_condition(t, a, extra_lr=10.0) for t in (0, 32) for a in (1, 4)], 8),
    "the rate is meant for the larger batch": (
        [grid_condition(t, a, scaling="sqrt", lr_batch=32) for t in (0, 32) for a in (1, 4)],
        32,
    ),
}


@pytest.mark.parametrize("asked", [{}, {"accum": "4"}, {"tokens": "32"}])
@pytest.mark.parametrize("case", ONE_LEVEL)
def test_an_inactive_axis_of_one_level_hides_no_comparison(case, asked):
    conditions, lr_batch = ONE_LEVEL[case]
    wanted, _ = contrasts_of(flat_answers(conditions, lr_batch), **asked)
    assert sum(one.kind == INTERACTION for one in wanted) == 1
    assert [one.axis for one in wanted if one.kind == SIMPLE] == ["extra_num_query_tokens"] * 2 + [
        "accumulate_grad_batches"
    ] * 2


GRIDS = {
    "scaling": [grid_condition(32, a, batch=b, scaling=s) for a in (1, 4) for b in (8, 32) for s in ("none", "sqrt", "linear")],
    "norms": [grid_condition(t, a, norm=n) for t in (0, 32) for a in (1, 4) for n in ("tokens", "micro_mean")],
    "extra lr": [grid_condition(t, 1, extra_lr=x) for t in (32, 0) for x in (10.0, 1.0, 100.0)],
}


@pytest.mark.parametrize(
    ("grid", "asked"),
    [
        ("scaling", {}),
        ("scaling", {"lr-scaling": "linear"}),
        ("scaling", {"batch-size": "32"}),
        ("norms", {}),
        ("norms", {"loss-norm": "micro_mean"}),
        ("norms", {"accum": "4"}),
        ("extra lr", {}),
        ("extra lr", {"tokens": "32"}),
    ],
)
def test_no_condition_is_compared_with_itself(grid, asked):
    wanted, rows = contrasts_of(flat_answers(GRIDS[grid]), **asked)
    assert wanted
    for one in wanted:
        assert sum(one.weights.values()) == pytest.approx(0, abs=1e-12)
        assert len([weight for weight in one.weights.values() if weight]) >= 2
    assert rows["difference"].abs().max() < 0.3


def test_an_axis_inactive_in_some_conditions_is_compared_in_the_others():
    wanted, _ = contrasts_of(flat_answers(GRIDS["extra lr"][:1] + GRIDS["extra lr"][2:]))  # 10 and 100 times, and none
    assert ("extra_lr", 100.0, 10.0) in {(one.axis, one.level, one.baseline) for one in wanted}


def test_conditions_that_break_two_rules_are_not_compared():
    conditions = [grid_condition(32, 4, norm=n, clip=c) for n in ("tokens", "micro_mean") for c in ("window", "micro_batch")]
    wanted, _ = contrasts_of(flat_answers(conditions))
    assert {(one.axis, one.kind, len(one.weights)) for one in wanted} == {("loss_norm", SIMPLE, 2), ("clip_per", SIMPLE, 2)}


def test_listed_conditions_that_differ_on_several_axes_are_compared_as_a_whole():
    one, two, three = condition(0, 1), condition(32, 4), condition(64, 8)
    wanted, rows = contrasts_of(answers_of({one: 0.0, two: 0.3, three: 0.0}, items=1000))
    assert [(each.kind, each.level, each.baseline, dict(each.weights)) for each in wanted] == [
        (WHOLE, "extra tokens 32, accum 4, extra init normal", "extra tokens 0, accum 1", {two: 1.0, one: -1.0}),
        (WHOLE, "extra tokens 64, accum 8, extra init normal", "extra tokens 0, accum 1", {three: 1.0, one: -1.0}),
    ]
    whole = rows[rows["task"] == ALL]
    assert whole["primary"].all()
    assert whole["verdict"].iloc[0] == "better"
    assert tables.contrast_table(rows).rows[0][0].startswith("condition extra tokens 32, accum 4")


def test_conditions_of_a_whole_grid_are_not_compared_as_a_whole():
    assert not [one for one in contrasts_of(answers_of(GRID))[0] if one.kind == WHOLE]
