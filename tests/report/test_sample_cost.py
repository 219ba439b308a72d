"""What a larger batch costs in samples: the theory by hand, and measured on courses of loss with a known cost."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from qtablate.axes import Condition, canonical_levels
from qtablate.report.sample_cost import add_sample_costs, measured_cost, predicted_cost

SCALE = ("noise_scale", "noise_scale_ci_low", "noise_scale_ci_high")


def course(batch=8, samples=4800, slower=1.0, scatter=0.0, seed=0, floor=0.0):
    """The steps of a run whose loss falls with the samples seen, after `slower` times as many as another's."""
    seen = np.arange(batch, samples + 1, batch)
    loss = 0.4 + floor + 1.2 * np.exp(-seen / slower / 1500)
    random = np.random.default_rng(seed)
    tokens = random.integers(5 * batch, 25 * batch, len(seen))
    return pd.DataFrame(
        {
            "samples_seen": seen,
            "supervised_tokens": tokens,
            "loss": loss + scatter * random.standard_normal(len(seen)) / np.sqrt(tokens),
        }
    )


def test_prediction_is_the_theory_by_hand():
    """(1 + 32 / 132) / (1 + 8 / 132) = 164 / 140."""
    found = predicted_cost(32, 8, dict(zip(SCALE, (132, 100, 200), strict=True)))
    assert list(found.values()) == pytest.approx([164 / 140, 232 / 208, 132 / 108])


def test_prediction_of_an_unknown_scale_is_a_range_or_nothing():
    found = predicted_cost(32, 8, dict(zip(SCALE, (None, 100, math.nan), strict=True)))
    assert list(found.values()) == [None, 1, pytest.approx(132 / 108)]
    assert predicted_cost(32, 8, dict(zip(SCALE, (None, 0, None), strict=True)))["sample_cost_predicted_ci_high"] == 4
    assert predicted_cost(32, 8, dict.fromkeys(SCALE)) == {}


@pytest.mark.parametrize("cost", [1.2, 1.5, 2.0])
def test_measured_cost_is_that_of_the_courses(cost):
    larger = {seed: course(32, slower=cost, scatter=0.5, seed=seed) for seed in range(5)}
    smaller = {seed: course(scatter=0.5, seed=100 + seed) for seed in range(5)}
    found = measured_cost(larger, smaller)
    assert found["sample_cost_measured"] == pytest.approx(cost, rel=0.06)
    assert found["sample_cost_measured_ci_low"] < found["sample_cost_measured"] < found["sample_cost_measured_ci_high"]
    assert found["sample_cost_measured_ci_high"] < 1.3 * found["sample_cost_measured_ci_low"]
    assert found["sample_cost_seeds"] == 5
    turned = measured_cost(smaller, larger)
    assert turned["sample_cost_measured"] == pytest.approx(1 / found["sample_cost_measured"])


def test_measured_cost_of_equal_courses_is_one():
    assert measured_cost({1: course()}, {1: course()})["sample_cost_measured"] == 1


def test_a_loss_before_the_learning_rate_has_decayed_makes_a_lower_bound():
    """The smaller batch is higher by some until its last tenth."""
    annealed = course()
    annealed["loss"] += np.where(annealed["samples_seen"] < 4320, 0.02, 0)
    found = measured_cost({1: course(32, slower=1.5)}, {1: annealed})
    assert 1 < found["sample_cost_measured"] < 1.5


def test_one_seed_has_no_interval_and_other_seeds_do_not_count():
    found = measured_cost({1: course(32, slower=1.5), 2: course(32)}, {1: course(), 3: course()})
    assert found["sample_cost_seeds"] == 1
    assert "sample_cost_measured_ci_low" not in found


def test_losses_of_windows_without_tokens_do_not_count_and_others_must_be_finite():
    run = course()
    run.loc[5, ["supervised_tokens", "loss"]] = 0, math.nan
    assert measured_cost({1: course(32)}, {1: run})["sample_cost_seeds"] == 1
    run.loc[6, "loss"] = math.nan
    assert measured_cost({1: course(32)}, {1: run}) == {"sample_cost_seeds": 0, "sample_cost_measured": None}


def test_too_few_steps_to_average_a_loss_measure_nothing():
    assert measured_cost({1: course(2400)}, {1: course()})["sample_cost_measured"] is None


def test_a_row_is_compared_with_the_smallest_batch_at_equal_levels():
    conditions = {
        "small": Condition(32, 1, 8, "mixed", "normal"),
        "large": Condition(32, 4, 8, "mixed", "normal"),
        "scaled": Condition(32, 4, 8, "mixed", "normal", lr_scaling="sqrt", adam_beta2="scaled"),
        "larger": Condition(32, 4, 32, "mixed", "normal"),
        "other": Condition(0, 4, 8, "mixed", "none"),
        "incorrect": Condition(32, 4, 8, "mixed", "normal", loss_norm="none"),
    }
    rows = [
        {
            **canonical_levels(asdict(one), 8),
            "effective_batch_size": one.effective_batch_size,
            "incorrect": "loss_norm=none" if name == "incorrect" else "",
            **dict.fromkeys(SCALE, 132),
        }
        for name, one in conditions.items()
    ]
    runs = [{1: course(row["effective_batch_size"], slower=1.5 if row["effective_batch_size"] > 8 else 1)} for row in rows]
    add_sample_costs(rows, runs, 8)
    found = {name: row["smaller_batch"] for name, row in zip(conditions, rows, strict=True)}
    assert found == {"small": None, "large": 8, "scaled": 8, "larger": 8, "other": None, "incorrect": None}
    assert rows[1]["sample_cost_predicted"] == pytest.approx(164 / 140)
    assert rows[1]["sample_cost_measured"] == pytest.approx(1.5, rel=0.05)
