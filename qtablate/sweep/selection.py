"""Which cells of a plan one run is for, and in which order: --only, --retry-failed and --order. The plan stays as it is."""

from collections.abc import Sequence
from contextlib import suppress

from qtablate.axes import AXES, BATCH_SIZE, Condition, Level, parse_levels
from qtablate.errors import ConfigError
from qtablate.grid import Cell
from qtablate.grid_config import BatchSizeIs
from qtablate.run_config import RunConfig
from qtablate.store import Store

_SEED = "seed"


def selected(
    cells: Sequence[Cell], run: RunConfig, keys: frozenset[str], conditions: Sequence[Condition], store: Store
) -> list[Cell]:
    """Return the cells that a run is for, in the order in which they are run.

    Args:
        cells: that are not finished, seed by seed.
        run: its settings.
        keys: of the cells that --only names.
        conditions: of the grid, in their order.
        store: the results folder.
    """
    chosen = [cell for cell in cells if cell.key in keys]
    if run.retry_failed is not None:
        chosen = [cell for cell in chosen if has_failed(cell, store) == run.retry_failed]
    if run.order == "conditions":
        chosen.sort(key=lambda cell: conditions.index(cell.condition))
    return chosen


def has_failed(cell: Cell, store: Store) -> bool:
    """Whether the last try of a cell has failed."""
    record = store.read_record(cell.key)
    return record is not None and record.status == "failed"


def matching(only: str, cells: Sequence[Cell], batch_size_is: BatchSizeIs) -> frozenset[str]:
    """Return the keys of the cells that --only names: all of them where it names none.

    Args:
        only: such as `tokens=32,accum=4; tokens=0,seed=1`.
        cells: of the grid.
        batch_size_is: what `batch-size` gives, there and in `only`.

    Raises:
        ConfigError: it has another form, or names an axis, a level or a combination that no cell has.
    """
    levels_of = {cell.key: _levels(cell, batch_size_is) for cell in cells}
    if not only.strip():
        return frozenset(levels_of)
    found: set[str] = set()
    for text in only.split(";"):
        wanted = parse_levels("--only", text.strip())
        if not wanted:
            raise ConfigError(f"--only: a part of '{only}' is empty; give levels such as tokens=32,accum=4")
        for option, level in wanted.items():
            _check_level(option, level, list(levels_of.values()))
        keys = {key for key, levels in levels_of.items() if all(_is(levels[name], level) for name, level in wanted.items())}
        if not keys:
            raise ConfigError(f"--only {text.strip()}: no cell of the grid has all of these levels; see --dry-run")
        found |= keys
    return frozenset(found)


def _levels(cell: Cell, batch_size_is: BatchSizeIs) -> dict[str, Level]:
    """The levels of a cell by the axis' option, as a configuration gives them, and its seed."""
    levels: dict[str, Level] = {axis.option: getattr(cell.condition, axis.column) for axis in AXES}
    if batch_size_is == "effective-batch":
        levels[BATCH_SIZE.option] = cell.condition.effective_batch_size
    return levels | {_SEED: cell.seed}


def _is(level: Level, text: str) -> bool:
    """Whether a level is what a text names."""
    if isinstance(level, str):
        return level == text
    with suppress(ValueError):
        return float(text) == level
    return False


def _check_level(option: str, text: str, cells: Sequence[dict[str, Level]]) -> None:
    """Check that some cell has this level. Raises ConfigError that names those that are there."""
    if option not in cells[0]:
        raise ConfigError(f"--only: unknown axis '{option}'; known: {', '.join(cells[0])}")
    there = list(dict.fromkeys(levels[option] for levels in cells))
    if not any(_is(level, text) for level in there):
        known = ", ".join(f"{level:g}" if isinstance(level, float) else str(level) for level in there)
        raise ConfigError(f"--only {option}={text}: no cell of the grid has it; there are {known}")
