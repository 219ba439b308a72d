"""What a sweep is expected to take: which conditions are probed, what the others are estimated at, what the plan says of it."""

import itertools
from pathlib import Path

import pytest
from settings import config

from qtablate.axes import Condition
from qtablate.cell.jobs import Probed
from qtablate.execute.events import Event
from qtablate.grid import condition_names
from qtablate.sweep import estimate as estimates
from qtablate.sweep import forecast as forecasts
from qtablate.sweep.describe import explain_defaults, plan_table
from qtablate.sweep.estimate import estimate
from qtablate.sweep.forecast import PROBES, Load, forecast, makespan, probe_order
from qtablate.sweep.plan import SweepPlan, make_plan

ITEMS, BASE, WIDTH = 60, 2, 96


def loads_of(*conditions: Condition) -> dict[Condition, Load]:
    return {one: Load(BASE + one.extra_num_query_tokens, one.micro_batch_size, one.mixing) for one in conditions}


def grid_of(tokens, accum, batches, mixing=("mixed",), extra_lr=(1.0,)) -> list[Condition]:
    return [
        Condition(t, a, b, m, "normal" if t else "none", lr if t else 1.0)
        for t, a, b, m, lr in itertools.product(tokens, accum, batches, mixing, extra_lr)
    ]


def measured(condition: Condition) -> Probed:
    """A machine whose costs are exactly linear."""
    batch, visual = condition.micro_batch_size, BASE + condition.extra_num_query_tokens
    return Probed(
        0.02 + 0.003 * batch + 0.0005 * batch * visual,
        0.001 + 0.0002 * visual,
        300 + 2 * batch + 0.5 * batch * visual,
        1000 + WIDTH * condition.extra_num_query_tokens,
        5000,
        12.5,
    )


def expected(conditions, probed, samples=64, supervised=0, failed=()):
    names = condition_names(conditions)
    found = {one: measured(one) for one in probed}
    return forecast(
        loads_of(*conditions),
        found,
        dict.fromkeys(conditions, samples),
        supervised,
        ITEMS,
        dict.fromkeys(failed, "no memory"),
        names,
    )


def test_conditions_that_were_not_probed_are_estimated_exactly_where_costs_are_linear():
    conditions = grid_of((0, 8, 16, 32, 64), (1, 2, 4), (4, 8, 16, 32, 64), ("mixed", "random"))
    chosen = probe_order(loads_of(*conditions))
    found = expected(conditions, chosen)
    assert not all(one.measured for one in found.estimates.values())
    for condition in conditions:
        true, mine = measured(condition), found.estimates[condition]
        assert mine.step_seconds == pytest.approx(condition.accumulate_grad_batches * true.micro_seconds, rel=1e-6)
        seconds = true.micro_seconds * 64 / condition.micro_batch_size + true.item_seconds * ITEMS
        assert mine.cell_seconds == pytest.approx(seconds, rel=1e-6)
        assert mine.peak_memory_mb == pytest.approx(true.peak_memory_mb, rel=1e-6)
        assert mine.trainable_params == true.trainable_params
        assert mine.measured == (loads_of(condition)[condition] in loads_of(*chosen).values())
    assert "estimated from 6 probes: a + b x samples" in found.method()


def test_the_corners_are_probed_first_then_other_kinds_and_never_more_than_the_limit():
    conditions = grid_of((0, 8, 16, 32, 64), (1, 4), (4, 8, 16, 32, 64), ("mixed", "random"), (1.0, 10.0))
    chosen = probe_order(loads_of(*conditions))
    assert len(chosen) == PROBES
    corners = [(one.extra_num_query_tokens, one.micro_batch_size) for one in chosen[:4]]
    assert corners == [(0, 4), (64, 64), (64, 4), (0, 64)]
    assert {one.mixing for one in chosen[:4]} == {"mixed"}
    assert {one.extra_lr for one in chosen[:4]} == {1.0}
    assert "random" in {one.mixing for one in chosen[4:]}
    assert 10.0 in {one.extra_lr for one in chosen[4:]}


def test_a_small_grid_is_probed_whole_each_load_once():
    conditions = grid_of((0, 32, 64), (1, 4), (8,))
    chosen = probe_order(loads_of(*conditions))
    assert [one.extra_num_query_tokens for one in chosen] == [0, 64, 32]
    assert all(one.measured for one in expected(conditions, chosen).estimates.values())
    assert probe_order({}) == []


def test_a_strange_rate_never_stands_for_a_load_that_an_ordinary_one_has_too():
    chosen = probe_order(loads_of(*grid_of((0, 4), (1, 2), (8,), extra_lr=(1e30, 1.0))))
    assert [(one.extra_num_query_tokens, one.extra_lr) for one in chosen] == [(0, 1.0), (4, 1.0), (4, 1e30)]


def test_where_probes_do_not_determine_a_condition_it_has_the_nearest_ones_seconds_a_sample():
    conditions = grid_of((0, 64), (1,), (4, 64))
    small, large = conditions[0], conditions[3]
    found = expected(conditions, [small, large])
    near = found.estimates[conditions[1]]  # 0 tokens, batch 64: as far from either, so the first
    assert (near.measured, found.fitted, found.nearest) == (False, False, True)
    assert near.step_seconds == pytest.approx(64 / 4 * measured(small).micro_seconds)
    assert near.peak_memory_mb == measured(small).peak_memory_mb
    assert "seconds a sample, and memory, of the nearest one" in found.method()


def test_parameters_are_counted_or_follow_by_arithmetic_or_stay_empty():
    conditions = grid_of((0, 8, 16), (1,), (8,))
    none, eight, sixteen = conditions
    assert expected(conditions, [none, sixteen]).estimates[eight].trainable_params == 1000 + 8 * WIDTH
    assert expected(conditions, [none]).estimates[eight].trainable_params is None
    assert forecasts._trainable(4, {0: 10, 8: 27}) is None  # no whole width
    assert forecasts._trainable(4, {0: 10, 8: 26, 16: 99}) is None  # not a line


def test_supervised_tokens_make_samples_of_what_the_probes_saw():
    [one] = grid_of((0,), (1,), (8,))
    assert expected([one], [one], samples=None, supervised=1000).estimates[one].samples == 80


def test_failed_probes_are_named_and_their_conditions_alone_have_no_estimate():
    conditions = grid_of((0, 4), (1, 2), (8,), extra_lr=(1.0, 1e30))
    lost = next(one for one in conditions if one.extra_lr > 1)
    found = expected(conditions, [one for one in probe_order(loads_of(*conditions)) if one != lost], failed=[lost])
    assert set(conditions) - set(found.estimates) == {lost}
    [line] = found.warnings()
    assert line.startswith("The probe of tokens 4, accum 1, extra lr 1e+30 failed: no memory. Its cells run all the same; if")
    nothing = expected(conditions, [], failed=conditions[:1])
    assert (nothing.estimates, nothing.frozen_params, len(nothing.warnings())) == ({}, None, 1)


@pytest.mark.parametrize(
    ("seconds", "workers", "total"),
    [([100.0], 2, 100.0), ([1.0] * 4, 2, 2.0), ([1.0] * 3, 2, 2.0), ([5, 1, 1, 1], 2, 5.0), ([1, 1, 1, 5], 2, 6.0), ([], 2, 0)],
)
def test_the_whole_ends_with_the_last_cell_in_the_order_in_which_they_are_begun(seconds, workers, total):
    assert makespan(seconds, workers) == total


def planned(tmp_path: Path, workers: int = 2, **changes) -> SweepPlan:
    small = {"samples": 64, "image_ratio": None, "items_per_task": 1, "jobs": workers, "out": tmp_path / "r"}
    return make_plan(config(**(small | changes)), tmp_path / "features")


class FakeProbes:
    """In place of the executor: every probe is done at once, or fails where `fails` says why."""

    def __init__(self, monkeypatch, fails=lambda condition: ""):
        self.started: list[str] = []
        self.closed = False
        self.fails = fails
        monkeypatch.setattr(estimates, "run_jobs", self.run)

    def run(self, function, jobs, workers, **named):
        assert (function, workers) == ("qtablate.cell.probe:probe", 1)
        try:
            for key, job in jobs:
                self.started.append(key)
                yield Event(key, "started")
                why = self.fails(job.cell.condition)
                yield Event(key, "failed", error=why) if why else Event(key, "done", result=measured(job.cell.condition))
        finally:
            self.closed = True


def test_a_hundred_conditions_start_no_more_probes_than_the_limit(tmp_path, monkeypatch):
    sweep = planned(tmp_path, tokens=tuple(range(10)), batch_size=tuple(range(8, 18)))
    assert len(sweep.cells) == 100
    probes = FakeProbes(monkeypatch)
    told: list[int] = []

    def followed(events, total):
        told.append(total)
        yield from events

    found = estimate(sweep, followed)
    assert len(probes.started) == PROBES
    assert told == [PROBES]
    assert len(found.estimates) == 100
    sheet = plan_table(sweep, found)
    steps = [row[sheet.columns.index("s / step")] for row in sheet.rows]
    assert sum(not step.startswith("~") for step in steps) == PROBES
    assert all(step.lstrip("~") for step in steps)
    assert "~: not measured, but estimated from 6 probes" in sheet.note


def test_time_spent_ends_the_probes_and_the_plan_says_how_many(tmp_path, monkeypatch):
    sweep = planned(tmp_path, tokens=(0, 4, 8), batch_size=(8, 16))
    probes = FakeProbes(monkeypatch)
    monkeypatch.setattr(estimates, "SECONDS", -1.0)
    found = estimate(sweep)
    assert (len(probes.started), probes.closed) == (2, True)  # the second was not let begin its work
    assert (found.probes, found.not_begun) == (1, 5)
    assert found.warnings() == ["Probing took more than 1 min 00 s: 5 of 6 probes were left out."]
    assert len(found.estimates) == 6


def test_a_failed_probe_is_a_line_of_the_plan_and_the_others_have_their_figures(tmp_path, monkeypatch):
    sweep = planned(tmp_path, tokens=(0, 4), extra_lr=(1.0, 1e30))
    FakeProbes(monkeypatch, lambda one: "QtablateError: training diverged\nmore" if one.extra_lr > 1 else "")
    found = estimate(sweep)
    assert found.failed == {"tokens 4, accum 1, extra lr 1e+30": "training diverged"}
    sheet = plan_table(sweep, found)
    lost = [row for row in sheet.rows if not row[-1]]
    assert [row[sheet.columns.index("extra lr")] for row in lost] == ["1e+30"]
    assert "3 cells, 3 to run" in sheet.note
    assert "without the 1 whose probes failed" in sheet.note
    FakeProbes(monkeypatch, lambda one: "the process was killed by SIGKILL (out of memory?)")
    found = estimate(sweep)
    assert (found.estimates, len(found.warnings())) == ({}, 3)
    assert "in all" not in plan_table(sweep, found).note


def test_a_finished_sweep_probes_nothing(tmp_path, monkeypatch):
    sweep = planned(tmp_path)
    monkeypatch.setattr(SweepPlan, "to_run", lambda _: [])
    probes = FakeProbes(monkeypatch)
    assert (estimate(sweep), probes.started) == (forecasts.Forecast(), [])


def test_one_cell_takes_its_whole_time_however_many_workers_wait(tmp_path, monkeypatch):
    sweep = planned(tmp_path, workers=2)
    slow = Probed(10.0, 0.0, 300.0, 1000, 5000, 12.5)
    monkeypatch.setitem(globals(), "measured", lambda _: slow)
    FakeProbes(monkeypatch)
    assert "about 1 min 20 s in all" in plan_table(sweep, estimate(sweep)).note  # 64 samples, 8 a micro-batch


@pytest.mark.parametrize(
    ("axes", "said", "unsaid"),
    [
        ({}, "% of the samples images.", ("more of it", "learning rate is the same")),
        ({"accum": (1, 2)}, "more of it means fewer steps", ("and the batch size",)),
        ({"batch_size": (8, 16)}, "these cells say of the batch size holds at this rate", ("more of it", "of accumulation")),
        ({"accum": (1, 2), "batch_size": (8, 16)}, "say of accumulation and the batch size holds", ()),
        ({"accum": (1, 2), "batch_size": (16,), "batch_size_is": "effective-batch"}, "only the arithmetic is split", ()),
        ({"batch_size": (16,), "batch_size_is": "effective-batch"}, "% of the samples images.", ("only the arithmetic",)),
    ],
)
def test_accumulation_is_explained_only_where_it_varies(tmp_path, axes, said, unsaid):
    lines = " ".join(explain_defaults(planned(tmp_path, **axes), forecasts.Forecast()))
    assert said in lines
    assert not [words for words in unsaid if words in lines]
