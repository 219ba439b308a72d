"""Estimates of contrasts: differences, families of tests, seeds and budgets."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from answer_grids import GRID, ITEMS, answers_of, condition, contrasts_of, flat_answers, with_rule

from qtablate.report import tables
from qtablate.report.contrasts import INTERACTION, MAIN, SIMPLE, Contrast
from qtablate.report.effects import contrast_frame, pooled_over
from qtablate.report.families import ALL


def test_differences_are_those_of_the_answers():
    answers = answers_of({one: 0.05 * number for number, one in enumerate(GRID)})
    _, rows = contrasts_of(answers)
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


def test_an_effect_is_found_and_no_effect_is_not():
    _, rows = contrasts_of(
        answers_of({condition(0): 0.0, condition(32): 0.15, condition(64): -0.15, condition(96): 0.0}, items=1000)
    )
    verdicts = rows[rows["task"] == ALL].set_index("level")["verdict"].to_dict()
    assert (verdicts[32], verdicts[64]) == ("better", "worse")
    assert verdicts[96] in ("equivalent", "undecided")
    _, wide = contrasts_of(answers_of({condition(0): 0.0, condition(96): 0.0}, items=1000), margin=0.2)
    assert set(wide[wide["task"] == ALL]["verdict"]) == {"equivalent"}


def test_only_seeds_that_finished_both_conditions_count():
    answers = answers_of(GRID, missing={(condition(64, 4), 3), (condition(0, 4), 2)})
    _, rows = contrasts_of(answers)
    rows = rows[(rows["task"] == ALL) & (rows["kind"] == SIMPLE)]
    seeds = {(row["axis"], row["level"], row["fixed_levels"]): row["seeds"] for _, row in rows.iterrows()}
    assert seeds["extra_num_query_tokens", 64, "accumulate_grad_batches=4"] == 1
    assert seeds["extra_num_query_tokens", 64, "accumulate_grad_batches=1"] == 3
    assert seeds["extra_num_query_tokens", 32, "accumulate_grad_batches=4"] == 2
    assert set(rows["uncertainty"]) == {"items and seeds"}  # of one seed too: the others tell


def test_conditions_without_a_common_seed_have_an_empty_row():
    answers = answers_of(
        {condition(0): 0.0, condition(32): 0.1}, missing={(condition(0), 1), (condition(32), 2), (condition(32), 3)}
    )
    _, rows = contrasts_of(answers)
    row = rows[rows["task"] == ALL].iloc[0]
    assert (row["seeds"], row["verdict"], row["uncertainty"]) == (0, "", "")
    assert pd.isna(row["difference"])
    table = tables.contrast_table(rows)
    assert table.rows[0][2:7] == ("", "", "", "", "")


def test_note_names_one_seed():
    _, rows = contrasts_of(answers_of(GRID, seeds=(1,)))
    assert set(rows["uncertainty"]) == {"items only"}
    table = tables.contrast_table(rows)
    assert "ONE SEED" in table.notes()
    _, more = contrasts_of(answers_of(GRID))
    assert set(more["uncertainty"]) == {"items and seeds"}
    assert "ONE SEED" not in tables.contrast_table(more).notes()


def test_primary_contrasts_are_adjusted_over_themselves_and_secondary_ones_over_all():
    _, rows = contrasts_of(answers_of(GRID))
    whole = rows[rows["task"] == ALL]
    assert set(whole[whole["primary"]]["kind"]) == {MAIN}
    assert len(whole[whole["primary"]]) == 3  # two levels of tokens and one of accumulation, averaged
    for primary, members in ((True, 3), (False, len(whole))):
        group = whole[whole["primary"] == primary]
        smallest = group.loc[group["p"].idxmin()]
        smaller = (whole["p"] < smallest["p"]).sum() if not primary else 0
        assert smallest["p_holm"] == pytest.approx(min(1, (members - smaller) * smallest["p"]), rel=1e-6)
    for (kind, axis), group in whole.groupby(["kind", "axis"]):
        smallest = group.loc[group["p"].idxmin()]
        members = len(whole[whole["kind"] == kind]) if kind == INTERACTION else len(group)
        assert smallest["p_axis"] == pytest.approx(min(1, members * smallest["p"])), axis
    one = rows[(rows["task"] != ALL) & (rows["kind"] == MAIN) & (rows["level"] == 32)]
    assert len(one) == 2
    assert one["p_holm"].min() == pytest.approx(min(1, 2 * one["p"].min()))


def test_a_level_that_no_average_has_is_primary_as_it_stands():
    """64 tokens at one accumulation alone, beside a grid of 0 and 32 at two."""
    _, rows = contrasts_of(answers_of({one: 0.0 for one in GRID if one != condition(64, 4)}))
    whole = rows[(rows["task"] == ALL) & rows["primary"] & (rows["axis"] == "extra_num_query_tokens")]
    assert list(zip(whole["level"], whole["kind"], strict=True)) == [(64, SIMPLE), (32, MAIN)]


def test_the_level_counts_what_is_not_rejected_equivalent_or_not():
    """Holm's adjustment counts the large p-values of equivalent contrasts, too."""
    answers = answers_of({condition(0): 0.0, condition(32): 0.0, condition(64): 0.3, condition(96): 0.0}, items=2000)
    frame = contrasts_of(answers, margin=0.2)[1]
    rows = frame[frame["task"] == ALL].set_index("level")
    assert rows["verdict"].to_dict() == {32: "equivalent", 64: "better", 96: "equivalent"}
    assert rows["mde_level"].tolist() == pytest.approx([0.05 / 2, 0.05 / 3, 0.05 / 2])


def test_simple_contrasts_of_a_single_axis_are_primary():
    _, rows = contrasts_of(answers_of({condition(0): 0.0, condition(32): 0.0, condition(64): 0.0}))
    whole = rows[rows["task"] == ALL]
    assert whole["primary"].tolist() == [True, True]
    assert not rows[rows["task"] != ALL]["primary"].any()


def test_identical_runs_are_neither_tested_nor_counted_twice():
    one, two, three = condition(0), condition(32), condition(64)
    apart = answers_of({one: 0.0, two: 0.0, three: 0.0})
    copies = {(three, seed): apart.correct[two, seed] for seed in (1, 2, 3)}
    answers = replace(apart, correct={**apart.correct, **copies}, identical={three: two})
    frame = contrasts_of(answers)[1]
    rows = frame[frame["task"] == ALL]
    assert rows["p_holm"].tolist() == rows["p"].tolist()  # one test, shown twice
    assert rows["same_as"].tolist()[:2] == ["", "extra tokens 32 - 0"]
    same = contrast_frame(answers, [Contrast(SIMPLE, "x", 64, 32, {three: 1.0, two: -1.0})], 0.02, per_task=False)
    assert same["verdict"].tolist() == ["identical"]
    assert same[["p", "p_holm", "p_tost", "ci_low", "mde", "stderr"]].isna().all(axis=None)
    counted = pooled_over(answers, answers.correct)
    assert counted.dof == 2  # of 2 runs and 3 seeds


def test_the_probability_of_the_correct_option_goes_through_the_same_contrasts():
    answers = answers_of({condition(0): 0.0, condition(32): 0.1}, items=1000)
    likely = {cell: 0.25 + 0.5 * right for cell, right in answers.correct.items()}
    answers = replace(answers, probability=likely, log_margin={cell: 2 * right - 1 for cell, right in answers.correct.items()})
    frame = contrasts_of(answers)[1]
    rows = frame[frame["task"] == ALL].set_index("outcome")
    assert list(rows.index) == ["accuracy", "probability", "log_margin"]
    assert rows.loc["probability", "difference"] == pytest.approx(rows.loc["accuracy", "difference"] / 2)
    assert rows.loc["probability", "stderr"] == pytest.approx(rows.loc["accuracy", "stderr"] / 2, rel=1e-6)
    assert rows.loc["probability", "p_tost"] != rows.loc["probability", "p_tost"]  # no margin of probabilities
    assert set(frame[frame["task"] != ALL]["outcome"]) == {"accuracy"}
    assert tables.likelihood_table(frame).rows[0][0] == "extra tokens 32 - 0"
    assert tables.likelihood_table(contrasts_of(answers_of(GRID))[1]) is None


def test_conditions_with_different_budgets_are_not_comparable():
    one, two = condition(0), condition(32)
    for amounts, comparable in (((600, 600), True), ((600, 597), True), ((600, 500), False)):
        answers = replace(answers_of({one: 0.0, two: 0.3}), budgets=dict(zip((one, two), amounts, strict=True)))
        _, rows = contrasts_of(answers)
        assert set(rows["verdict"] == "not comparable") == {not comparable}
        said = tables.contrast_table(rows).notes()
        assert ("not comparable" in said) == (not comparable)


def test_seed_variance_of_incorrect_conditions_does_not_widen_other_intervals():
    plain = answers_of({with_rule(1): 0.0, with_rule(4): 0.0, with_rule(1, batch=16): 0.0})
    wild = np.random.default_rng(8)
    shares = {1: 0.1, 2: 0.9, 3: 0.5}
    incorrect = {
        (with_rule(4, "none"), seed): (wild.uniform(size=ITEMS) < share).astype(float) for seed, share in shares.items()
    }
    beside = replace(plain, correct={**plain.correct, **incorrect})
    asked = "axis == 'accumulate_grad_batches' and task == 'all'"
    both = [contrasts_of(answers)[1].query(asked)["stderr"].tolist() for answers in (plain, beside)]
    assert both[0] == both[1]
    [broken] = contrasts_of(beside)[1].query("axis == 'loss_norm' and task == 'all'")["stderr"]
    assert broken > 3 * both[0][0]


def test_conditions_that_are_one_run_count_once():
    """(32, 1) and (8, 4) are one effective batch: their seeds' part is common, and no second witness of the noise."""
    answers = flat_answers([with_rule(1), with_rule(1, batch=32), with_rule(4)])
    assert answers.run_of(with_rule(1, batch=32)) == answers.run_of(with_rule(4)) != answers.run_of(with_rule(1))
    assert answers.run_of(with_rule(4, "none")) == with_rule(4, "none")
    assert pooled_over(answers, answers.correct).dof == 2  # of 2 runs and 3 seeds; 4 if there were 3 runs
    apart = {with_rule(1): -1.0, with_rule(4): 0.5, with_rule(1, batch=32): 0.5}
    rows = contrast_frame(answers, [Contrast(MAIN, "batch", 32, 8, apart)], 0.02, per_task=False)
    noise = pooled_over(answers, answers.correct).variance
    assert float(rows["stderr"].iloc[0]) ** 2 >= 2 * noise / 3  # not 1.5, as of three runs
