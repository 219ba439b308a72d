"""Conversations that are tokenised as two whole strings, before and behind the visual tokens, as VideoChat2's are.

Which tokens are supervised is found by counting: the text behind the visual tokens is cut after each end of a turn of the
human, every piece is tokenised alone, stripped of spaces behind it, and its length says where it lies in the whole. The
answers, with the end token behind each, are what remains. (Shared facts: videochat2.md; golden labels in tests/golden.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Tokenise = Callable[[str], Sequence[int]]
"""A text to ids, nothing added."""

IGNORE = -100


@dataclass(frozen=True, slots=True)
class Turns:
    """What marks the human's turns."""

    start: str
    end: str


MISTRAL = Turns("[INST]", "[/INST]")


@dataclass(frozen=True, slots=True)
class Told:
    """A conversation around its visual tokens."""

    before: list[int]
    behind: list[int]
    labels: list[int]
    """Of `behind`; IGNORE where not supervised. Nothing before the visual tokens is."""


def told(text: str, medium: tuple[str, str], turns: Turns, tokenise: Tokenise) -> Told:
    """A whole conversation with one place for visual tokens, between `medium`'s two markers, which are plain text.

    Raises:
        ValueError: the markers do not stand next to each other exactly once.
    """
    opening, closing = medium
    parts = text.split(opening + closing)
    if len(parts) != 2:
        raise ValueError(f"expected {opening}{closing} once in the conversation, found it {len(parts) - 1} times")
    before, behind = list(tokenise(parts[0] + opening)), list(tokenise(closing + parts[1]))
    return Told(before, behind, supervised(behind, closing + parts[1], turns, tokenise))


def supervised(ids: Sequence[int], text: str, turns: Turns, tokenise: Tokenise) -> list[int]:
    """Labels of a text's ids: the answers alone."""

    def length(piece: str) -> int:
        return len(tokenise(piece.rstrip()))

    labels = list(ids)
    *turned, _ = text.split(f" {turns.end} ")  # a piece that began with a space would have a token too many
    at = 0
    for number, piece in enumerate(turned):
        whole = length(f"{piece} {turns.end}")
        answer = length(piece.split(turns.start)[0]) if number else 0
        labels[at + answer : at + whole] = [IGNORE] * len(labels[at + answer : at + whole])
        at += whole
    return labels
