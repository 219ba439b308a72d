"""Read answers.csv of a cell whose rows begin as those of another cell do: the same control, item, task, clip and gold option.

The cells of a sweep answer the same items, so that all but the first file can be read by comparing bytes and picking digits,
several times as fast as any parser that makes a string of each field. What is not exactly alike is left to the parser.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
HEADER = b"control,item,task,cluster,gold,predicted,predicted_per_token,correct,correct_per_token,options,scores,tokens\n"
_SHARED = 5
"""Columns from the left that cells of one sweep have in common."""
_PREDICTED, _CORRECT, _OPTIONS, _SCORES = 0, 4, 8, 10
"""Where fields begin behind the shared ones, if those before them are single digits."""
_COMMA, _NEWLINE, _ZERO = b",\n0"


@dataclass(frozen=True, slots=True, eq=False)
class PlainAnswers:
    """What differs between the answers of cells, by row of the file."""

    predicted: Places
    correct: Places
    options: Places
    scores: list[bytes]
    """Of the first rows alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """How the rows of a file begin, behind its header."""

    beginnings: list[bytes]
    """Of every row, up to the comma behind the gold option."""
    sizes: Places
    """Of each of them, in bytes."""

    @classmethod
    def of(cls, content: bytes) -> "Rows | None":
        """Return the beginnings of a file's rows; None where a parser might not take every line for a row."""
        if not _is_plain(content):
            return None
        lines = [line.split(b",") for line in content[len(HEADER) : -1].split(b"\n")]
        if any(len(fields) != HEADER.count(b",") + 1 for fields in lines):
            return None
        beginnings = [b",".join(fields[:_SHARED]) + b"," for fields in lines]
        return cls(beginnings, np.array([len(one) for one in beginnings], np.int64))

    def read(self, content: bytes, scored: int) -> PlainAnswers | None:
        """Read a file with the same beginnings of rows; None where it has others, or fields that are no single digits.

        Args:
            content: of the file.
            scored: the number of rows, from the first on, whose scores are read.
        """
        if not _is_plain(content):
            return None
        array = np.frombuffer(content, np.uint8)
        newlines = np.flatnonzero(array == _NEWLINE)
        starts, commas = newlines[:-1] + 1, np.count_nonzero(array == _COMMA)
        if len(starts) != len(self.sizes) or commas != HEADER.count(b",") * len(newlines):
            return None
        if not all(map(content.startswith, self.beginnings, starts.tolist())):
            return None
        rest = starts + self.sizes
        if (rest + _SCORES > newlines[1:]).any() or (array[rest[:, None] + np.arange(1, _SCORES, 2)] != _COMMA).any():
            return None
        digits = array[rest[:, None] + np.array([_PREDICTED, _CORRECT, _OPTIONS])].astype(np.int64) - _ZERO  # (rows, 3)
        if (digits < 0).any() or (digits > 9).any():
            return None
        begins, limit = rest[:scored] + _SCORES, newlines[scored]
        ends_of_fields = np.flatnonzero(array[:limit] == _COMMA)
        ends = ends_of_fields[np.searchsorted(ends_of_fields, begins).clip(max=len(ends_of_fields) - 1)]
        if (ends < begins).any() or (ends > newlines[1 : scored + 1]).any():
            return None
        scores = [content[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        return PlainAnswers(digits[:, 0], digits[:, 1], digits[:, 2], scores)


def _is_plain(content: bytes) -> bool:
    """Whether every line of a file is a row and every comma ends a field: nothing is quoted."""
    return content.startswith(HEADER) and content.endswith(b"\n") and not any(mark in content for mark in (b'"', b"\r", b"\0"))
