"""Conversations as pieces of text: the one place that knows turn markers and where the visual tokens go."""

from collections.abc import Iterable
from dataclasses import dataclass

from qtablate.bench.items import IMAGE, VIDEO


@dataclass(frozen=True, slots=True)
class Format:
    """Turn markers of one kind of model. Pieces are tokenised apart, so that the count of each is its own."""

    opening: str
    media: dict[str, tuple[str, str]]
    """What stands before and behind the visual tokens, by medium."""
    human: str
    assistant: str
    end: str


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    supervised: bool = False


FORMATS = {
    "nano": Format(
        opening="<s>",
        media={VIDEO: ("<video>", "</video>"), IMAGE: ("<image>", "</image>")},
        human="<q>",
        assistant="<a>",
        end="</s>",
    ),
}
"""A new kind of model is one entry here."""

DESCRIBE = "What happens?"
"""The question whose answer is a caption."""


def before_visual(form: Format, medium: str) -> list[Piece]:
    return [Piece(form.opening + form.media[medium][0])]


def after_visual(form: Format, medium: str) -> list[Piece]:
    return [Piece(form.media[medium][1])]


def asked(form: Format, question: str) -> list[Piece]:
    return [Piece(form.human), Piece(question), Piece(form.assistant)]


def answered(form: Format, answer: str) -> list[Piece]:
    return [Piece(answer, supervised=True), Piece(form.end, supervised=True)]


def told(form: Format, pairs: Iterable[tuple[str, str]]) -> list[Piece]:
    """All turns of a conversation, answers supervised."""
    return [piece for q, a in pairs for piece in (*asked(form, q), *answered(form, a))]
