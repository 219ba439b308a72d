"""Cells that several processes share: each is run once to its end, by whoever has its claim."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from settings import SETTINGS

from qtablate.axes import Condition
from qtablate.claims import heart as hearts
from qtablate.claims.claim import Claim, Held
from qtablate.claims.owner import Owner, this_process
from qtablate.execute import claimed
from qtablate.execute.claimed import LOST, run_claimed
from qtablate.execute.events import Event, Progress
from qtablate.grid import Cell, Fingerprints
from qtablate.records import Record, of_cell
from qtablate.store import Store

OTHER = Owner("other-host", "boot", 17, "1")


@dataclass(frozen=True)
class Job:
    cell: Cell
    claim: Held | None = None


def cell(key: str) -> Cell:
    return Cell(Condition(0, 1, 8, "mixed", "none"), 1, 1, SETTINGS, Fingerprints("m", key, "b"))


class Cells:
    """Stands for an executor: finishes each cell, or does what a test says instead."""

    def __init__(self, store: Store) -> None:
        self.store, self.ran = store, []
        self.instead: dict[str, Callable[[str], Event]] = {}

    def __call__(self, jobs) -> Iterator[Event]:
        for key, job in jobs:
            self.ran.append(key)
            assert self.store.claims.holder(key).token == job.claim.token
            yield Event(key, "started")
            if key in self.instead:
                yield self.instead.pop(key)(key)
            else:
                finish(self.store, key)
                yield Event(key, "done")


def finish(store: Store, key: str) -> None:
    store.write_rows(store.cell_file(key, "answers.csv"), [{"a": 1}], ["a"])
    store.write_record(Record(key, "ok", {}, {"accuracy": 1.0}, files=store.checksums(key)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "r")


@pytest.fixture
def cells(store) -> Cells:
    return Cells(store)


def run(cells: Cells, keys: str, owner: Owner | None = None) -> Iterator[Event]:
    return run_claimed([(key, Job(cell(key))) for key in keys], cells.store, cells, owner or this_process(), look_seconds=0.01)


def ends(events) -> list[tuple[str, str]]:
    return [(event.key, event.kind) for event in events if event.kind in ("done", "failed")]


def test_every_job_runs_under_a_claim_that_is_given_up(cells, store):
    assert ends(run(cells, "abc")) == [("a", "done"), ("b", "done"), ("c", "done")]
    assert store.claims.all() == {}


def test_a_job_that_another_process_runs_is_waited_for(cells, store):
    theirs = store.claims.take("a", OTHER)
    events, seen = run(cells, "ab"), []
    for event in events:
        seen.append((event.key, event.kind))
        if event == Event("b", "done"):
            finish(store, "a")
            theirs.release()
    assert cells.ran == ["b"]
    assert seen == [("a", "held"), ("b", "started"), ("b", "done"), ("a", "done")]


@pytest.mark.parametrize("left", ["nothing", "failed"])
def test_a_job_that_another_process_gives_up_runs_here_and_its_failure_is_reported(cells, store, left):
    theirs = store.claims.take("a", OTHER)
    seen = []
    for event in run(cells, "ab"):
        seen.append((event.key, event.kind, event.error))
        if event == Event("b", "done"):
            if left == "failed":
                store.write_record(Record("a", "failed", {}, error="out of memory"))
            theirs.release()
    assert cells.ran == (["b", "a"] if left == "nothing" else ["b"])
    assert seen[-1] == (("a", "done", "") if left == "nothing" else ("a", "failed", "out of memory"))


def test_a_job_whose_owner_is_heard_of_no_more_runs_here(cells, store, monkeypatch):
    monkeypatch.setattr(hearts, "STALE_AFTER", 0.05)
    store.claims.take("a", OTHER)
    assert ends(run(cells, "a")) == [("a", "done")]
    assert cells.ran == ["a"]


def test_a_job_that_was_finished_before_its_claim_was_had_is_not_run_again(cells, store):
    events = run(cells, "ab")
    assert next(events) == Event("a", "started")
    finish(store, "b")
    assert ends(events) == [("a", "done"), ("b", "done")]
    assert cells.ran == ["a"]


def test_a_job_that_was_taken_over_while_it_ran_is_the_others(cells, store):
    """As after this process was suspended for minutes."""

    def lose(key: str) -> Event:
        other = store.claims.take("a", OTHER, stale=store.claims.holder("a"))
        assert isinstance(other, Claim)
        finish(store, "a")
        other.release()
        return Event("a", "failed", error=f"QtablateError: {LOST}")

    cells.instead["a"] = lose
    assert ends(run(cells, "a")) == [("a", "done")]
    assert cells.ran == ["a"]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_cell_that_fails_leaves_a_failed_record_whoever_writes_it(cells, store, recorded):
    """One that died could not write it itself."""
    a = cell("a")

    def fail(key: str) -> Event:
        if recorded:
            store.write_record(of_cell(a, "failed", error="its own words", traceback="its own traceback"))
        return Event(key, "failed", error="killed", traceback="none")

    cells.instead[a.key] = fail
    assert ends(run_claimed([(a.key, Job(a))], store, cells, this_process())) == [(a.key, "failed")]
    record = store.read_record(a.key)
    assert (record.status, record.error) == ("failed", "its own words" if recorded else "killed")
    assert store.claims.all() == {}


def test_a_cell_that_was_ended_after_its_last_word_is_done(cells, store):
    def end_late(key: str) -> Event:
        finish(store, key)
        return Event(key, "failed", error="killed by SIGKILL")

    cells.instead["a"] = end_late
    assert ends(run(cells, "a")) == [("a", "done")]


def test_progress_is_told_to_others(cells, store, monkeypatch):
    told = []
    monkeypatch.setattr(claimed.Heart, "tell", lambda self, key, **about: told.append((key, about)))
    cells.instead["a"] = lambda key: Event(key, "progress", Progress("train", 3, 10, 0.5))
    events = run(cells, "a")
    assert [next(events).kind for _ in range(2)] == ["started", "progress"]
    assert told == [("a", {"progress": dataclasses.asdict(Progress("train", 3, 10, 0.5))})]
    events.close()
    assert store.claims.all() == {}


def test_two_that_work_off_one_folder_run_each_job_once(cells, store):
    other = Cells(store)
    here, there = run(cells, "abcd"), run(other, "abcd", OTHER)
    seen = {"here": [], "there": []}
    working = {"here": here, "there": there}
    while working:
        for name, events in list(working.items()):
            event = next(events, None)
            if event is None:
                del working[name]
            else:
                seen[name].append(event)
    assert sorted(cells.ran + other.ran) == ["a", "b", "c", "d"]
    assert sorted(ends(seen["here"])) == sorted(ends(seen["there"])) == [(key, "done") for key in "abcd"]
