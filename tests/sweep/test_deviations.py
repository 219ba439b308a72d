"""What is known of differences between seeds and items: measured from a folder, given by hand, of the reference, or nothing."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from answer_grids import AXES, GRID, answers_of, condition, with_rule
from settings import config

from qtablate import run_sweep
from qtablate.errors import StoreError
from qtablate.report.answers import Answers
from qtablate.statistics.estimate import pooled_seed_variance
from qtablate.store import Store
from qtablate.sweep.deviations import (
    deviations_of,
    given_deviations,
    known_deviations,
    measured_deviations,
    reference_deviations,
)
from qtablate.sweep.plan import SweepPlan, make_plan

ROOT = Path(__file__).parents[2]


def test_the_components_of_known_answers_are_found():
    """Every condition and seed shifts a linear measure; clips and single answers have their own noise."""
    random = np.random.default_rng(1)
    clips, seeds, of_seed, of_clip, rest = 500, 40, 0.02, 0.2, 0.4
    numbers = np.repeat(np.arange(clips), 2)
    correct = {}
    for one in GRID:
        own = of_clip * random.normal(size=clips)[numbers]
        for seed in range(seeds):
            correct[one, seed] = own + of_seed * random.normal() + rest * random.normal(size=2 * clips)
    answers = Answers(AXES, correct, numbers, np.array(["a"] * 2 * clips), np.arange(2 * clips).astype(str))
    found = deviations_of(answers, "simulated")
    assert found
    assert found.seed == pytest.approx(2 * of_seed**2, rel=0.2)
    assert found.clip == pytest.approx(2 * 2 * of_clip**2, rel=0.1)  # two items of a clip share it
    assert found.interaction == pytest.approx(2 * rest**2, rel=0.05)
    assert found.dof == (len(GRID) - 1) * (seeds - 1)
    assert found.between_seeds(2 * clips) == pytest.approx(2 * of_seed**2 + 2 * rest**2 / (2 * clips), rel=0.2)


@pytest.mark.parametrize(
    "answers",
    [
        answers_of(GRID, seeds=(1,)),
        answers_of({condition(0): 0.0}),
        answers_of(
            {condition(0): 0.0, condition(32): 0.1}, missing={(condition(0), 1), (condition(32), 2), (condition(32), 3)}
        ),
        Answers(AXES, {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_)),
    ],
    ids=["one seed", "one condition", "no common seeds", "nothing"],
)
def test_answers_that_say_nothing_about_seeds(answers):
    assert deviations_of(answers, "") is None


def test_incorrect_conditions_count_only_where_there_are_no_others():
    rules = [with_rule(4), with_rule(4, "micro_mean"), with_rule(4, "none")]
    alone = deviations_of(answers_of(dict.fromkeys(rules, 0.0)), "")
    assert alone
    assert alone.dof == 2 * 2
    beside = deviations_of(answers_of(dict.fromkeys([*rules, with_rule(1)], 0.0)), "")
    assert beside
    assert beside.dof == 1 * 2


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> SweepPlan:
    """A finished sweep of two conditions and two seeds."""
    folder = tmp_path_factory.mktemp("deviations")
    settings = config(tokens=(0, 4), seeds=(1, 2), samples=48, image_ratio=None, items_per_task=2, out=folder / "r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QTABLATE_CACHE", str(folder / "cache"))
        run_sweep(settings)
        return make_plan(settings)


def test_a_sweep_is_measured_and_named(swept):
    found = known_deviations(swept, swept.store.root, None)
    assert found
    assert found == measured_deviations(swept.store)
    assert found.dof == 1
    assert found.source == f"{swept.store.root} (2 conditions, 2 seeds, 40 items, 48 samples per cell)"


def test_a_finished_sweep_in_the_same_folder_comes_before_the_reference(swept, tmp_path):
    assert known_deviations(swept, None, None) == measured_deviations(swept.store)
    elsewhere = replace(swept, store=Store(tmp_path / "nothing"))
    assert known_deviations(elsewhere, None, None) == reference_deviations()
    shutil.copytree(swept.store.root, tmp_path / "r")
    (tmp_path / "r" / "cells.csv").unlink()
    (tmp_path / "r" / "cells" / swept.cells[0].key / "record.json").unlink()
    assert known_deviations(replace(swept, store=Store(tmp_path / "r")), None, None) == reference_deviations()  # not finished


def test_nothing_is_known_of_another_model(swept, tmp_path):
    data = swept.config.data.model_copy(update={"model": "mine"})
    other = replace(swept, config=swept.config.model_copy(update={"data": data}), store=Store(tmp_path / "nothing"))
    assert known_deviations(other, None, None) is None
    data = swept.config.data.model_copy(update={"bench": "mvbench:x"})
    other = replace(swept, config=swept.config.model_copy(update={"data": data}))
    assert known_deviations(other, None, None) is None  # the folder's sweep has another benchmark
    assert known_deviations(other, None, 0.01) == given_deviations(0.01)


def test_a_folder_that_is_no_sweep_or_says_nothing_is_refused(swept, tmp_path):
    with pytest.raises(
        StoreError, match=r"^--deviations: .* holds no sweep.json: name a folder that `qtablate sweep --out` wrote"
    ):
        known_deviations(swept, tmp_path, None)
    shutil.copytree(swept.store.root, tmp_path / "r")
    (tmp_path / "r" / "cells.csv").unlink()
    for cell in swept.cells:
        if cell.seed == 2:
            shutil.rmtree(tmp_path / "r" / "cells" / cell.key)
    with pytest.raises(
        StoreError, match=r"^--deviations: .* says nothing about differences between seeds: expected two conditions"
    ):
        known_deviations(swept, tmp_path / "r", None)


def test_a_standard_deviation_by_hand_is_that_of_one_condition():
    found = given_deviations(0.012)
    assert found.seed == pytest.approx(2 * 0.012**2)
    assert math.isnan(found.dof)
    assert (found.clip, found.interaction) == (reference_deviations().clip, reference_deviations().interaction)
    assert found.source.startswith("--seed-sd 1.2 points")
    assert 0.2 < found.clip + found.interaction < 0.3  # the quarter of the items that the page on statistics names


def test_the_reference_is_that_of_the_committed_tables():
    """Of the variance between seeds, which their accuracies tell."""
    cells = pd.read_csv(ROOT / "results" / "reference" / "nano-world" / "cells.csv")
    accuracies = cells.pivot(index=["extra_num_query_tokens", "accumulate_grad_batches"], columns="seed", values="accuracy")
    pooled = pooled_seed_variance(accuracies.to_numpy())
    reference = reference_deviations()
    assert pooled
    assert math.sqrt(reference.between_seeds(2000) / 2) == pytest.approx(math.sqrt(pooled.variance), rel=0.1)
    assert reference.dof == pooled.dof
    items, samples = (int(cells[name].iloc[0]) for name in ("n_items", "samples_seen"))
    size = f"{len(accuracies)} conditions, {cells['seed'].nunique()} seeds, {items} items, {samples} samples"
    assert size in reference.source


def test_the_reference_is_written_by_the_command(swept, monkeypatch, capsys):
    from qtablate.sweep import deviations

    monkeypatch.setattr("sys.argv", ["deviations", str(swept.store.root)])
    deviations._main()
    written = json.loads(capsys.readouterr().out)
    assert written["seed"] == pytest.approx(measured_deviations(swept.store).seed, rel=1e-3)
    assert (
        written["source"] == "the reference sweep of nano on the world (2 conditions, 2 seeds, 40 items, 48 samples per cell)"
    )
