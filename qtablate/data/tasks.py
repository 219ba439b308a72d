"""The tasks of a benchmark by name and by MVBench's short codes."""

from collections.abc import Iterable, Sequence

from qtablate.datatypes import Item
from qtablate.errors import ConfigError


def of_task(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Return the items of every task, in their order."""
    out: dict[str, list[Item]] = {}
    for item in items:
        out.setdefault(item.task, []).append(item)
    return out


def task_code(task: str) -> str:
    """Return a task's short code: the initials of its first and last word, as in MVBench's tables (MD: moving_direction)."""
    words = task.replace("-", "_").replace(" ", "_").split("_")
    return (words[0][:1] + words[-1][:1]).upper()


def find_task(text: str, tasks: Sequence[str]) -> str:
    """Return the task of this name or code. Raises ConfigError that names the known ones."""
    found = [task for task in tasks if text in (task, task.replace("_", " ")) or text.upper() == task_code(task)]
    if len(found) == 1 or text in found:
        return text if text in found else found[0]
    named = ", ".join(f"{task_code(task)} ({task})" for task in found or tasks)
    raise ConfigError(f"{'several tasks are' if found else 'unknown task'} '{text}'; expected one of {named}")
