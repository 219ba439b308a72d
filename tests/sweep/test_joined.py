"""Sweeps in one folder at the same time: of one grid they share it, of two the second is refused."""

import os
import subprocess
import sys

import pytest
from settings import config

from qtablate.claims.owner import Owner
from qtablate.config import validate_config
from qtablate.errors import StoreError
from qtablate.store import Store
from qtablate.sweep.joined import deciding_settings, joined, running_sweeps


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "r")


def test_sweeps_of_the_same_settings_run_side_by_side(store):
    assert not store.busy()
    with joined(store, config(jobs=1)):
        with joined(store, config(jobs=2, out=store.root)):  # what changes no cell may differ
            assert len(running_sweeps(store)) == 2
        assert len(running_sweeps(store)) == 1
        assert store.busy()
    assert not store.busy()
    assert not store.claims.folder.exists()


def test_a_sweep_of_other_settings_is_refused_by_what_differs(store):
    with (
        joined(store, config(tokens=(0, 32))),
        pytest.raises(StoreError, match=r"another sweep runs in .*r \(process \d+ on .*\(--tokens: 0,32 there, 0,64 here\)"),
        joined(store, config(tokens=(0, 64))),
    ):
        pass
    with joined(store, config(tokens=(0, 64))):  # when it is over, the grid may grow
        pass


def test_listed_conditions_and_the_confirmation_are_compared_too(store):
    one, other = (validate_config({"grid": {"conditions": [{"tokens": tokens, "accum": 1}]}}) for tokens in (0, 32))
    with joined(store, one), pytest.raises(StoreError, match="conditions: "), joined(store, other):
        pass
    with (
        joined(store, config(tokens=(0, 8), confirm=2)),
        pytest.raises(StoreError, match="--confirm: 2 there, 0 here"),
        joined(store, config(tokens=(0, 8))),
    ):
        pass


def test_every_setting_that_decides_a_cell_is_compared():
    assert deciding_settings(config()).keys() >= {"--tokens", "--seeds", "--samples", "--controls", "--bench", "--items-seed"}
    assert not deciding_settings(config()).keys() & {"--jobs", "--out"}


def test_what_a_killed_sweep_of_another_machine_has_left_goes_after_a_while(store):
    store.claims.take("sweep-dead", Owner("another", "boot", 7, "1"), {"settings": {"--tokens": "0"}})
    with pytest.raises(StoreError, match="another sweep runs"), joined(store, config(tokens=(4,))):
        pass
    os.utime(next(store.claims.folder.iterdir()), (0, 0))
    with joined(store, config(tokens=(4,))):
        pass
    assert not store.claims.folder.exists()


def test_a_sweep_that_was_killed_is_in_nobodys_way(store):
    code = (
        "import os, pathlib, sys\n"
        "from qtablate.config import validate_config\n"
        "from qtablate.store import Store\n"
        "from qtablate.sweep.joined import joined\n"
        "with joined(Store(pathlib.Path(sys.argv[1])), validate_config({})):\n"
        "    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.root)]).returncode == 9
    assert list(store.claims.all())
    assert not store.busy()
    with joined(store, config()):
        assert len(store.claims.all()) == 1
