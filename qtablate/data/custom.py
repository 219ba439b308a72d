"""Load a user's own benchmark from a Python file with a function `benchmark(frames, image_size, items_per_task)`.

The function returns an object with the attributes of `Benchmark` in datatypes.py; examples/counting_bench.py shows one.
The file is executed like any Python script, so name only files that you trust.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from qtablate.data.texts import validate_encodable, validate_option_count
from qtablate.datatypes import Benchmark, Frames, Item, Problem
from qtablate.errors import BadMedia, DataError

_REQUIRED = ("items", "problems", "fingerprint", "clips", "key", "frames")


class CustomBenchmark:
    """The benchmark that the file's function returns, without unusable items; its fingerprint includes the file's content."""

    def __init__(self, file: str, num_frames: int, image_size: int, items_per_task: int | None) -> None:
        """Run the file and call its function.

        Args:
            num_frames: frames per clip that the model takes.
            image_size: height and width of the frames in pixels.
            items_per_task: largest number of items in a task; None: the file decides.

        Raises:
            DataError: there is no such file or function, or what it returns lacks an attribute.
        """
        path = Path(file)
        self._inner = _call_benchmark(path, num_frames, image_size, items_per_task)
        self.items: list[Item] = []
        self.problems: list[Problem] = [*self._inner.problems]
        for item in self._inner.items:
            try:
                _validate(item)
                self.items.append(item)
            except BadMedia as problem:
                self.problems.append(Problem(f"{item.id!r:.60}"[1:-1], problem.kind, problem.detail))
        self.num_entries = len(self.items) + len(self.problems)
        content = path.read_bytes()
        self.fingerprint = hashlib.sha256(content + self._inner.fingerprint.encode()).hexdigest()[:16]
        self._file_hash = hashlib.sha256(content).hexdigest()[:16]

    def clips(self) -> Sequence[str]:
        """Return the names of all clips."""
        return self._inner.clips()

    def key(self, clip: str) -> str:
        """Identify a clip's pixels: the file's content and the clip's own key."""
        return f"{self._file_hash}/{self._inner.key(clip)}"

    def frames(self, clip: str) -> Frames:
        """Return a clip's frames (T, H, W, 3)."""
        return self._inner.frames(clip)

    def seconds(self, clip: str) -> tuple[float, ...]:
        """Return when each frame is shown, in seconds; nothing where the file's benchmark has no `seconds`."""
        return self._inner.seconds(clip) if hasattr(self._inner, "seconds") else ()


def _call_benchmark(path: Path, num_frames: int, image_size: int, items_per_task: int | None) -> Benchmark:
    """Run the file and return what its function returns. Raises DataError."""
    option = f"--bench custom:{path}"
    if not path.is_file():
        raise DataError(f"{option}: no such file; expected Python with a function benchmark(frames, image_size, ...)")
    spec = importlib.util.spec_from_file_location(f"qtablate_custom_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"{option} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, "benchmark", None)
    if not callable(function):
        raise DataError(f"{option} has no function benchmark(frames, image_size, items_per_task)")
    benchmark: Benchmark = function(num_frames, image_size, items_per_task)
    missing = [name for name in _REQUIRED if not hasattr(benchmark, name)]
    if missing:
        raise DataError(f"{option}: what benchmark() returned has no {', '.join(missing)}")
    return benchmark


def _validate(item: Item) -> None:
    """Raise BadMedia for an item that would end a sweep with an error."""
    validate_option_count(item.options)
    if item.answer not in range(len(item.options)):
        raise BadMedia("gold not among candidates", f"answer {item.answer} of {len(item.options)} candidates")
    texts = {"id": item.id, "task": item.task, "clip": item.clip, "question": item.question, "instruction": item.instruction}
    for field, text in (*texts.items(), *(("candidates", option) for option in item.options)):
        validate_encodable("malformed item", f"'{field}'", text)
