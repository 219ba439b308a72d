"""A cell that was taken over while its process was suspended writes nothing any more."""

import time
from types import SimpleNamespace

import pytest

from qtablate.cell import guard as guards
from qtablate.cell.guard import Guard
from qtablate.cell.outputs import CellFiles
from qtablate.claims.claim import Held
from qtablate.claims.owner import Owner, this_process
from qtablate.errors import QtablateError
from qtablate.execute.claimed import LOST
from qtablate.execute.events import Progress
from qtablate.records import Record
from qtablate.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "r")


def guard(store: Store, claim: Held | None) -> Guard:
    return Guard(SimpleNamespace(cell=SimpleNamespace(key="a"), claim=claim), store, lambda _: None)


def finish(store: Store) -> None:
    store.write_rows(store.cell_file("a", "answers.csv"), [{"a": 1}], ["a"])
    store.write_record(Record("a", "ok", {}, {"accuracy": 1.0}, files=store.checksums("a")))


def test_a_cell_under_its_claim_goes_on_and_one_that_was_taken_over_does_not(store, monkeypatch):
    monkeypatch.setattr(guards, "BEAT_SECONDS", 0.0)
    claim = store.claims.take("a", this_process())
    own = guard(store, claim.held_as)
    own.report(Progress("train", 1, 2))
    files = CellFiles(store, "a", own.seal)
    files.train([])
    assert store.claims.holder("a").generation == 1  # sealed
    other = store.claims.take("a", Owner("another", "boot", 7, "1"), stale=store.claims.holder("a"))
    time.sleep(0.001)
    with pytest.raises(QtablateError, match=LOST):
        own.report(Progress("train", 2, 2))
    with pytest.raises(QtablateError, match=LOST):
        files.answers({})
    assert not store.cell_file("a", "answers.csv").exists()
    finish(store)
    other.release()
    assert own.lost()  # it is the other's, who has finished it
    assert claim.beat()  # the owner wakes up, and finds nobody's claim
    assert own.lost()
    with pytest.raises(QtablateError, match=LOST):
        own.seal()


def test_a_claim_that_is_gone_without_a_result_is_no_loss(store):
    claim = store.claims.take("a", this_process())
    claim.release()
    assert not guard(store, claim.held_as).lost()


def test_a_cell_without_a_claim_is_nobody_elses(store):
    store.claims.take("a", Owner("another", "boot", 7, "1"))
    finish(store)
    assert not guard(store, None).lost()
