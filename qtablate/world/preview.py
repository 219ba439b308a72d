"""Contact sheets of the procedural benchmark: one picture per task, to check its questions by eye."""

from pathlib import Path

from qtablate.errors import DataError
from qtablate.files import atomic_path
from qtablate.video.contact_sheet import contact_sheet
from qtablate.world.benchmark import WorldBench


def preview(directory: Path, items_per_task: int, level: str) -> list[Path]:
    """Write directory/TASK.png for every task, one row per item, and return the paths.

    Raises:
        DataError: `directory` is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory} is not a folder: choose another name")
    world = WorldBench(items_per_task, level)
    out = []
    for task in world.tasks:
        path = directory / f"{task}.png"
        with atomic_path(path) as temporary:
            contact_sheet(world, [item for item in world.items if item.task == task]).save(temporary, format="png")
        out.append(path)
    return out
