"""Claims: one process of several has each, those of processes that are gone are taken over, and no other."""

import dataclasses
import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qtablate.claims import claim as claims_module
from qtablate.claims import heart as hearts
from qtablate.claims.claim import Claim, Claims
from qtablate.claims.heart import Heart, Watch
from qtablate.claims.holder import STALE_AFTER, Holder
from qtablate.claims.owner import Owner, this_process

ELSEWHERE = Owner("other-host", "boot 2 pid:[1]", 17, "4711")
"""A process of which nothing can be known from here."""


@pytest.fixture
def claims(tmp_path) -> Claims:
    return Claims(tmp_path / "claims")


def taken(claims: Claims, key: str = "cell", owner: Owner | None = None, **more) -> Claim:
    claim = claims.take(key, owner or this_process(), **more)
    assert isinstance(claim, Claim)
    return claim


def refused(claims: Claims, key: str = "cell", owner: Owner | None = None, **more) -> Holder:
    holder = claims.take(key, owner or this_process(), **more)
    assert isinstance(holder, Holder)
    return holder


def ended_process() -> Owner:
    """An owner that was a process of this machine."""
    code = "import dataclasses, json, qtablate.claims.owner as own; print(json.dumps(dataclasses.asdict(own.this_process())))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return Owner(**json.loads(said))


def test_a_claim_is_one_processs_until_it_is_given_up(claims):
    claim = taken(claims, about={"cell": "tokens 32"})
    holder = refused(claims)
    assert (holder.token, holder.about, holder.owner) == (claim.held_as.token, {"cell": "tokens 32"}, this_process())
    assert holder.live
    assert [one.token for one in claims.all().values()] == [claim.held_as.token]
    taken(claims, "another")
    claim.release()
    assert claims.holder("cell") is None
    taken(claims)


def test_keys_with_dots_and_patterns_are_kept_apart(claims):
    for key in ("a", "a.1", "a*", "a.1.json"):
        taken(claims, key)
    assert set(claims.all()) == {"a", "a.1", "a*", "a.1.json"}


def race(folder: Path, go: float, wins: Path) -> None:
    """Claim 40 keys as fast as possible, all processes from the same moment on."""
    claims = Claims(folder)
    time.sleep(max(0.0, go - time.time()))
    for number in range(40):
        if isinstance(claims.take(f"cell-{number}", this_process()), Claim):
            with (wins / f"{number}").open("a") as file:
                file.write("x")
    time.sleep(0.5)  # a process that has ended holds nothing


@pytest.mark.parametrize("links", [True, False])
def test_of_processes_that_want_the_same_thing_at_once_one_has_it(tmp_path, monkeypatch, links):
    wins = tmp_path / "wins"
    wins.mkdir()
    if not links:  # as on some network file systems

        def link(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=race, args=(tmp_path / "claims", time.time() + 0.3, wins)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert {path.name: path.read_text() for path in wins.iterdir()} == {str(number): "x" for number in range(40)}


def test_a_claim_of_a_process_of_this_machine_that_has_ended_is_taken_over(claims):
    old = ended_process()
    assert old.ended
    assert not this_process().ended
    taken(claims, owner=old)
    assert not claims.holder("cell").live
    claim = taken(claims)
    assert claim.held()
    claim.release()
    assert claims.all() == {}  # the older one went with it


def test_a_number_that_is_used_again_is_another_process():
    me = this_process()
    assert dataclasses.replace(me, began="1").ended
    assert not dataclasses.replace(me, began="1", space="another boot").ended  # nothing can be known of that one
    assert not dataclasses.replace(me, began="1", host="another host").ended


def test_a_run_of_a_job_takes_over_from_an_earlier_run_of_it_and_from_no_other(claims):
    taken(claims, owner=dataclasses.replace(ELSEWHERE, job="Slurm job 17_3"))
    refused(claims, owner=this_process("Slurm job 17_4"))
    refused(claims)
    taken(claims, owner=this_process("Slurm job 17_3"))
    taken(claims, "without", owner=ELSEWHERE)
    refused(claims, "without", owner=dataclasses.replace(ELSEWHERE, process=18))  # no job is no job in common


def test_a_claim_goes_stale_by_the_observers_own_clock_alone(claims):
    now = [0.0]
    watch = Watch(lambda: now[0])
    claim = taken(claims, owner=ELSEWHERE)
    os.utime(next(claims.folder.iterdir()), (0, 0))  # the other clock is 50 years behind: that says nothing
    assert not watch.stale(claims.holder("cell"))
    now[0] = STALE_AFTER - 1
    assert not watch.stale(claims.holder("cell"))
    claim.beat()
    now[0] = STALE_AFTER + 1
    assert not watch.stale(claims.holder("cell"))
    now[0] = 2 * STALE_AFTER
    assert not watch.stale(claims.holder("cell"))
    now[0] = 2 * STALE_AFTER + 1
    seen = claims.holder("cell")
    assert watch.stale(seen)
    claim.beat()  # it lives after all: what was seen is no reason any more
    refused(claims, stale=seen)
    seen = claims.holder("cell")
    theirs = taken(claims, stale=seen)
    assert not claim.held()
    assert not claim.beat()
    claim.release()
    assert theirs.held()


def test_two_that_have_seen_the_same_stale_claim_do_not_both_have_it(claims):
    taken(claims, owner=ELSEWHERE)
    seen = claims.holder("cell")
    first = taken(claims, stale=seen)
    refused(claims, stale=seen)
    assert first.held()


def test_a_count_that_was_written_too_late_does_not_bring_a_lost_claim_back(claims):
    """The old owner has looked, is suspended, and writes when another has taken over."""
    old = taken(claims, owner=ELSEWHERE)
    own = taken(claims, stale=claims.holder("cell"))
    old._path.write_bytes(old._content())
    assert own.held()
    assert not old.beat()
    assert [path.name for path in claims.folder.iterdir()] == ["cell.1.json"]


def test_a_claim_is_sealed_by_its_owner_or_taken_over_and_not_both(claims, monkeypatch):
    """Whatever is read: here both have seen the same, and see nothing newer."""
    for first in ("owner", "other"):
        owner = taken(claims, first, owner=ELSEWHERE)
        seen = claims.holder(first)
        acting = claims.acting_for(owner.held_as)  # in another process
        if first == "owner":
            assert acting.seal()
            refused(claims, first, stale=seen)
            assert owner.beat()  # the owner goes on counting for the sealed one
            assert (claims.holder(first).generation, claims.holder(first).beat) == (1, 1)
            assert acting.seal()
            owner.release()
            assert claims.holder(first) is None
        else:
            theirs = taken(claims, first, stale=seen)
            with monkeypatch.context() as patch:
                patch.setattr(claims_module, "highest", lambda *_, seen=seen: seen)
                assert acting.held()  # what it reads is no proof
                assert not acting.seal()
            assert theirs.held()


def test_what_cannot_be_read_is_somebodys(claims):
    claim = taken(claims)
    claim._path.write_text("{")
    assert refused(claims).owner is None
    assert claim.held()  # and its owner goes on
    assert claim.beat()
    assert claims.holder("cell").token == claim.held_as.token


def test_an_owner_whose_folder_was_removed_goes_on(claims):
    claim = taken(claims)
    claim._path.unlink()
    claims.folder.rmdir()
    assert claim.held()
    assert claim.beat()
    assert claims.holder("cell").token == claim.held_as.token


def test_a_full_disk_stops_the_count_and_nothing_else(claims, monkeypatch):
    claim = taken(claims)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        assert claim.beat()
        with pytest.raises(OSError, match="No space left"):
            claims.take("another", this_process())
    assert claim.held()
    assert [path.name for path in claims.folder.iterdir()] == ["cell.0.json"]


def test_a_heart_counts_tells_and_gives_up_at_its_end(claims, monkeypatch):
    monkeypatch.setattr(hearts, "BEAT_SECONDS", 0.01)
    with Heart().beating() as heart:
        heart.keep(taken(claims))
        heart.keep(taken(claims, "lost", owner=ELSEWHERE))
        taken(claims, "lost", stale=claims.holder("lost"))
        heart.tell("cell", done=3)
        until = time.monotonic() + 5
        while (seen := claims.holder("cell")).about != {"done": 3} or seen.beat < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert set(claims.all()) == {"lost"}


def test_the_folder_goes_when_nothing_is_claimed(claims):
    claim = taken(claims)
    taken(claims, "dead", owner=ended_process())
    claims.tidy()
    assert set(claims.all()) == {"cell"}
    claim.release()
    claims.tidy()
    assert not claims.folder.exists()
    claims.tidy()
    taken(claims)
