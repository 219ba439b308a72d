"""The ranking of conditions against the best, and what a report recommends and warns of."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from answer_grids import GRID, answers_of, condition, contrasts_of
from settings import sweep_file

from qtablate.report import cautions
from qtablate.report.headline import headline
from qtablate.report.identical_runs import identical_runs
from qtablate.report.recommendation import HIGHEST, rank_conditions
from qtablate.report.verdicts import EQUIVALENT, NOT_COMPARABLE, UNDECIDED, WORSE


def test_conditions_are_ranked_against_the_highest():
    answers = answers_of({condition(0): -0.2, condition(32): 0.1, condition(64): 0.098}, items=4000)
    ranking = rank_conditions(answers, 0.03)
    standing = {key[0]: word for key, word in ranking.standing.items()}
    assert standing[0] == WORSE
    assert {standing[32], standing[64]} == {HIGHEST, EQUIVALENT}
    assert ranking.comparisons[condition(0)].level == pytest.approx(0.025)
    assert ranking.comparisons[condition(0)].estimate.value > 0.2


def test_the_true_best_is_not_surely_worse():
    """In 95 % of grids: also where the highest accuracy is another's by chance."""
    random, lost = np.random.default_rng(3), 0
    for _ in range(150):
        base = answers_of(dict.fromkeys(GRID, 0.0), items=20)
        correct = {
            (key, seed): (random.uniform(size=20) < 0.5 + random.normal(0, 0.05)).astype(float) for key, seed in base.correct
        }
        ranking = rank_conditions(replace(base, correct=correct), 0.02)
        lost += ranking.standing[condition(0)] == WORSE  # all are the best
    assert lost / 150 <= 0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5


def test_identical_conditions_stand_alike_and_are_compared_once():
    one, two, three = condition(0), condition(32), condition(64)
    answers = answers_of({one: -0.3, two: 0.1, three: 0.1}, items=1000)
    copies = {(three, seed): answers.correct[two, seed] for seed in (1, 2, 3)}
    ranking = rank_conditions(replace(answers, correct={**answers.correct, **copies}, identical={three: two}), 0.02)
    assert ranking.standing == {one: WORSE, two: HIGHEST, three: HIGHEST}
    assert list(ranking.comparisons) == [one]


def test_conditions_of_other_budgets_are_not_ranked():
    one, two = condition(0), condition(32)
    ranking = rank_conditions(replace(answers_of({one: 0.0, two: 0.3}), budgets={one: 600, two: 500}), 0.02)
    assert ranking.standing == {one: NOT_COMPARABLE, two: HIGHEST}
    assert rank_conditions(replace(answers_of({}), correct={}), 0.02) is None


def test_a_condition_that_is_a_little_lower_by_chance_is_undecided():
    ranking = rank_conditions(answers_of({condition(0): 0.0, condition(32): 0.001}), 0.005)
    assert set(ranking.standing.values()) == {HIGHEST, UNDECIDED}


def test_runs_are_identical_by_losses_and_answers_at_every_common_seed():
    losses, right = np.array([2.0, 1.0, 0.5]), np.ones(400)
    other = right.copy()
    other[:3] = 0
    runs = {("a", 1): (losses, right), ("b", 1): (losses * (1 + 1e-6), other), ("c", 1): (losses * 1.01, right)}
    assert identical_runs(runs) == {"b": "a"}
    lost = np.array([np.nan, np.nan, np.nan])
    assert identical_runs({("a", 1): (losses, right), ("b", 1): (lost, right)}) == {}
    assert identical_runs({**runs, ("a", 2): (losses, right), ("b", 2): (losses * 1.1, right)}) == {}
    assert identical_runs({("a", 1): (losses, right), ("b", 1): (losses[:2], right)}) == {}  # fewer steps
    assert identical_runs({("a", 1): (losses, right), ("b", 1): (losses, 1 - right)}) == {}  # other answers
    assert identical_runs({("a", 1): (losses, right), ("b", 2): (losses, right)}) == {}  # no common seed


def frames(accuracies, sizes=None, **changes):
    """Cells, summary and contrasts of conditions whose seeds have these accuracies."""
    answers = answers_of({condition(tokens): 0.0 for tokens in accuracies})
    if sizes is not None:
        answers = replace(answers, clips=np.repeat(np.arange(len(sizes)), sizes))
    _, contrasts = contrasts_of(answers)
    cells = pd.DataFrame(
        [
            {"extra_num_query_tokens": tokens, "incorrect": "", "status": "ok", "seed": seed, "accuracy": accuracy}
            | {"micro_batch_parts": 1}
            for tokens, of_seeds in accuracies.items()
            for seed, accuracy in enumerate(of_seeds)
        ]
    )
    summary = pd.DataFrame(
        [
            {
                "extra_num_query_tokens": tokens,
                "accumulate_grad_batches": 1,
                "incorrect": "",
                "seeds_done": len(of_seeds),
                "accuracy": float(np.mean(of_seeds)),
                "accuracy_item_stderr": 0.01,
                "chance": 0.25,
                "visual_gain": 0.2,
                "visual_gain_item_stderr": 0.01,
                "n_clusters": 100,
                "effective_batch_size": 8,
                "peak_learning_rate": 1e-3,
            }
            | changes
            for tokens, of_seeds in accuracies.items()
        ]
    )
    return cells, summary, contrasts


def warned(*given, **changes):
    return " ".join(cautions.cautions(*frames(*given, **changes)))


def test_unequal_seeds_are_warned_of_and_equal_ones_are_not():
    assert "seed sd 0.1 to 5.0 points" in warned({0: [0.5, 0.501, 0.502], 32: [0.5, 0.55, 0.6]})
    assert "seeds vary" not in warned({0: [0.5, 0.51, 0.52], 32: [0.5, 0.512, 0.52]})


def test_few_clips_with_many_items_are_warned_of():
    even, few = {0: [0.5, 0.51, 0.52], 32: [0.5, 0.51, 0.52]}, [25, 25, 25, 25, *[1] * 100]
    assert "200 items of 104 clips tell as much of other clips as " in warned(even, few)
    assert "few clips hold" not in warned(even)


def test_conditions_at_chance_are_named():
    cells, summary, contrasts = frames({0: [0.25, 0.25, 0.25], 32: [0.5, 0.5, 0.5]})
    said = " ".join(cautions.cautions(cells, summary, contrasts))
    assert "1 of 2 conditions are not above chance and their blind control: extra tokens 0, accum 1." in said


def test_two_seeds_unfinished_cells_and_one_learning_rate_are_named():
    cells, summary, contrasts = frames({0: [0.5, 0.51], 32: [0.5, 0.52]})
    summary["effective_batch_size"] = [8, 32]
    cells["error"] = ["OutOfMemoryError: 80 GiB\nmore", "", "", ""]
    cells.loc[0, "status"] = "pending"
    assert cautions.cautions(cells, summary, contrasts)[0] == "1 of 4 cells have not finished."
    cells.loc[0, "status"] = "failed"
    said = cautions.cautions(cells, summary, contrasts)
    named = "1 of 4 cells have not finished; 1 failed: 1 with 'OutOfMemoryError: 80 GiB' (section conditions)."
    assert said[0] == named
    assert any(line.startswith("two seeds say little") for line in said)
    assert any(line.startswith("one learning rate (0.001) for effective batches of 8 and 32: ") for line in said)


def test_cells_that_trained_in_parts_are_counted():
    cells, *others = frames({0: [0.5, 0.51, 0.52], 32: [0.5, 0.51, 0.52]})
    assert "parts" not in " ".join(cautions.cautions(cells, *others))
    cells.loc[:1, "micro_batch_parts"] = 2
    said = cautions.cautions(cells, *others)
    same = "after running out of memory: the same gradients to rounding."
    assert f"2 cells ran with micro-batches computed in 2 parts {same}" in said
    cells.loc[5, "micro_batch_parts"] = 4
    assert f"3 cells ran with micro-batches computed in 2 or 4 parts {same}" in cautions.cautions(cells, *others)
    cells["micro_batch_parts"] = float("nan")  # of tables that were written before there was such a column
    assert "parts" not in " ".join(cautions.cautions(cells, *others))


def test_a_confirmed_condition_is_recommended_first():
    """Fresh seeds decide what the grid's left open; one fresh seed does not."""
    cells, summary, contrasts = frames({0: [0.5, 0.51, 0.52], 32: [0.5, 0.52, 0.53]}, n_items=200)
    costs = pd.DataFrame(
        [
            {"extra_num_query_tokens": tokens, "accumulate_grad_batches": 1, "incorrect": "", "accuracy": 0.5}
            | {"equivalent_to_best": word, "visual_tokens": 2 + tokens, "train_seconds": 1.0}
            for tokens, word in ((0, "undecided"), (32, "highest"))
        ]
    )
    sweep = sweep_file([])
    confirmed = pd.DataFrame(
        [
            {"role": "recommended", "extra_num_query_tokens": 32, "accumulate_grad_batches": 1, "accuracy": 0.6}
            | {"difference": 0.06, "ci_low": 0.02, "ci_high": 0.1, "seeds": 5, "uncertainty": "items and seeds"},
            {"role": "baseline", "extra_num_query_tokens": 0, "accumulate_grad_batches": 1, "accuracy": 0.54, "seeds": 5},
        ]
    )
    first = headline(sweep, cells, summary, contrasts, costs, confirmed)
    assert first.answer == (
        "Recommended: extra tokens 32, accum 1, which beats the baseline (extra tokens 0, accum 1) by 6.0 points "
        "(95 % CI 2.0 to 10.0) on 5 fresh seeds, which took no part in its choice."
    )
    assert first.details[0].startswith("The grid alone: ")
    for changes in ({"ci_low": -0.01}, {"uncertainty": "items only"}):
        said = headline(sweep, cells, summary, contrasts, costs, confirmed.assign(**changes)).answer
        assert "fresh" not in said
    assert "--confirm 3" in headline(sweep, cells, summary, contrasts, costs, confirmed[:0]).details[0]
