"""What a planned grid detects: it agrees with what the report says afterwards, and more seeds and items detect less."""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from answer_grids import AXES, GRID, condition, flat_answers, with_rule
from rich.console import Console
from settings import config

from qtablate.report.answers import Answers
from qtablate.report.contrasts import baselines, contrasts
from qtablate.report.effects import contrast_frame
from qtablate.report.results import MARGIN
from qtablate.sweep import detectable_table as tables
from qtablate.sweep.detectable import Size, detectable, planned_answers, primary_comparisons, variance_range
from qtablate.sweep.detectable_table import detectable_table
from qtablate.sweep.deviations import Deviations, deviations_of, given_deviations, reference_deviations
from qtablate.sweep.plan import SweepPlan, make_plan

KNOWN = Deviations(seed=3.5e-4, clip=0.02, interaction=0.19, dof=10, source="an earlier sweep")
PLANNED = Size(3, 2000, 1176)


def simulated(seeds: int, items: int, number: int) -> Answers:
    """Answers of six conditions without effects; the accuracy of each varies by about 2 points from seed to seed.

    Two items share a clip, and a clip is harder or easier for a condition whatever the seed.
    """
    random = np.random.default_rng(number)
    clips = np.arange(items) // 2
    clip = random.normal(size=items // 2)[clips]
    correct = {}
    for one in GRID:
        own = 0.15 * random.normal(size=items // 2)[clips]
        for seed in range(seeds):
            latent = clip + own + 0.06 * random.normal() + 0.5 * random.normal(size=items)
            correct[one, seed] = (latent > 0).astype(float)
    return Answers(AXES, correct, clips, np.array(["a"] * items), np.arange(items).astype(str))


def primary_effects(answers: Answers) -> pd.DataFrame:
    """The report's primary contrasts, all of which it leaves undecided."""
    frame = contrast_frame(answers, contrasts(answers, baselines(answers, {})), 1e-6, per_task=False)
    return frame[frame["primary"]]


def test_a_plan_agrees_with_the_report_of_a_sweep_of_that_design():
    """The earlier sweep has other numbers of seeds, items and clips."""
    deviations = deviations_of(simulated(12, 2000, 0), "an earlier sweep")
    assert deviations
    seeds, items = 6, 1000
    frames = [primary_effects(simulated(seeds, items, number)) for number in range(1, 9)]
    comparisons = primary_comparisons(
        replace(simulated(1, items, 1), correct=dict.fromkeys(((c, 0) for c in GRID), np.zeros(0)))
    )
    found = detectable(comparisons, deviations, Size(seeds, items, items // 2), MARGIN)
    for one, plan in zip(comparisons, found, strict=True):
        levels = [contrast.level for contrast in one.contrasts]
        rows = pd.concat(frame[(frame["axis"] == one.contrasts[0].axis) & frame["level"].isin(levels)] for frame in frames)
        undecided = rows[np.isclose(rows["mde_level"], one.level)]
        assert len(undecided) > 5
        assert plan.effect == pytest.approx(undecided["mde"].median(), rel=0.1)


def test_the_contrasts_and_levels_are_those_of_the_report():
    answers = simulated(3, 200, 1)
    listed = contrasts(answers, baselines(answers, {}))
    frame = contrast_frame(answers, listed, 1e-6, per_task=False)
    comparisons = primary_comparisons(answers)
    mine = {(contrast.axis, contrast.level, contrast.kind) for one in comparisons for contrast in one.contrasts}
    primary = frame[frame["primary"]]
    assert mine == set(zip(primary["axis"], primary["level"], primary["kind"], strict=True))
    assert [one.level for one in comparisons] == pytest.approx([0.05 / 3] * 2)
    assert [one.squares for one in comparisons] == pytest.approx([2 / 2, 2 / 3])
    assert {one.dof_per_seed for one in comparisons} == {5}


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_more_seeds_and_more_items_detect_smaller_differences(seeds):
    comparisons = primary_comparisons(flat_answers(GRID))

    def effects(size, known=KNOWN):
        return [one.effect for one in detectable(comparisons, known, size, MARGIN)]

    few = effects(Size(seeds, 2000, 1000))
    assert all(more < less for more, less in zip(effects(Size(seeds + 1, 2000, 1000)), few, strict=True))
    assert all(more < less for more, less in zip(effects(Size(seeds, 4000, 2000)), few, strict=True))
    assert all(more > less for more, less in zip(effects(Size(seeds, 2000, 1000), given_deviations(0.05)), few, strict=True))


def test_the_seeds_and_items_that_are_named_detect_the_margin_and_fewer_do_not():
    comparisons = primary_comparisons(flat_answers(GRID))
    for size in (Size(3, 2000, 1176), Size(8, 2000, 1176)):
        for number, found in enumerate(detectable(comparisons, KNOWN, size, MARGIN)):

            def effect(seeds, items, number=number, size=size):
                changed = Size(seeds, items, round(size.clips * items / size.items))
                return detectable(comparisons, KNOWN, changed, MARGIN)[number].effect

            assert effect(found.seeds, size.items) <= MARGIN < effect(found.seeds - 1, size.items)
            assert found.seeds_low <= found.seeds <= found.seeds_high
            assert found.effect_low < found.effect < found.effect_high
            if found.items:
                assert (
                    effect(size.seeds, math.ceil(1.02 * found.items)) <= MARGIN < effect(size.seeds, round(0.95 * found.items))
                )
            else:
                assert effect(size.seeds, 64 * size.items) > MARGIN


def test_a_single_seed_detects_by_its_items_alone():
    comparisons = primary_comparisons(flat_answers(GRID))
    one = detectable(comparisons, KNOWN, replace(PLANNED, seeds=1), MARGIN)
    without = detectable(comparisons, replace(KNOWN, seed=9.0), replace(PLANNED, seeds=1), MARGIN)
    assert [each.effect for each in one] == [each.effect for each in without]  # the seeds' part has no say
    assert [each.items for each in one] == [None] * 2
    assert [each.seeds for each in one] == [each.seeds for each in detectable(comparisons, KNOWN, PLANNED, MARGIN)]


def test_splits_of_one_batch_are_no_comparison_and_vary_together():
    split = [condition(tokens, accum, batch=8 // accum) for tokens in (0, 32) for accum in (1, 2)]
    [tokens] = primary_comparisons(flat_answers(split))
    assert {contrast.axis for contrast in tokens.contrasts} == {"extra_num_query_tokens"}
    assert (tokens.squares, tokens.level, tokens.dof_per_seed) == (pytest.approx(2), 0.05, 1)


def test_incorrect_levels_are_pooled_with_all_conditions():
    rules = primary_comparisons(flat_answers([with_rule(4), with_rule(4, "micro_mean"), with_rule(4, "none")]))
    assert [(one.squares, one.dof_per_seed) for one in rules] == [(2, 2)]


def test_the_range_is_that_of_the_variance_between_seeds():
    low, high = variance_range(10)
    assert 0.6 < low < 1 < high < 2.2
    scaled = KNOWN.scaled(2, 500)
    assert scaled.between_seeds(500) == pytest.approx(2 * KNOWN.between_seeds(500))
    assert all(map(math.isnan, variance_range(math.nan)))


def planned(tmp_path, **changes) -> SweepPlan:
    small = {
        "tokens": (0, 32, 64),
        "accum": (1, 4),
        "seeds": (1, 2, 3),
        "samples": 64,
        "image_ratio": None,
        "out": tmp_path / "r",
    }
    return make_plan(config(**(small | changes)), tmp_path / "features")


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> SweepPlan:
    """2000 items, as by default."""
    return planned(tmp_path_factory.mktemp("plan"))


def test_the_planned_conditions_are_those_of_the_grid(tmp_path):
    answers = planned_answers(planned(tmp_path, items_per_task=1))
    assert set(answers.conditions) == set(GRID)
    assert answers.reference_batch == 8


def text_of(plan, deviations, margin=MARGIN):
    table = detectable_table(plan, deviations, margin)
    return table if isinstance(table, str) else "\n".join([*map(" | ".join, (table.columns, *table.rows)), table.note])


def test_the_table_says_what_is_detected_and_what_would_detect_the_margin(plan):
    assert text_of(plan, replace(KNOWN, seed=2e-5)).splitlines() == [
        "comparison | at | detects points | seeds for 2 | items for 2",
        "extra tokens 32, 64 - 0 | mean of accum 1+4 | 3.7 (3.3 to 5.7) | 5 (5 to 7) | 21654 (1083 per task)",
        "accum 4 - 1 | mean of extra tokens 0+32+64 | 2.9 (2.6 to 4.5) | 4 (4 to 6) | 6294 (315 per task)",
        "Detects: the smallest true difference, in points, that 80 % of all repetitions of this grid would find, with 3 seeds, "
        "2000 items of 1176 clips and 6 conditions, tested at level 0.017 (0.05 / 3 primary contrasts: Holm's adjustment while "
        "none is decided). What would detect a difference of 2 (--margin): seeds at the planned items; items, "
        "--items-per-task, at the planned seeds. In brackets: range of 80 % confidence, since the deviations "
        "are known only roughly. Deviations: 0.8 points between seeds of one condition at these items, measured in "
        "an earlier sweep.",
    ]
    never = text_of(plan, replace(KNOWN, seed=0.01, dof=100), 0.001)
    assert "not with up to 100" in never
    assert "not with up to 128000" in never
    assert "range" not in text_of(plan, given_deviations(0.015))


def test_one_seed_is_told_to_be_of_the_items_only(tmp_path):
    text = text_of(planned(tmp_path, seeds=(1,), items_per_task=1), KNOWN)
    assert text.splitlines()[0] == "comparison | at | detects points | seeds for 2"
    assert "ONE SEED: a single seed cannot tell an effect from the difference that another seed makes." in text
    assert "items for" not in text


def test_nothing_to_compare_and_nothing_known_are_said(tmp_path):
    assert "nothing, it compares no two runs" in text_of(planned(tmp_path, tokens=(0,), accum=(1,), items_per_task=1), KNOWN)
    text = text_of(planned(tmp_path, items_per_task=1), None)
    assert "is not known" in text
    assert "(--deviations DIR)" in text
    assert "(--seed-sd POINTS)" in text


def test_a_benchmark_that_has_no_more_items_says_how_many(plan, monkeypatch):
    monkeypatch.setattr(tables, "is_world", lambda _: False)
    assert "21654 (has 2000)" in text_of(plan, replace(KNOWN, seed=2e-5))
    larger = replace(plan, contents=replace(plan.contents, entries=90000))
    assert "| 21654\n" in text_of(larger, replace(KNOWN, seed=2e-5))


def test_the_table_fits_narrow_and_wide_terminals(plan):
    table = detectable_table(plan, reference_deviations(), MARGIN)
    for width in (80, 140):
        screen = Console(width=width, record=True, highlight=False)
        screen.print(table.rich(width))
        lines = screen.export_text().splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)


def test_every_figure_of_the_reference_is_finite():
    reference = dataclasses.asdict(reference_deviations())
    assert all(value > 0 for value in reference.values() if not isinstance(value, str))


def test_seeds_that_are_added_until_all_is_decided_detect_what_half_of_the_level_does(plan):
    grid = plan.config.grid.model_copy(update={"seeds": tuple(range(1, 9))})
    all_run, until_decided = (
        replace(plan, config=plan.config.model_copy(update={"grid": grid, "run": plan.config.run.model_copy(update=update)}))
        for update in ({}, {"until_decided": True})
    )
    of_last, fixed = (detectable_table(one, reference_deviations(), MARGIN) for one in (until_decided, all_run))
    for row, other in zip(of_last.rows, fixed.rows, strict=True):
        assert float(row[2].split()[0]) > float(other[2].split()[0])
    assert "of which the last look has half" in of_last.note
    assert "last look" not in fixed.note
