"""What train.csv tells of a condition: its mix of media, its noise scale and its extra tokens' state."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from qtablate.axes import Condition
from qtablate.cell.outputs import TRAIN_COLUMNS
from qtablate.report import training
from qtablate.report.tables import training_table
from qtablate.report.tables.training import warning
from qtablate.store import Store

STEPS = 40


def run(seed=0, signal=0.5, noise=60.0, **columns):
    """A run whose windows tell signal and noise with much scatter of their own."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(dict.fromkeys(TRAIN_COLUMNS, [math.nan] * STEPS))
    rows = {
        "loss": 1.0,
        "image_ratio": 0.25,
        "extra_update": 0.01,
        "query_update": 0.01,
        "extra_cosine": 0.1,
        "extra_rank": 5.0,
        "grad_signal": signal * (1 + random.standard_normal(STEPS)),
        "grad_noise": noise * (1 + 0.3 * random.standard_normal(STEPS)),
    }
    return table.assign(**{**rows, **columns})


def test_noise_scale_is_a_ratio_of_means():
    """Not a mean of ratios, which windows without a signal would blow up."""
    found = training.noise_scale([run(n) for n in range(200)])
    assert found["noise_scale"] == pytest.approx(120, rel=0.05)
    assert found["noise_blocks"] == 200 * training.BLOCKS


def test_interval_of_the_noise_scale_covers():
    inside = 0
    for number in range(200):
        found = training.noise_scale([run(1000 + 3 * number + n) for n in range(3)])
        inside += found["noise_scale_ci_low"] <= 120 <= found["noise_scale_ci_high"]
    assert 180 <= inside <= 199  # of 200; 95 % is 190, and never all


def test_noise_scale_is_missing_without_measurement_or_signal():
    for runs in ([run(grad_signal=math.nan, grad_noise=math.nan)], [run(signal=-0.5)], []):
        assert training.noise_scale(runs)["noise_scale"] is None


@pytest.mark.parametrize(
    ("extra", "base", "cosine", "said"),
    [(0.01, 0.01, 0.1, ""), (0.0005, 0.01, 0.1, "frozen"), (0.01, 0.01, 0.97, "copies"), (None, 0.01, None, "")],
)
def test_states_of_extra_tokens(extra, base, cosine, said):
    assert training.trained_state(extra, base, cosine) == said


def test_a_condition_is_the_mean_of_its_seeds_with_its_batch_against_the_critical_one(tmp_path):
    store, rows = Store(tmp_path), []
    shared = {
        "incorrect": "",
        "peak_learning_rate": 4e-3,
        "samples_seen": 960,
        "steps": 30,
        "supervised_tokens": 9000,
        "skipped_windows": 1,
        "overflows": 0,
        "status": "ok",
    }
    mixes = {"mixed": [0.25] * STEPS, "random": [0.0, 1.0, 0.0, 0.0] * (STEPS // 4)}
    for micro, mixing, cosine in ((8, "mixed", 0.1), (2000, "mixed", 0.1), (8, "random", 0.99)):
        for seed in (1, 2):
            key = f"{micro}-{mixing}-{seed}"
            condition = asdict(Condition(4, 4, micro, mixing, "normal"))
            rows.append({"key": key, "seed": seed, "effective_batch_size": 4 * micro, **condition, **shared})
            table = run(seed, image_ratio=mixes[mixing], extra_cosine=cosine)
            store.write_rows(store.cell_file(key, "train.csv"), table.to_dict("records"), TRAIN_COLUMNS)
    found = training.training_frame(store, pd.DataFrame(rows))
    assert found["seeds"].tolist() == [2, 2, 2]
    assert found["vs_critical_batch"].tolist() == [
        "below",
        "above",
        "",
    ]  # micro-batches of one medium scatter more than samples
    assert found["image_ratio"].tolist() == [0.25, 0.25, 0.25]
    assert found["image_ratio_sd"].tolist() == [0, 0, pytest.approx(math.sqrt(0.25 * 0.75))]
    assert found["extra_state"].tolist() == ["", "", "copies"]
    table = training_table(found)
    assert "They started apart and became alike" in table.note  # from a start that is apart
    assert table.note.count("Warning") == 1
    assert "made no step: they had no supervised token" in table.note
    named = dict(zip(table.columns, table.rows[2], strict=True))
    assert (named["samples"], named["steps"], named["supervised tokens"], named["batch"]) == ("960", "30", "9,000", "32")
    assert named["images %"] == "25.0 sd 43.3"


@pytest.mark.parametrize(
    ("state", "init", "rate", "said"),
    [
        ("copies", "zeros", 1.0, "Use --extra-init normal."),
        ("copies", "normal", 1.0, "fewer tokens may be enough"),
        ("frozen", "zeros", 1.0, "--extra-init normal or a larger --warmup-ratio"),
        ("frozen", "normal", 1.0, "a larger --extra-lr"),
        ("frozen", "zeros", 0.01, "Use --extra-lr 1."),
    ],
)
def test_remedy_depends_on_initial_values_and_learning_rate(state, init, rate, said):
    assert said in warning({"extra_state": state, "extra_init": init, "extra_lr": rate})


def test_no_finished_cell_has_no_table(tmp_path):
    empty = training.training_frame(
        Store(tmp_path), pd.DataFrame([{"key": "a", "status": "failed", **asdict(Condition(0, 1, 8, "mixed", "none"))}])
    )
    assert training_table(empty) is None
