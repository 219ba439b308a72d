"""The template of a sweep's cells: a process that has read their inputs once, and that each cell is a fork of.

The fork server imports this module when a sweep has it preloaded, and reads what the file named in QTABLATE_TEMPLATE asks for
(execute/worker.py). Where that fails nothing is kept: each cell then reads its inputs itself, and says what is wrong with them.
"""

import gc
import os
import pickle
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qtablate.cell.inputs import CellInputs, read_inputs
from qtablate.cell.jobs import InputsSpec
from qtablate.cell.process import one_thread
from qtablate.execute.worker import PRELOADED_DATA

REMEMBERED = 50_000
"""Samples at most whose tokens the template keeps: they take about 5 kB each."""
_inputs: list[tuple[InputsSpec, CellInputs]] = []
"""What this process has read and not given away."""


def take(spec: InputsSpec) -> CellInputs | None:
    """Give away the inputs that a spec describes, once: they are the caller's own. None where they have not been read."""
    for number, (known, _) in enumerate(_inputs):
        if known == spec:
            return _inputs.pop(number)[1]
    return None


def read_all(specs: Sequence[InputsSpec]) -> None:
    """Read the inputs of all specs. What cannot be read is left out."""
    one_thread()  # a process that has started threads must not be forked
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for spec in specs:
        try:
            inputs = read_inputs(spec)
            inputs.encoder.remember(inputs.samples[:REMEMBERED])
        except Exception:
            continue
        _inputs.append((spec, inputs))
    gc.collect()
    gc.freeze()  # a collection in a cell would write to the pages that it shares with the others


if PRELOADED_DATA in os.environ:
    with suppress(OSError):
        read_all(pickle.loads(Path(os.environ[PRELOADED_DATA]).read_bytes()))
