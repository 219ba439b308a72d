"""Where every cell of a sweep stands, from its folder alone: what is finished, who runs what, and how far that is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qtablate.axes import Condition
from qtablate.claims.holder import Holder
from qtablate.execute.events import Progress
from qtablate.grid import condition_names
from qtablate.records import PlannedCell, Record
from qtablate.store import Store

Status = Literal["finished", "running", "silent", "queued", "failed", "damaged", "not needed", "waiting"]
STATUSES: tuple[Status, ...] = ("finished", "running", "silent", "queued", "failed", "damaged", "not needed", "waiting")
"""`silent`: claimed by a process that has not been heard of for long, so that another one may take it over; `queued`: a
scheduler has its job; `damaged`: its record is not what was written; `not needed`: everything that it would tell is
decided (--until-decided); `waiting`: none of these."""
_SECONDS = ("train_seconds", "eval_seconds", "control_seconds", "diagnose_seconds")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one cell stands."""

    key: str
    condition: str
    """Its name, without the seed."""
    seed: int
    status: Status
    owner: str = ""
    """Who runs it."""
    heard: float | None = None
    """Seconds since its owner was heard of."""
    progress: Progress | None = None
    """How far it is, where it runs."""
    queued: str = ""
    """Its job, and why that waits, where a scheduler has it."""
    error: str = ""
    """First line, of one that has failed."""
    accuracy: float | None = None
    seconds: float | None = None
    """That it took, where it is finished."""

    @property
    def name(self) -> str:
        """Condition and seed."""
        return f"{self.condition}, seed {self.seed}"


def standings(store: Store, queued: Mapping[str, str]) -> list[Standing]:
    """Return where each cell of a folder's sweep stands, in their order. Checksums are not compared: a report does that.

    Args:
        store: the folder.
        queued: jobs of a scheduler, by the key of their cell.

    Raises:
        StoreError: the folder is no sweep's.
    """
    sweep = store.read_sweep()
    planned = sweep.all_cells
    conditions = [Condition(**cell.condition) for cell in planned]  # type: ignore[arg-type]
    names, holders = condition_names(list(dict.fromkeys(conditions))), store.claims.all()
    return [
        _standing(store, cell, names[condition], holders.get(cell.key), queued.get(cell.key, ""), cell.key in sweep.not_needed)
        for cell, condition in zip(planned, conditions, strict=True)
    ]


def _standing(
    store: Store, cell: PlannedCell, condition: str, holder: Holder | None, queued: str, not_needed: bool
) -> Standing:
    record = store.read_record(cell.key)
    status = _status(record, holder, queued, store.cell_file(cell.key, "record.json").exists())
    if not_needed and status in ("waiting", "failed", "damaged"):
        status = "not needed"
    figures = record.figures if record and status == "finished" else None
    held = holder if status in ("running", "silent") else None
    return Standing(
        cell.key,
        condition,
        cell.seed,
        status,
        owner=str(held.owner or "") if held else "",
        heard=held.age if held else None,
        progress=Progress(**held.about["progress"]) if held and "progress" in held.about else None,
        queued=queued if status == "queued" else "",
        error=record.error.partition("\n")[0] if record and status == "failed" else "",
        accuracy=figures["accuracy"]["value"] if figures else None,
        seconds=sum(figures[name] for name in _SECONDS) if figures else None,
    )


def _status(record: Record | None, holder: Holder | None, queued: str, exists: bool) -> Status:
    if record and record.status == "ok":
        return "finished"
    if holder:
        return "running" if holder.live else "silent"
    if queued:
        return "queued"
    if record and record.status == "failed":
        return "failed"
    return "damaged" if exists and record is None else "waiting"


def seconds_left(cells: Sequence[Standing]) -> float | None:
    """Return how long the rest will take if as many cells go on at once as now, by those that are finished; None where none is
    finished or none runs."""
    took = [cell.seconds for cell in cells if cell.seconds is not None]
    running = [cell for cell in cells if cell.status == "running"]
    if not took or not running:
        return None
    rest: float = sum(cell.status not in ("finished", "running", "not needed") for cell in cells)
    rest += sum(1 - (cell.progress.share if cell.progress else 0) for cell in running)
    return rest * sum(took) / len(took) / len(running)


def count(cells: Iterable[Standing]) -> dict[Status, int]:
    """Return how many cells stand at each status, none left out."""
    counts = dict.fromkeys(STATUSES, 0)
    for cell in cells:
        counts[cell.status] += 1
    return counts
