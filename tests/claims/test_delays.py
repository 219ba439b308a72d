"""Claims where machines see a shared folder late, as NFS clients do, and stop for minutes: simulated in one process with a
clock of its own, with the real files."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qtablate.claims import claim as claims_module
from qtablate.claims.claim import Claim, Claims
from qtablate.claims.heart import BEAT_SECONDS, Watch
from qtablate.claims.holder import Holder, highest
from qtablate.claims.owner import Owner

CELLS, MACHINES, WORK = 2, 3, 150
"""How many, and how many seconds a cell takes."""
CACHED = 60
"""Seconds for which an NFS client may show an old folder (acregmax, acdirmax in nfs(5))."""


@dataclass
class Machine:
    """A sweep on one machine: claims a cell, works, looks whether it still has it, and writes that it is finished."""

    name: str
    world: "World"
    claims: Claims
    claim: Claim | None = None
    done_at: float = 0.0
    stopped_until: float = 0.0
    beaten: float = 0.0
    seen: dict[str, tuple[float, Holder | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.watch = Watch(lambda: self.world.now)
        self.owner = Owner(self.name, "boot", 1, "1")

    def view(self, key: str, fresh: bool = False) -> Holder | None:
        """What this machine sees of a claim: for a random time what it saw before."""
        until, holder = self.seen.get(key, (0.0, None))
        if fresh or self.world.now >= until:
            holder = highest(self.claims.folder, key)
            self.seen[key] = (self.world.now + self.world.random.uniform(0.8, 1) * CACHED, holder)
        return holder

    def act(self) -> None:
        """Do what a second allows."""
        world = self.world
        if world.now < self.stopped_until:
            return
        if world.random.random() < 0.006:
            self.stopped_until = world.now + world.random.choice((30, 110, 113, 115, 300))
            return
        if self.claim:
            self._work(self.claim)
            return
        for key in world.open():
            holder = self.view(key)
            stale = holder if holder and self.watch.stale(holder) else None
            taken = self.claims.take(key, self.owner, stale=stale)
            self.view(key, fresh=True)  # a client knows what it has written itself
            if isinstance(taken, Claim):
                if key in world.finished:
                    taken.release()
                    continue
                self.claim, self.done_at, self.beaten = taken, world.now + WORK, world.now
                return

    def _work(self, claim: Claim) -> None:
        world = self.world
        if world.now - self.beaten > BEAT_SECONDS:
            self.beaten = world.now
            if not claim.beat():
                self.claim = None
                return
        if world.now >= self.done_at:
            if claim.key not in world.finished and world.proof(claim):  # a record is opened, and so never old
                holder = highest(self.claims.folder, claim.key)  # as it is, whatever this machine sees
                world.finished[claim.key] = [*world.finished.get(claim.key, []), self.name]
                world.trespasses += holder is not None and holder.token != claim.held_as.token
            claim.release()
            self.claim = None


class World:
    """All machines, and what is finished."""

    def __init__(self, seed: int) -> None:
        self.random, self.now = random.Random(seed), 0.0
        self.finished: dict[str, list[str]] = {}
        self.trespasses = 0
        """How often a machine wrote what another had taken over."""

    def proof(self, claim: Claim) -> bool:
        """Whether a machine may write that a cell is finished."""
        return claim.seal()

    def open(self) -> list[str]:
        return [key for key in map(str, range(CELLS)) if key not in self.finished]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int, world_of: type[World] = World) -> World:
    """Let all machines work until every cell is finished."""
    world = world_of(seed)
    machines = [Machine(f"machine-{n}", world, Claims(folder)) for n in range(MACHINES)]
    acting = [machines[0]]
    monkeypatch.setattr(claims_module, "highest", lambda folder, key: acting[0].view(key))
    while world.open() or any(machine.claim for machine in machines):
        world.now += 1
        assert world.now < 20_000, "nobody gets on"
        for machine in world.random.sample(machines, MACHINES):
            acting[0] = machine
            machine.act()
    return world


@pytest.mark.parametrize("seed", range(10))
def test_every_cell_is_run_once_to_its_end(tmp_path, monkeypatch, seed):
    world = run(tmp_path / "claims", monkeypatch, seed)
    assert [len(names) for names in world.finished.values()] == [1] * CELLS
    assert world.trespasses == 0


def test_the_simulation_bites(tmp_path, monkeypatch):
    """Claims that go stale sooner than a client may show old files are taken over from machines that work: one that trusts what
    it reads writes what another has, and one that seals it never does."""
    monkeypatch.setattr("qtablate.claims.heart.STALE_AFTER", 20.0)

    class Trusting(World):
        def proof(self, claim: Claim) -> bool:
            return claim.held()

    assert any(run(tmp_path / f"trusting-{seed}", monkeypatch, seed, Trusting).trespasses for seed in range(5))
    assert not any(run(tmp_path / f"sealing-{seed}", monkeypatch, seed).trespasses for seed in range(5))
