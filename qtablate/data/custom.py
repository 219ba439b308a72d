"""A benchmark of the user's own: one Python file with a function `benchmark(frames, side, items_a_task)`.

It returns an object that offers what `Benchmark` in items.py lists. The file is run, as any file is that you name to
Python: name only your own. See examples/counting_bench.py.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from qtablate.data.texts import validate_encodable, validate_option_count
from qtablate.datatypes import Benchmark, Frames, Item, Problem
from qtablate.errors import BadMedia, DataError

_OFFERED = ("items", "problems", "fingerprint", "clips", "key", "frames")


class Custom:
    """What the file's function returned; its fingerprint holds the file's own content too."""

    def __init__(self, file: str, frames: int, side: int, items_a_task: int | None) -> None:
        path = Path(file)
        if not path.is_file():
            raise DataError(
                f"--bench custom:{file}: no such file; expected Python with a function benchmark(frames, side, ...)"
            )
        spec = importlib.util.spec_from_file_location(f"qtablate_custom_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise DataError(f"--bench custom:{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        make = getattr(module, "benchmark", None)
        if not callable(make):
            raise DataError(f"--bench custom:{file} has no function benchmark(frames, side, items_a_task)")
        self._inner: Benchmark = make(frames, side, items_a_task)
        missing = [name for name in _OFFERED if not hasattr(self._inner, name)]
        if missing:
            raise DataError(f"--bench custom:{file}: what benchmark() returned has no {', '.join(missing)}")
        self.items: list[Item] = []
        self.problems: list[Problem] = [*self._inner.problems]
        for item in self._inner.items:
            try:
                _validate(item)
                self.items.append(item)
            except BadMedia as problem:
                self.problems.append(Problem(f"{item.id!r:.60}"[1:-1], problem.kind, problem.detail))
        content = path.read_bytes()
        self.fingerprint = hashlib.sha256(content + self._inner.fingerprint.encode()).hexdigest()[:16]
        self._file = hashlib.sha256(content).hexdigest()[:16]

    def clips(self) -> Sequence[str]:
        return self._inner.clips()

    def key(self, clip: str) -> str:
        return f"{self._file}/{self._inner.key(clip)}"

    def frames(self, clip: str) -> Frames:
        return self._inner.frames(clip)

    def seconds(self, clip: str) -> tuple[float, ...]:
        """What the file's benchmark says of it, where it says anything."""
        return self._inner.seconds(clip) if hasattr(self._inner, "seconds") else ()


def _validate(item: Item) -> None:
    """Raises BadMedia where an item would end a sweep."""
    validate_option_count(item.options)
    if item.answer not in range(len(item.options)):
        raise BadMedia("gold not among candidates", f"answer {item.answer} of {len(item.options)} candidates")
    named = {"id": item.id, "task": item.task, "clip": item.clip, "question": item.question, "instruction": item.instruction}
    for what, text in (*named.items(), *(("candidates", option) for option in item.options)):
        validate_encodable("malformed item", f"'{what}'", text)
