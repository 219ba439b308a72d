"""Which conditions need no more seeds, and what is said of them afterwards."""

from dataclasses import replace

import numpy as np
import pytest
from answer_grids import answers_of, condition

from qtablate.report.contrasts import baselines, contrasts
from qtablate.report.effects import contrast_frame
from qtablate.report.families import ALL
from qtablate.report.recommendation import rank_conditions
from qtablate.report.until_decided import answers_until, seeds_enough
from qtablate.report.verdicts import EQUIVALENT, WORSE

SEEDS = tuple(range(1, 9))
MARGIN = 0.02
BASE, FAR, NEAR = condition(0), condition(32), condition(64)


def planned(effects, items=2000, **more):
    """Answers of eight planned seeds, all of them there."""
    return replace(answers_of(effects, SEEDS, items=items, **more), planned_seeds=SEEDS)


def enough_of(answers, seeds=8):
    return seeds_enough(answers, baselines(answers, {}), MARGIN, seeds)


def rows_of(answers, margin=MARGIN):
    """Contrasts of accuracies over all items, by level."""
    frame = contrast_frame(answers, contrasts(answers, baselines(answers, {})), margin)
    return frame[(frame["task"] == ALL)].set_index("level")


@pytest.fixture(scope="module")
def decided_early():
    """A condition far from the baseline, and one whose difference of 2.5 points no number of seeds here decides at once."""
    return planned({BASE: 0.0, FAR: 0.3, NEAR: 0.025})


def test_a_condition_stops_when_it_is_decided_and_the_baseline_goes_on_with_the_others(decided_early):
    enough = enough_of(decided_early)
    assert enough[FAR] == 3
    assert enough.get(NEAR, 8) > 3
    assert BASE not in enough or enough[BASE] == enough[NEAR]


def test_everything_stops_when_all_is_decided():
    assert enough_of(planned({BASE: 0.0, FAR: 0.3, NEAR: -0.3})) == {BASE: 3, FAR: 3, NEAR: 3}


def test_equivalent_is_decided_too():
    answers = planned({BASE: 0.0, FAR: 0.0})
    assert seeds_enough(answers, baselines(answers, {}), 0.1, 8) == {BASE: 3, FAR: 3}


def test_nothing_is_decided_before_the_first_look_nor_stopped_after_the_last(decided_early):
    assert enough_of(decided_early, 2) == {}
    assert max(enough_of(decided_early).values()) < len(SEEDS)
    assert enough_of(replace(decided_early, planned_seeds=SEEDS[:3]), 3) == {}  # three planned seeds are all run


def test_earlier_decisions_are_found_again_whatever_has_finished_since(decided_early):
    """A sweep that is killed and goes on, or has run more than was needed, stops the same conditions after the same seeds."""
    whole = enough_of(decided_early)
    for seeds in range(3, 9):
        until = answers_until(decided_early, whole, seeds)
        expected = {one: count for one, count in whole.items() if count <= seeds}
        assert enough_of(until, seeds) == expected
        assert enough_of(decided_early, seeds) == expected


def test_what_was_decided_is_decided_in_the_report_too(decided_early):
    seen = answers_until(decided_early, enough_of(decided_early), 8)
    rows = rows_of(seen)
    assert rows.loc[32, "verdict"] == "better"
    assert rows.loc[32, "seeds"] == 3
    assert rows.loc[64, "seeds"] > 3


def test_a_stopped_contrast_stays_as_it_was_whatever_other_conditions_seeds_show(decided_early):
    """Its variance between seeds is pooled over the seeds up to its own last one."""
    enough = {FAR: 3}
    at_stop, later = (rows_of(answers_until(decided_early, enough, look)).loc[32] for look in (3, 8))
    for name in ("difference", "stderr", "dof", "ci_low", "ci_high", "p"):
        assert later[name] == at_stop[name]


def test_intervals_and_p_values_are_those_of_repeated_looks(decided_early):
    """Seen after three of eight seeds an interval has the level that is left to that look; a fixed number of seeds has 95 %."""
    three = answers_until(decided_early, {}, 3)
    looked, fixed = rows_of(three), rows_of(replace(three, planned_seeds=()))
    assert (looked["p"] >= fixed["p"]).all()
    assert looked.loc[64, "p"] == pytest.approx(min(1, 10 * fixed.loc[64, "p"]))
    widths = [(one["ci_high"] - one["ci_low"]).to_numpy() for one in (looked, fixed)]
    assert (widths[0] > 1.3 * widths[1]).all()
    assert looked.loc[64, "mde"] > 1.3 * fixed.loc[64, "mde"]
    assert (looked["stderr"] == fixed["stderr"]).all()


def test_before_the_first_look_there_is_no_interval_and_no_verdict(decided_early):
    rows = rows_of(answers_until(decided_early, {}, 2))
    assert rows[["ci_low", "ci_high", "p", "p_holm", "mde"]].isna().all(axis=None)
    assert set(rows["verdict"]) == {""}


def test_the_ranking_of_conditions_is_as_careful(decided_early):
    """Conditions that are surely worse, or equivalent to the best, are so at the level of the look."""
    few = answers_until(planned({BASE: 0.0, FAR: 0.025, NEAR: 0.03}), {}, 3)
    fixed = replace(few, planned_seeds=())
    for word, margin in ((WORSE, 0.002), (EQUIVALENT, 0.05)):
        looked, all_run = (
            {one for one, standing in rank_conditions(answers, margin).standing.items() if standing == word}
            for answers in (few, fixed)
        )
        assert looked < all_run


def test_conditions_that_are_the_same_run_need_no_seeds_to_be_told_apart():
    answers = planned({BASE: 0.0, FAR: 0.0})
    same = {cell: answers.correct[BASE, cell[1]] for cell in answers.correct}
    assert enough_of(replace(answers, correct=same, identical={FAR: BASE})) == {BASE: 3, FAR: 3}


def test_a_cell_that_failed_leaves_its_comparison_the_level_of_the_seeds_that_it_has():
    answers = planned({BASE: 0.0, FAR: 0.0}, missing={(FAR, 2)})
    row = rows_of(answers_until(answers, {}, 8)).loc[32]
    assert row["seeds"] == 7
    assert row["mde_level"] == pytest.approx(0.05 * 0.1)


def test_decisions_do_not_depend_on_what_stands_beyond_the_look(decided_early):
    random = np.random.default_rng(5)
    other = {cell: right if cell[1] <= 4 else random.permutation(right) for cell, right in decided_early.correct.items()}
    assert enough_of(replace(decided_early, correct=other), 4) == enough_of(decided_early, 4)
