"""Which cells of a plan one run is for: --only, --retry-failed, --order and --max-failures. The plan stays whole."""

import pytest
from finished_cells import Finisher
from settings import SETTINGS, config

from qtablate import load
from qtablate.cli.main import main
from qtablate.errors import ConfigError
from qtablate.grid import Fingerprints, cells
from qtablate.records import of_cell
from qtablate.run_config import RunConfig
from qtablate.store import Store
from qtablate.sweep import executors
from qtablate.sweep import run as runs
from qtablate.sweep.joined import joined
from qtablate.sweep.plan import SweepPlan, make_plan
from qtablate.sweep.selection import matching, selected


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QTABLATE_FIGURES", "off")


@pytest.fixture
def failing():
    """(extra tokens, seed) of cells that fail."""
    return set()


@pytest.fixture
def finisher(monkeypatch, failing) -> Finisher:
    def accuracy(cell):
        return None if (cell.condition.extra_num_query_tokens, cell.seed) in failing else 0.5

    made = Finisher(accuracy)
    monkeypatch.setattr(executors, "run_jobs", made)
    return made


def planned(out, tokens=(0, 4, 8), seeds=(1, 2), **changes) -> SweepPlan:
    return make_plan(config(tokens=tokens, seeds=seeds, samples=16, items_per_task=1, jobs=1, out=out, **changes))


def sweep(out, **changes) -> SweepPlan:
    plan = planned(out, **changes)
    with joined(plan.store, plan.config):
        return runs.run_plan(plan)


def command(monkeypatch, out, *words) -> int:
    """Run the command line's sweep and return its exit code."""
    more = ["--tokens", "0,4,8", "--accum", "1", "--seeds", "1,2", "--samples", "16", "--items-per-task", "1", "--jobs", "1"]
    monkeypatch.setattr("sys.argv", ["qtablate", "sweep", *more, "--out", str(out), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def cells_of(**levels):
    """The cells of a grid, without a plan."""
    grid = config(seeds=(1, 2), **levels).grid
    return cells(grid, SETTINGS, lambda _: Fingerprints("m", "t", "b"), 8)


GRID = cells_of(tokens=(0, 4, 8))


@pytest.mark.parametrize(
    ("only", "named"),
    [
        ("tokens=4", [(4, 1), (4, 2)]),
        ("tokens=4,seed=2", [(4, 2)]),
        (" tokens = 8 ; tokens=0, accum=1 ", [(0, 1), (8, 1), (0, 2), (8, 2)]),
        ("seed=1; tokens=8", [(0, 1), (4, 1), (8, 1), (8, 2)]),
        ("extra-init=normal,seed=1", [(4, 1), (8, 1)]),
        ("extra-lr=1.0,tokens=4,seed=1", [(4, 1)]),
        ("", [(0, 1), (4, 1), (8, 1), (0, 2), (4, 2), (8, 2)]),
    ],
)
def test_cells_are_named_by_some_of_their_levels(only, named):
    keys = matching(only, GRID, "micro-batch")
    assert [(cell.condition.extra_num_query_tokens, cell.seed) for cell in GRID if cell.key in keys] == named


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("tokens=16", "--only tokens=16: no cell of the grid has it; there are 0, 4, 8"),
        ("token=4", "--only: unknown axis 'token'; known: tokens, accum, batch-size, .*, seed"),
        ("seed=3", "--only seed=3: no cell of the grid has it; there are 1, 2"),
        ("tokens=0,extra-init=normal", "--only tokens=0,extra-init=normal: no cell of the grid has all of these levels"),
        ("tokens=four", "--only tokens=four: no cell of the grid has it; there are 0, 4, 8"),
        ("tokens", "--only: 'tokens' is not an axis and a level"),
        ("tokens=4;", "--only: a part of 'tokens=4;' is empty"),
        ("tokens=4,tokens=8", "--only: tokens is given twice"),
    ],
)
def test_what_no_cell_has_is_refused(only, message):
    with pytest.raises(ConfigError, match=message):
        matching(only, GRID, "micro-batch")


def test_batch_sizes_are_named_as_the_grid_names_them():
    grid = cells_of(tokens=(0,), accum=(1, 4), batch_size=(8, 16), batch_size_is="effective-batch")
    keys = matching("batch-size=16", grid, "effective-batch")
    assert {cell.condition.micro_batch_size for cell in grid if cell.key in keys} == {4, 16}
    keys = matching("batch-size=16", grid, "micro-batch")
    assert {cell.condition.accumulate_grad_batches for cell in grid if cell.key in keys} == {1}


def test_only_the_named_cells_are_run_and_the_sweep_stays_whole(finisher, tmp_path):
    sweep(tmp_path, only="tokens=4")
    assert finisher.ran == [(4, 1), (4, 2)]
    found = load(tmp_path)
    assert found.cells["status"].tolist() == ["pending", "ok", "pending"] * 2
    assert found.sweep.config.run.only == ""  # of one run, and nothing of the results
    sweep(tmp_path)
    assert sorted(finisher.ran) == [(tokens, seed) for tokens in (0, 4, 8) for seed in (1, 2)]


@pytest.mark.slow
def test_the_confirmation_waits_for_the_whole_grid(finisher, tmp_path):
    finisher.accuracy = lambda cell: 0.5 + cell.condition.extra_num_query_tokens / 20
    sweep(tmp_path, confirm=1, only="seed=1")
    assert len(finisher.ran) == 3
    sweep(tmp_path, confirm=1)
    assert finisher.ran[6:] == [(8, 3), (0, 3)]


def test_failed_cells_run_again_alone_or_are_left_out(tmp_path):
    store = Store(tmp_path)
    store.write_record(of_cell(GRID[1], "failed", error="out of memory"))
    conditions, all_of_them = [cell.condition for cell in GRID[:3]], frozenset(cell.key for cell in GRID)

    def to_run(**settings):
        return selected(GRID, RunConfig(**settings), all_of_them, conditions, store)

    assert to_run() == GRID
    assert to_run(retry_failed=True) == [GRID[1]]  # and none of those that were never started
    assert to_run(retry_failed=False) == [GRID[0], *GRID[2:]]
    assert to_run(retry_failed=True, order="conditions") == [GRID[1]]


def test_conditions_one_after_the_other(tmp_path):
    conditions = [cell.condition for cell in GRID[:3]]
    unfinished = GRID[1:]
    keys = frozenset(cell.key for cell in GRID)
    chosen = selected(unfinished, RunConfig(order="conditions"), keys, conditions, Store(tmp_path))
    named = [(cell.condition.extra_num_query_tokens, cell.seed) for cell in chosen]
    assert named == [(0, 2), (4, 1), (4, 2), (8, 1), (8, 2)]


def test_no_more_cells_start_after_too_many_have_failed(finisher, failing, tmp_path):
    failing.update({(4, 1), (0, 2), (4, 2)})
    sweep(tmp_path, max_failures=2)
    assert finisher.ran == [(0, 1), (4, 1), (8, 1), (0, 2)]
    assert load(tmp_path).cells["status"].tolist() == ["ok", "failed", "ok", "failed", "pending", "pending"]
    assert not list((tmp_path / "claims").glob("*"))  # nothing is held that nobody runs
    finisher.ran.clear()
    sweep(tmp_path, max_failures=3, confirm=1)  # those of this run count
    assert finisher.ran == [(4, 1), (0, 2), (4, 2)]


def test_exit_codes_and_messages(finisher, failing, tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, tmp_path, "--only", "tokens=0") == 0
    told = capsys.readouterr().err
    assert "4 of 6 cells are not finished; without --only the same command runs them." in told
    failing.add((4, 1))
    assert command(monkeypatch, tmp_path, "--max-failures", "1") == 1
    told = capsys.readouterr().err
    assert "1 of 6 cells failed and 3 were not started (--max-failures 1); the same command tries them all." in told


def test_an_unknown_level_is_a_mistake_of_the_user(finisher, tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, tmp_path, "--only", "tokens=5") == 2
    told = capsys.readouterr().err
    assert "--only tokens=5: no cell of the grid has it; there are 0, 4, 8" in told
    assert "Traceback" not in told
    assert not tmp_path.joinpath("sweep.json").exists()
