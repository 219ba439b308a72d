"""Conversations as token ids around their visual tokens: the one place that knows turn markers.

A format of `Pieces` tokenises every piece of a conversation alone (nano, chat models); one of `Whole` tokenises all that
stands before the visual tokens and all that stands behind them as two strings, as VideoChat2 does (turns.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Literal, Protocol

from qtablate.datatypes import IMAGE, VIDEO
from qtablate.prompts.mvbench import LETTERS, START, listed

Tokenise = Callable[[str], Sequence[int]]
"""A text to ids, nothing added; EOS to the tokenizer's own end of a text."""
Pairs = Sequence[tuple[str, str]]
"""Questions and answers; an empty question is none (captions have their task in the instruction)."""

IGNORE = -100  # a position that is not supervised (torch's cross_entropy skips it)
EOS = "\0eos"
DESCRIBE = "What happens?"
"""The question whose answer is a caption."""


@dataclass(frozen=True, slots=True)
class Told:
    """A conversation around its visual tokens."""

    before: list[int]
    behind: list[int]
    labels: list[int]
    """Of `behind`; IGNORE where not supervised. Nothing before the visual tokens is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question around its visual tokens, and every answer to choose from."""

    before: list[int]
    context: list[int]
    """Behind the visual tokens, up to where an answer begins."""
    options: list[list[int]]
    """Each answer with its end."""


class Format(Protocol):
    """How one kind of model is told a conversation."""

    @property
    def bos(self) -> Literal["", "front", "behind"]:
        """Where the tokenizer's own beginning of a text goes: nowhere, in front of all, or behind the visual tokens."""
        ...

    def told(self, medium: str, instruction: str, pairs: Pairs, tokenise: Tokenise) -> Told:
        """Raises ValueError when the text cannot be cut into turns."""
        ...

    def asked(self, medium: str, instruction: str, question: str, options: Sequence[str], tokenise: Tokenise) -> Asked:
        """The question alone, every option as a whole answer."""
        ...

    def lettered(self, medium: str, instruction: str, question: str, options: Sequence[str], tokenise: Tokenise) -> Asked:
        """The question with its options listed, a letter each as the answer's first token (prompts/mvbench.py)."""
        ...

    @property
    def stops(self) -> Sequence[str]:
        """Texts that end a generated answer."""
        ...

    @property
    def markers(self) -> Sequence[str]:
        """Texts that no question or answer may hold: turns and the clip's place are found by them."""
        ...

    def qformer(self, instruction: str, question: str, training: bool) -> str:
        """What a Q-Former that reads text is given of a conversation and its first question."""
        ...


Reads = Callable[[str, str, bool], str]


def instruction_alone(instruction: str, question: str, training: bool) -> str:
    """The Q-Former's text does not depend on the question, so visual tokens are made once a clip."""
    return instruction


def question_alone(instruction: str, question: str, training: bool) -> str:
    return question or instruction


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    supervised: bool = False


@dataclass(frozen=True, slots=True)
class Pieces:
    """Turn markers; pieces are tokenised apart, so that the count of each is its own."""

    media: Mapping[str, tuple[str, str]]
    """What stands before and behind the visual tokens, by medium."""
    human: str
    assistant: str
    end: str
    opening: str = ""
    first_human: str | None = None
    """In front of the first question, where it is another marker than in front of later ones."""
    bos: Literal["", "front", "behind"] = ""
    joined: bool = False
    """Whether neighbours that are both supervised, or both not, are tokenised as one."""
    reads: Reads = instruction_alone

    @property
    def markers(self) -> Sequence[str]:
        return ()

    def told(self, medium: str, instruction: str, pairs: Pairs, tokenise: Tokenise) -> Told:
        behind = [Piece(self.media[medium][1])]
        for number, (question, answer) in enumerate(pairs):
            behind += [*self._question(number == 0, instruction, question), Piece(answer, True), Piece(self.end, True)]
        ids: list[int] = []
        labels: list[int] = []
        for piece in self._cut(behind):
            new = list(tokenise(piece.text))
            ids += new
            labels += new if piece.supervised else [IGNORE] * len(new)
        return Told(self._before(medium, tokenise), ids, labels)

    def asked(self, medium: str, instruction: str, question: str, options: Sequence[str], tokenise: Tokenise) -> Asked:
        behind = [Piece(self.media[medium][1]), *self._question(True, instruction, question)]
        answers = [self._cut([Piece(option, True), Piece(self.end, True)]) for option in options]
        return Asked(
            self._before(medium, tokenise), _ids(self._cut(behind), tokenise), [_ids(pieces, tokenise) for pieces in answers]
        )

    def lettered(self, medium: str, instruction: str, question: str, options: Sequence[str], tokenise: Tokenise) -> Asked:
        behind = [Piece(self.media[medium][1]), *self._question(True, "", listed(question, options))]
        wholes = [_ids(self._cut([*behind, Piece(START + letter)]), tokenise) for letter in LETTERS[: len(options)]]
        return parted(self._before(medium, tokenise), wholes)

    @property
    def stops(self) -> Sequence[str]:
        return [self.end] if self.end != EOS else []

    def qformer(self, instruction: str, question: str, training: bool) -> str:
        return self.reads(instruction, question, training)

    def _before(self, medium: str, tokenise: Tokenise) -> list[int]:
        return _ids([Piece(self.opening + self.media[medium][0])], tokenise)

    def _question(self, first: bool, instruction: str, question: str) -> list[Piece]:
        human = self.first_human if first and self.first_human is not None else self.human
        return [Piece(human), Piece(question or instruction), Piece(self.assistant)]

    def _cut(self, pieces: list[Piece]) -> list[Piece]:
        if not self.joined:
            return pieces
        groups = groupby(pieces, key=lambda piece: piece.supervised)
        return [Piece("".join(piece.text for piece in group), supervised) for supervised, group in groups]


def shared(sequences: Sequence[list[int]]) -> int:
    """How many tokens all begin with."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*sequences, strict=False)))


def begun_alike(sequences: Sequence[list[int]]) -> int:
    """As `shared`, short of a whole sequence: each has at least its last token left."""
    return min(shared(sequences), *(len(ids) - 1 for ids in sequences))


def parted(before: list[int], wholes: Sequence[list[int]]) -> Asked:
    """What all begin with as the context, the rest of each as an option of its own."""
    start = begun_alike(wholes)
    return Asked(before, wholes[0][:start], [ids[start:] for ids in wholes])


def _ids(pieces: Iterable[Piece], tokenise: Tokenise) -> list[int]:
    return [one for piece in pieces if piece.text for one in tokenise(piece.text)]


NANO_FORM = Pieces(
    opening="<s>",
    media={VIDEO: ("<video>", "</video>"), IMAGE: ("<image>", "</image>")},
    human="<q>",
    assistant="<a>",
    end="</s>",
)
TAGS = {VIDEO: ("<Video>", "</Video>"), IMAGE: ("<Image>", "</Image>")}
"""VideoChat2's; plain text, not special tokens."""
NO_TAGS = {VIDEO: ("", ""), IMAGE: ("", "")}


def formats() -> dict[str, Format]:
    """By the name that a model's config gives (`conversation`). A new kind of model is one entry here."""
    from qtablate.prompts.videochat2 import MISTRAL, PHI, VICUNA

    return {
        "nano": NANO_FORM,
        "videochat2_mistral": MISTRAL,
        "videochat2_vicuna": VICUNA,
        "videochat2_phi": PHI,
        # stage 2 of the original: prompt and caption are tokenised apart
        "videochat2_mistral_caption": Pieces(
            TAGS, human=" ", assistant=" [/INST]", end="</s>", opening="[INST] ", bos="front", joined=True
        ),
        "instructblip": Pieces(NO_TAGS, human="", assistant="", end=EOS, bos="behind", reads=question_alone),
        "chatml": Pieces(
            {VIDEO: ("<video>", "</video>\n"), IMAGE: ("<image>", "</image>\n")},
            opening="<|im_start|>user\n",
            first_human="",
            human="\n<|im_start|>user\n",
            assistant="<|im_end|>\n<|im_start|>assistant\n",
            end="<|im_end|>",
            joined=True,
        ),
        "plain": Pieces(
            {VIDEO: ("Video: ", "\n"), IMAGE: ("Image: ", "\n")},
            human="Question: ",
            assistant="\nAnswer: ",
            end=EOS,
            bos="front",
            joined=True,
        ),
    }
