"""A sweep that adds seeds until all is decided: what it runs, what it records, and that a killed one decides alike."""

import json
import signal

import pytest
from finished_cells import Finisher
from settings import config

from qtablate import load
from qtablate.errors import ConfigError
from qtablate.interrupts import Stopped
from qtablate.report.build import report
from qtablate.report.gates.judge import judge_gates
from qtablate.run_config import RunConfig
from qtablate.sweep import executors
from qtablate.sweep import run as runs
from qtablate.sweep.joined import joined
from qtablate.sweep.plan import SweepPlan, make_plan
from qtablate.sweep.standing import count, standings

SEEDS = (1, 2, 3, 4, 5)
CLEAR, UNCLEAR = {0: 0.3, 4: 0.95, 8: 0.95}, {0: 0.3, 4: 0.95, 8: 0.36}
"""Accuracies with which all is decided at the first look, and with which 8 extra tokens are not."""


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QTABLATE_FIGURES", "off")


@pytest.fixture
def finisher(monkeypatch) -> Finisher:
    made = Finisher(lambda cell: UNCLEAR[cell.condition.extra_num_query_tokens])
    monkeypatch.setattr(executors, "run_jobs", made)
    return made


def planned(out, seeds=SEEDS, until_decided=True, **changes) -> SweepPlan:
    more = {"until_decided": until_decided, **changes}
    return make_plan(config(tokens=(0, 4, 8), seeds=seeds, samples=16, items_per_task=1, jobs=1, out=out, **more))


def sweep(out, **changes) -> SweepPlan:
    plan = planned(out, **changes)
    with joined(plan.store, plan.config):
        plan = runs.run_plan(plan)
    report(plan.store, figures=False)
    return plan


def tables(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.csv")} | {"report": (out / "report.md").read_bytes()}


def test_a_decided_condition_gets_no_more_seeds_and_is_not_missing(finisher, tmp_path):
    plan = sweep(tmp_path)
    assert finisher.ran[:9] == [(tokens, seed) for seed in (1, 2, 3) for tokens in (0, 4, 8)]
    assert finisher.ran[9:] == [(tokens, seed) for seed in (4, 5) for tokens in (0, 8)]
    assert not plan.unfinished()
    found = load(tmp_path)
    assert found.cells["status"].value_counts().to_dict() == {"ok": 13, "not needed": 2}
    summary = found.summary.set_index("extra_num_query_tokens")
    assert summary[["seeds_done", "seeds_wanted"]].to_numpy().tolist() == [[5, 5], [3, 3], [5, 5]]
    assert len(found.sweep.not_needed) == 2
    assert [gate.passed for gate in judge_gates(found, {"max-failed": 0})] == [True]
    assert count(standings(plan.store, {}))["not needed"] == 2
    assert not any("not finished" in warning for warning in found.headline.warnings)
    over_all = (found.contrasts["task"] == "all") & (found.contrasts["outcome"] == "accuracy")
    rows = found.contrasts[over_all].set_index("level")
    assert rows.loc[4, ["verdict", "seeds"]].tolist() == ["better", 3]
    assert rows.loc[8, ["verdict", "seeds"]].tolist() == ["undecided", 5]
    assert rows.loc[8, "mde_level"] == pytest.approx(0.05 / 2)  # the share of the last look; one test is left
    assert "at most (--until-decided)" in found.headline.scope
    assert "98.75 % after 3 seeds and 97.5 % after 5 seeds" in found.headline.scope


@pytest.mark.slow
def test_all_stops_when_all_is_decided_and_the_confirmation_follows(finisher, tmp_path):
    finisher.accuracy = lambda cell: CLEAR[cell.condition.extra_num_query_tokens]
    sweep(tmp_path, confirm=1)
    assert [seed for _, seed in finisher.ran] == [1] * 3 + [2] * 3 + [3] * 3 + [6] * 2
    finisher.ran.clear()
    sweep(tmp_path, confirm=1)
    assert finisher.ran == []


@pytest.mark.slow
def test_a_killed_sweep_decides_as_it_would_have_done(finisher, tmp_path):
    """Killed at every cell in turn, each time going on where it was: the same cells, the same tables to the byte."""
    whole = sweep(tmp_path / "whole" / "r")
    ran = list(finisher.ran)
    finisher.ran.clear()
    plain = finisher.accuracy
    stops = {(8, 3), (0, 4), (8, 5)}

    def stopping(cell):
        where = (cell.condition.extra_num_query_tokens, cell.seed)
        if where in stops:
            stops.remove(where)
            finisher.ran.pop()
            raise Stopped(signal.SIGTERM)
        return plain(cell)

    finisher.accuracy = stopping
    for _ in range(3):
        with pytest.raises(Stopped):
            sweep(tmp_path / "killed" / "r")
    killed = sweep(tmp_path / "killed" / "r")
    assert finisher.ran == ran
    assert killed.not_needed == whole.not_needed
    assert tables(tmp_path / "killed" / "r") == tables(tmp_path / "whole" / "r")
    written = [json.loads((tmp_path / name / "r" / "sweep.json").read_text())["not_needed"] for name in ("killed", "whole")]
    assert written[0] == written[1]


def test_a_look_waits_for_no_cell_that_has_failed(finisher, tmp_path):
    finisher.accuracy = lambda cell: (
        None if (cell.condition.extra_num_query_tokens, cell.seed) == (8, 2) else CLEAR[cell.condition.extra_num_query_tokens]
    )
    plan = sweep(tmp_path)
    assert (8, 4) in finisher.ran  # with two seeds there is no look at it yet
    assert (4, 4) not in finisher.ran
    assert [cell.seed for cell in plan.unfinished()] == [2]  # the same command tries it again


@pytest.mark.slow
def test_without_the_rule_all_seeds_run_and_intervals_are_those_of_their_number(finisher, tmp_path):
    sweep(tmp_path)
    looked = load(tmp_path).contrasts
    sweep(tmp_path, until_decided=False)
    assert len(finisher.ran) == 15
    found = load(tmp_path)
    assert set(found.cells["status"]) == {"ok"}
    assert found.sweep.not_needed == ()
    assert "--until-decided" not in found.headline.scope
    one = (looked["level"] == 8) & (looked["task"] == "all") & (looked["outcome"] == "accuracy")
    widths = [(frame.loc[one, "ci_high"] - frame.loc[one, "ci_low"]).item() for frame in (looked, found.contrasts)]
    assert widths[0] > widths[1]


def test_more_seeds_cannot_be_planned_after_a_look(finisher, tmp_path):
    sweep(tmp_path)
    with pytest.raises(ConfigError, match="began with --seeds 1,2,3,4,5 and has been looked at"):
        sweep(tmp_path, seeds=(*SEEDS, 6, 7))
    assert len(load(tmp_path).sweep.config.grid.seeds) == 5


def test_too_few_seeds_and_what_does_not_go_together_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--until-decided looks first after 3 seeds, and --seeds gives 3: give more"):
        planned(tmp_path, seeds=(1, 2, 3))
    with pytest.raises(ValueError, match="--until-decided looks at all conditions of a seed"):
        RunConfig(until_decided=True, only="tokens=4")
    with pytest.raises(ValueError, match="--max-failures holds back cells that wait on this machine"):
        RunConfig(max_failures=2, executor="slurm")
    with pytest.raises(ValueError, match="leave out --order conditions"):
        RunConfig(until_decided=True, order="conditions")
