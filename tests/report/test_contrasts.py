"""Which comparisons a grid allows, what they hold, and what is said of them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from qtablate.axes import settled
from qtablate.errors import QtablateError
from qtablate.report import tables
from qtablate.report.answers import Answers, axes_of
from qtablate.report.contrasts import INTERACTION, MAIN, SIMPLE, Contrast, baselines, contrasts
from qtablate.report.effects import ALL, contrast_frame, seed_variance_of
from qtablate.report.verdicts import verdict

AXES = axes_of("micro-batch")
ITEMS = 200


def condition(tokens, accum=1, init=None, batch=8):
    init = ("none" if tokens == 0 else "normal") if init is None else init
    return (tokens, accum, batch, "mixed", init, 1.0, "none", "tokens", "window", "window")


def given(effects, seeds=(1, 2, 3), missing=(), items=ITEMS):
    """Answers of conditions that are right with a probability of .5 plus their effect; common random numbers by item."""
    random = np.random.default_rng(1)
    draws = {seed: random.uniform(size=items) for seed in seeds}
    right = {
        (one, seed): (0.7 * draws[seed] + 0.3 * random.uniform(size=items) < 0.5 + effect).astype(float)
        for one, effect in effects.items()
        for seed in seeds
        if (one, seed) not in missing
    }
    tasks = np.array(["a", "b"])[np.arange(items) % 2]
    return Answers(AXES, right, np.arange(items) // 2, tasks, np.arange(items).astype(str))


GRID = {condition(tokens, accum): 0.0 for tokens in (0, 32, 64) for accum in (1, 4)}


def made(answers, margin=0.02, **asked):
    wanted = contrasts(answers, baselines(answers, asked))
    return wanted, contrast_frame(answers, wanted, margin)


def test_a_grid_of_two_axes_has_simple_and_averaged_contrasts_and_interactions():
    wanted, _ = made(given(GRID))
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


def test_differences_are_those_of_the_answers():
    answers = given({one: 0.05 * number for number, one in enumerate(GRID)})
    _, rows = made(answers)
    mean = {one: np.mean([right for (c, _), right in answers.correct.items() if c == one]) for one in GRID}
    row = rows[(rows["kind"] == SIMPLE) & (rows["level"] == 64) & (rows["fixed_levels"] == "accumulate_grad_batches=4")].iloc[0]
    assert row["difference"] == pytest.approx(mean[condition(64, 4)] - mean[condition(0, 4)])
    row = rows[(rows["kind"] == INTERACTION) & (rows["level"] == 32)].iloc[0]
    corners = [mean[condition(t, a)] for t, a in ((32, 4), (0, 4), (32, 1), (0, 1))]
    assert row["difference"] == pytest.approx(corners[0] - corners[1] - corners[2] + corners[3])
    row = rows[(rows["kind"] == MAIN) & (rows["axis"] == "accumulate_grad_batches") & (rows["task"] == ALL)].iloc[0]
    fours, ones = (np.mean([mean[condition(t, a)] for t in (0, 32, 64)]) for a in (4, 1))
    assert row["difference"] == pytest.approx(fours - ones)
    a_task = rows[(rows["task"] == "b") & (rows["kind"] == MAIN) & (rows["level"] == 32)].iloc[0]
    which = answers.tasks == "b"
    part = {one: np.mean([right[which] for (c, _), right in answers.correct.items() if c == one]) for one in GRID}
    assert a_task["difference"] == pytest.approx(np.mean([part[condition(32, a)] - part[condition(0, a)] for a in (1, 4)]))
    assert a_task["n_items"] == ITEMS / 2


def test_an_effect_is_found_and_none_is_not():
    _, rows = made(given({condition(0): 0.0, condition(32): 0.15, condition(64): -0.15, condition(96): 0.0}, items=1000))
    verdicts = rows[rows["task"] == ALL].set_index("level")["verdict"].to_dict()
    assert (verdicts[32], verdicts[64]) == ("better", "worse")
    assert verdicts[96] in ("equivalent", "undecided")
    _, wide = made(given({condition(0): 0.0, condition(96): 0.0}, items=1000), margin=0.2)
    assert set(wide[wide["task"] == ALL]["verdict"]) == {"equivalent"}


@pytest.mark.parametrize(
    ("difference", "p", "p_tost", "word"),
    [
        (0.1, 0.01, 0.9, "better"),
        (-0.1, 0.01, 0.9, "worse"),
        (0.1, 0.2, 0.9, "undecided"),
        (0.001, 0.9, 0.01, "equivalent"),
        (0.001, 0.01, 0.01, "equivalent"),
        (0.1, math.nan, math.nan, ""),
    ],
)
def test_verdicts(difference, p, p_tost, word):
    assert verdict(difference, p, p_tost) == word


def test_zeros_and_normal_have_one_baseline_without_extra_tokens():
    effects = {condition(0): 0.0} | {condition(t, init=i): 0.1 for t in (32, 64) for i in ("normal", "zeros")}
    wanted, rows = made(given(effects))
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
    wanted, _ = made(given(GRID), tokens="64", accum="4")
    assert {one.level for one in wanted if one.axis == "extra_num_query_tokens"} == {0, 32}
    assert {one.baseline for one in wanted if one.axis == "accumulate_grad_batches"} == {4}


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"token": "0"}, "unknown axis 'token'; known: tokens, accum"), ({"tokens": "7"}, "tokens=7: no finished cell has it; ")],
)
def test_a_baseline_that_is_not_there(asked, words):
    with pytest.raises(QtablateError, match=words):
        baselines(given(GRID), asked)


def test_only_seeds_that_finished_both_arms_count():
    answers = given(GRID, missing={(condition(64, 4), 3), (condition(0, 4), 2)})
    _, rows = made(answers)
    rows = rows[(rows["task"] == ALL) & (rows["kind"] == SIMPLE)]
    seeds = {(row["axis"], row["level"], row["fixed_levels"]): row["seeds"] for _, row in rows.iterrows()}
    assert seeds["extra_num_query_tokens", 64, "accumulate_grad_batches=4"] == 1
    assert seeds["extra_num_query_tokens", 64, "accumulate_grad_batches=1"] == 3
    assert seeds["extra_num_query_tokens", 32, "accumulate_grad_batches=4"] == 2
    assert set(rows["uncertainty"]) == {"items and seeds"}  # of one seed too: the others tell


def test_a_condition_without_a_finished_seed_is_no_contrast():
    answers = given(GRID, missing={(condition(64, 4), seed) for seed in (1, 2, 3)})
    wanted, _ = made(answers)
    assert not any(condition(64, 4) in one.weights for one in wanted)
    assert [one for one in wanted if one.kind == INTERACTION and one.level == 64] == []


def test_arms_that_share_no_seed_are_left_empty():
    answers = given(
        {condition(0): 0.0, condition(32): 0.1}, missing={(condition(0), 1), (condition(32), 2), (condition(32), 3)}
    )
    _, rows = made(answers)
    row = rows[rows["task"] == ALL].iloc[0]
    assert (row["seeds"], row["verdict"], row["uncertainty"]) == (0, "", "")
    assert pd.isna(row["difference"])
    sheet = tables.contrast_table(rows)
    assert sheet.rows[0][2:7] == ("", "", "", "", "")


def test_one_seed_says_so():
    _, rows = made(given(GRID, seeds=(1,)))
    assert set(rows["uncertainty"]) == {"items only"}
    sheet = tables.contrast_table(rows)
    assert "ONE SEED" in sheet.note
    _, more = made(given(GRID))
    assert set(more["uncertainty"]) == {"items and seeds"}
    assert "ONE SEED" not in tables.contrast_table(more).note


def test_no_finished_cell_and_a_single_condition_have_no_contrasts():
    nothing = Answers(AXES, {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_))
    for answers in (nothing, given({condition(0): 0.0})):
        wanted, rows = made(answers)
        assert wanted == []
        assert rows.empty
        assert tables.contrast_table(rows) is None
        assert tables.task_contrast_table(rows) is None


def test_a_batch_that_is_split_is_an_axis_of_whole_batches():
    axes = axes_of("effective-batch")
    assert "micro_batch_size" not in axes
    right = {(condition(32, accum, batch=32), 1): np.ones(4) for accum in (1, 4)}
    answers = Answers(axes, right, np.arange(4), np.array(["a"] * 4), np.arange(4).astype(str))
    wanted = contrasts(answers, baselines(answers, {}))
    assert [(one.axis, one.level) for one in wanted] == [("accumulate_grad_batches", 4)]


def test_each_axis_has_a_family_of_its_own():
    """Holm's adjustment counts the contrasts of one axis and kind, and the tasks of one contrast."""
    _, rows = made(given(GRID))
    whole = rows[rows["task"] == ALL]
    for (kind, axis), group in whole.groupby(["kind", "axis"]):
        smallest = group.loc[group["p"].idxmin()]
        members = len(whole[whole["kind"] == kind]) if kind == INTERACTION else len(group)
        assert smallest["p_holm"] == pytest.approx(min(1, members * smallest["p"])), axis
    one = rows[(rows["task"] != ALL) & (rows["kind"] == MAIN) & (rows["level"] == 32)]
    assert len(one) == 2
    assert one["p_holm"].min() == pytest.approx(min(1, 2 * one["p"].min()))


def test_every_verdict_has_its_words():
    _, rows = made(given({condition(0): 0.0, condition(32): 0.15, condition(64): -0.15, condition(96): 0.0}, items=1000))
    rows.loc[(rows["task"] == ALL) & (rows["level"] == 96), "verdict"] = "undecided"
    more, less, open_ = tables.contrast_sentences(rows)
    assert more.startswith("extra tokens 32 - 0: better, +")
    assert less.startswith("extra tokens 64 - 0: worse, -")
    assert open_.startswith("extra tokens 96 - 0: undecided, ")
    assert open_.endswith("points would have been detectable.")
    rows.loc[(rows["task"] == ALL) & (rows["level"] == 96), "verdict"] = "equivalent"
    assert "equivalent within 2.0 points" in tables.contrast_sentences(rows)[2]
    assert tables.contrast_table(rows).note.endswith(" ".join(tables.contrast_sentences(rows)))


def test_words_are_those_of_averages_where_there_are_any_and_of_interactions():
    _, rows = made(given(GRID, items=1000))
    said = tables.contrast_sentences(rows)
    assert len(said) == 2 + 1 + 2  # tokens and accumulation averaged, and the interactions
    assert "mean of accum 1+4" in said[0]


def test_sheets_say_what_is_compared():
    _, rows = made(given(GRID))
    sheet = tables.contrast_table(rows)
    names = [row[:2] for row in sheet.rows]
    assert names[0] == ("extra tokens 32 - 0", "accum 1")
    assert ("accum 4 - 1", "mean of extra tokens 0+32+64") in names
    assert names[-1] == ("(extra tokens 64 - 0) at accum 4 - at 1", "")
    tasks = tables.task_contrast_table(rows)
    assert tasks.columns == ("task", "n", "32 - 0", "64 - 0")
    assert [row[:2] for row in tasks.rows] == [("a", "100"), ("b", "100")]


def ruled(accum, norm="tokens", scaling="none", batch=8):
    return (32, accum, batch, "mixed", "normal", 1.0, scaling, norm, "window", "window")


def test_an_incorrect_rule_is_compared_with_the_right_one_and_in_nothing_else():
    answers = given({ruled(1): 0.0, ruled(4): 0.0, ruled(4, "micro_mean"): -0.1, ruled(4, "none"): -0.2})
    wanted, rows = made(answers)
    found = {(one.axis, one.level, one.fixed_levels) for one in wanted}
    a = "accumulate_grad_batches"
    assert found == {
        *(("loss_norm", norm, ((a, (4,)),)) for norm in ("micro_mean", "none")),
        (a, 4, (("loss_norm", ("tokens",)),)),  # and at no incorrect one
    }
    whole = rows[rows["task"] == ALL]
    sheet = tables.contrast_table(rows)
    assert [row[0] for row in sheet.rows if "incorrect" in " ".join(row)] == [
        "loss norm micro_mean (incorrect) - tokens",
        "loss norm none (incorrect) - tokens",
    ]
    incorrect = whole[whole["level"] == "none"].iloc[0]
    assert incorrect["verdict"] == "worse"


def test_a_level_that_is_called_none_is_a_level():
    """`none` stands for no initial value, but for a learning rate that is not scaled too."""
    effects = {ruled(1): 0.0, ruled(4): 0.0, ruled(4, scaling="sqrt"): 0.1, ruled(4, scaling="linear"): 0.1}
    answers = given(effects)
    answers = replace(answers, reference_batch=8)
    wanted, _ = made(answers)
    simple = {(one.axis, one.level, one.baseline) for one in wanted if one.kind == SIMPLE}
    assert simple == {
        ("lr_scaling", "sqrt", "none"),
        ("lr_scaling", "linear", "none"),
        ("accumulate_grad_batches", 4, 1),
    }
    assert sum(one.axis == "accumulate_grad_batches" and one.kind == SIMPLE for one in wanted) == 3  # one at each scaling
    assert baselines(answers, {"lr-scaling": "sqrt"})["lr_scaling"] == "sqrt"


def test_conditions_with_more_of_what_is_held_are_not_comparable():
    one, two = condition(0), condition(32)
    for amounts, comparable in (((600, 600), True), ((600, 597), True), ((600, 500), False)):
        answers = replace(given({one: 0.0, two: 0.3}), budgets=dict(zip((one, two), amounts, strict=True)))
        _, rows = made(answers)
        assert set(rows["verdict"] == "not comparable") == {not comparable}
        said = tables.contrast_table(rows).note
        assert ("not comparable" in said) == (not comparable)


def levelled(tokens, accum, *, batch=8, extra_lr=1.0, scaling="none", norm="tokens", clip="window", lr_batch=8):
    """A condition as a grid lays it out."""
    asked = dict(zip(axes_of("micro-batch"), condition(tokens, accum, batch=batch), strict=True))
    asked |= {"extra_lr": extra_lr, "lr_scaling": scaling, "loss_norm": norm, "clip_per": clip}
    return tuple(settled(asked, lr_batch).values())


def laid_out(conditions, lr_batch=8):
    return replace(given(dict.fromkeys(conditions, 0.0)), reference_batch=lr_batch)


ONE_LEVEL = {
    "the rate is scaled and scaled only": ([levelled(t, a, scaling="sqrt") for t in (0, 32) for a in (1, 4)], 8),
    "another rate of the extra tokens": ([levelled(t, a, extra_lr=10.0) for t in (0, 32) for a in (1, 4)], 8),
    "the rate is meant for the larger batch": (
        [levelled(t, a, scaling="sqrt", lr_batch=32) for t in (0, 32) for a in (1, 4)],
        32,
    ),
}


@pytest.mark.parametrize("asked", [{}, {"accum": "4"}, {"tokens": "32"}])
@pytest.mark.parametrize("case", ONE_LEVEL)
def test_an_axis_of_one_level_hides_no_comparison_where_it_has_no_meaning(case, asked):
    conditions, lr_batch = ONE_LEVEL[case]
    wanted, _ = made(laid_out(conditions, lr_batch), **asked)
    assert sum(one.kind == INTERACTION for one in wanted) == 1
    assert [one.axis for one in wanted if one.kind == SIMPLE] == ["extra_num_query_tokens"] * 2 + [
        "accumulate_grad_batches"
    ] * 2


GRIDS = {
    "scaling": [levelled(32, a, batch=b, scaling=s) for a in (1, 4) for b in (8, 32) for s in ("none", "sqrt", "linear")],
    "norms": [levelled(t, a, norm=n) for t in (0, 32) for a in (1, 4) for n in ("tokens", "micro_mean")],
    "extra lr": [levelled(t, 1, extra_lr=x) for t in (32, 0) for x in (10.0, 1.0, 100.0)],
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
    wanted, rows = made(laid_out(GRIDS[grid]), **asked)
    assert wanted
    for one in wanted:
        assert sum(one.weights.values()) == pytest.approx(0, abs=1e-12)
        assert len([weight for weight in one.weights.values() if weight]) >= 2
    assert rows["difference"].abs().max() < 0.3


def test_an_axis_that_some_conditions_lack_is_compared_in_the_others():
    wanted, _ = made(laid_out(GRIDS["extra lr"][:1] + GRIDS["extra lr"][2:]))  # 10 and 100 times, and none
    assert ("extra_lr", 100.0, 10.0) in {(one.axis, one.level, one.baseline) for one in wanted}


def test_two_rules_broken_at_once_are_compared_in_neither():
    conditions = [levelled(32, 4, norm=n, clip=c) for n in ("tokens", "micro_mean") for c in ("window", "micro_batch")]
    wanted, _ = made(laid_out(conditions))
    assert {(one.axis, one.kind, len(one.weights)) for one in wanted} == {("loss_norm", SIMPLE, 2), ("clip_per", SIMPLE, 2)}


def test_a_restless_incorrect_condition_makes_no_other_less_sure():
    plain = given({ruled(1): 0.0, ruled(4): 0.0, ruled(1, batch=16): 0.0})
    wild = np.random.default_rng(8)
    shares = {1: 0.1, 2: 0.9, 3: 0.5}
    incorrect = {(ruled(4, "none"), seed): (wild.uniform(size=ITEMS) < share).astype(float) for seed, share in shares.items()}
    beside = replace(plain, correct={**plain.correct, **incorrect})
    asked = "axis == 'accumulate_grad_batches' and task == 'all'"
    both = [made(answers)[1].query(asked)["stderr"].tolist() for answers in (plain, beside)]
    assert both[0] == both[1]
    [broken] = made(beside)[1].query("axis == 'loss_norm' and task == 'all'")["stderr"]
    assert broken > 3 * both[0][0]


def test_conditions_that_are_one_run_count_once():
    """(32, 1) and (8, 4) are one effective batch: their seeds' part is common, and no second witness of the noise."""
    answers = laid_out([ruled(1), ruled(1, batch=32), ruled(4)])
    assert answers.run_of(ruled(1, batch=32)) == answers.run_of(ruled(4)) != answers.run_of(ruled(1))
    assert answers.run_of(ruled(4, "none")) == ruled(4, "none")
    everything = np.ones(ITEMS, dtype=bool)
    assert seed_variance_of(answers, everything).dof == 2  # of 2 runs and 3 seeds; 4 if there were 3 runs
    apart = {ruled(1): -1.0, ruled(4): 0.5, ruled(1, batch=32): 0.5}
    rows = contrast_frame(answers, [Contrast(MAIN, "batch", 32, 8, apart)], 0.02, per_task=False)
    noise = seed_variance_of(answers, everything).variance
    assert float(rows["stderr"].iloc[0]) ** 2 >= 2 * noise / 3  # not 1.5, as of three runs
