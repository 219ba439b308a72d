"""What train.csv tells of a condition: its mix of media, its noise scale and its extra tokens' state."""

import math
import re
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


@pytest.mark.parametrize(
    ("extra", "base", "cosine", "said"),
    [(0.01, 0.01, 0.1, ""), (0.0005, 0.01, 0.1, "frozen"), (0.01, 0.01, 0.97, "copies"), (None, 0.01, None, "")],
)
def test_states_of_extra_tokens(extra, base, cosine, said):
    assert training.trained_state(extra, base, cosine) == said


def test_a_condition_is_the_mean_of_its_seeds_with_its_noise_scale(tmp_path):
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
    for micro, mixing, cosine in ((8, "mixed", 0.1), (32, "mixed", 0.1), (8, "random", 0.99)):
        for seed in (1, 2):
            key = f"{micro}-{mixing}-{seed}"
            condition = asdict(Condition(4, 4, micro, mixing, "normal"))
            rows.append({"key": key, "seed": seed, "effective_batch_size": 4 * micro, **condition, **shared})
            seen = 4 * micro * np.arange(1, STEPS + 1)
            loss = 0.4 + np.exp(-seen / (1000 if micro == 8 else 2000))
            table = run(seed, image_ratio=mixes[mixing], extra_cosine=cosine, samples_seen=seen, supervised_tokens=9, loss=loss)
            store.write_rows(store.cell_file(key, "train.csv"), table.to_dict("records"), TRAIN_COLUMNS)
    found = training.training_frame(store, pd.DataFrame(rows), 32)
    assert found["seeds"].tolist() == [2, 2, 2]
    assert found["noise_blocks"].tolist() == [10, 10, 0]  # micro-batches of one medium scatter more than samples
    assert found["noise_scale"].tolist()[:2] == pytest.approx([120, 120], rel=0.3)
    assert found["noise_scale_q4"].notna().tolist() == [True, True, False]
    assert found["smaller_batch"].fillna(0).tolist() == [0, 32, 0]  # of another mixing: of the same batch
    scale = found["noise_scale"][1]
    assert found["sample_cost_predicted"][1] == pytest.approx((1 + 128 / scale) / (1 + 32 / scale))
    assert found["sample_cost_measured"][1] == pytest.approx(2, rel=0.05)
    assert found["sample_cost_seeds"][1] == 2
    assert found["image_ratio"].tolist() == [0.25, 0.25, 0.25]
    assert found["image_ratio_sd"].tolist() == [0, 0, pytest.approx(math.sqrt(0.25 * 0.75))]
    assert found["extra_state"].tolist() == ["", "", "copies"]
    table = training_table(found)
    assert "They started apart and became alike" in table.notes()  # from a start that is apart
    assert table.notes().count("Warning") == 1
    assert "made no step: they had no supervised token" in table.notes()
    named = dict(zip(table.columns, table.rows[1], strict=True))
    assert named["smaller batch"] == "32"
    assert re.fullmatch(r"1\.\d\d \(1\.\d\d to \d\.\d\d\)", named["predicted sample cost"])
    assert named["measured sample cost"].startswith("1.9")  # averaged over a tenth of the samples
    assert re.fullmatch(r"\d+ \(\d+ to \d+\)", named["gradient noise scale"])
    assert len(named["noise scale by quarter"].split(" / ")) == 4
    assert "a measured cost above 1 is a lower bound" in table.notes()
    named = dict(zip(table.columns, table.rows[2], strict=True))
    assert (named["gradient noise scale"], named["measured sample cost"]) == ("", "")
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
        Store(tmp_path), pd.DataFrame([{"key": "a", "status": "failed", **asdict(Condition(0, 1, 8, "mixed", "none"))}]), 8
    )
    assert training_table(empty) is None
