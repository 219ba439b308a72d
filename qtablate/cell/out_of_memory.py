"""Which cells that ran out of memory in training can be tried again with their micro-batches in parts, and which cannot."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from qtablate.errors import QtablateError
from qtablate.execute.out_of_memory import is_out_of_memory
from qtablate.execute.worker import describe_error
from qtablate.model.dropout import has_dropout

_REFUSED = (
    "it is not tried again with its micro-batches in parts, because the model has dropout, whose masks would be others than "
    "those of the whole micro-batch; use --gradient-checkpointing, --precision bf16 or a smaller --batch-size"
)


@contextmanager
def dropout_refused(model: nn.Module, parts: int) -> Iterator[None]:
    """Train within the block; a model that draws dropout masks is refused where it trains in parts, or would be tried so.

    Raises:
        QtablateError: such a model ran out of memory, now or, where there is more than one part, in an earlier try.
    """
    dropout = has_dropout(model)
    if dropout and parts > 1:
        raise QtablateError(f"out of memory: the process was killed; {_REFUSED}")
    try:
        yield
    except Exception as error:
        if dropout and is_out_of_memory(error):
            raise QtablateError(f"{describe_error(error)}; {_REFUSED}") from error
        raise
