"""VideoChat2's conversations: two whole strings, before and behind the visual tokens, tokenised each at once.

Which tokens are supervised is found by counting: the text behind the visual tokens is cut at its turn markers, every piece
is tokenised alone, and its length says where it lies in the whole. The answers, with the end behind each, are what
remains. Source of the three forms and rules: OpenGVLab/Ask-Anything video_chat2 (`dataset/it_dataset*.py`,
`models/videochat_*/videochat2_it_*.py`; facts only); golden labels of the Mistral form in tests/golden.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from qtablate.prompts.mvbench import LETTERS, START, listed
from qtablate.prompts.segments import (
    IGNORE,
    TAGS,
    Asked,
    Format,
    Pairs,
    Reads,
    Tokenise,
    Told,
    instruction_alone,
    parted,
    shared,
)

Write = Callable[[str, str, Pairs], str]
"""(instruction, media markers, pairs) -> the whole text."""


@dataclass(frozen=True, slots=True)
class Turns:
    """What marks the human's turns."""

    start: str
    end: str
    """Behind it an answer begins."""
    stripped: bool = True
    """Pieces are counted without the spaces behind them."""
    markers_too: bool = False
    """Vicuna's rule: the marker of a human's turn is supervised when it follows an answer, or is the first; so is the
    assistant's."""


@dataclass(frozen=True, slots=True)
class Whole:
    write: Write
    """A conversation of training."""
    turns: Turns
    evaluates: str
    """One question of an evaluation, as the original's notebooks write it, up to where the answer begins: the instruction
    stands before all and again before the question."""
    end: str
    """Behind an answer."""
    media: Mapping[str, tuple[str, str]] = field(default_factory=lambda: TAGS)
    reads: Reads = instruction_alone
    bos: Literal["", "front", "behind"] = "front"
    note: str = ""
    """Said right behind the medium, as `seconds_told` has it."""

    def told(self, medium: str, instruction: str, pairs: Pairs, tokenise: Tokenise) -> Told:
        return told(self._text(medium, instruction, pairs), self.media[medium], self.turns, tokenise)

    def asked(self, medium: str, instruction: str, question: str, options: Sequence[str], tokenise: Tokenise) -> Asked:
        before, prompt = self._prompt(medium, instruction, question, "")
        start = len(tokenise(prompt.rstrip() if self.turns.stripped else prompt))
        answers = [self._prompt(medium, instruction, question, f"{option}{self.end}")[1] for option in options]
        wholes = [list(tokenise(answer)) for answer in answers]
        start = min(start, shared(wholes))  # short of a token that reaches across
        return Asked(list(tokenise(before)), wholes[0][:start], [ids[start:] for ids in wholes])

    def lettered(self, medium: str, instruction: str, question: str, options: Sequence[str], tokenise: Tokenise) -> Asked:
        text = listed(question, options)
        prompts = [self._prompt(medium, instruction, text, START + letter) for letter in LETTERS[: len(options)]]
        return parted(list(tokenise(prompts[0][0])), [list(tokenise(behind)) for _, behind in prompts])

    @property
    def stops(self) -> Sequence[str]:
        return [self.end.strip()]

    @property
    def markers(self) -> Sequence[str]:
        return [self.turns.start.strip(), self.turns.end.strip(), *map("".join, self.media.values())]

    def _prompt(self, medium: str, instruction: str, question: str, answer: str) -> tuple[str, str]:
        shown = self._shown(medium)
        return cut(self.evaluates.format(system=instruction, shown=shown, question=question) + answer, self.media[medium])

    def qformer(self, instruction: str, question: str, training: bool) -> str:
        return self.reads(instruction, question, training)

    def _text(self, medium: str, instruction: str, pairs: Pairs) -> str:
        return self.write(instruction, self._shown(medium), pairs)

    def _shown(self, medium: str) -> str:
        return "".join(self.media[medium]) + f" {self.note}".rstrip()


def seconds_told(seconds: Sequence[float]) -> str:
    """The original's sentence on when the frames were sampled (its `add_second_msg`), with a decimal as golden texts have."""
    return f"The video contains {len(seconds)} frames sampled at {', '.join(f'{one:.1f}' for one in seconds)} seconds."


def noted(form: Format, note: str) -> Format:
    """The form with something said right behind the medium. Raises ValueError for a form that has no place for it."""
    if not isinstance(form, Whole):
        raise ValueError("only VideoChat2's conversations say something behind the medium")
    return replace(form, note=note)


def cut(text: str, medium: tuple[str, str]) -> tuple[str, str]:
    """(before, behind) the visual tokens' one place, between `medium`'s two markers.

    Raises:
        ValueError: the markers do not stand next to each other exactly once.
    """
    opening, closing = medium
    parts = text.split(opening + closing)
    if len(parts) != 2:
        raise ValueError(f"expected {opening}{closing} once in the conversation, found it {len(parts) - 1} times")
    return parts[0] + opening, closing + parts[1]


def told(text: str, medium: tuple[str, str], turns: Turns, tokenise: Tokenise) -> Told:
    """A whole conversation with one place for visual tokens. Raises ValueError where `cut` or `supervised` does."""
    before, behind = cut(text, medium)
    ids = list(tokenise(behind))
    return Told(list(tokenise(before)), ids, supervised(ids, behind, turns, tokenise))


def supervised(ids: Sequence[int], text: str, turns: Turns, tokenise: Tokenise) -> list[int]:
    """Labels of a text's ids: the answers alone (and, by Vicuna's rule, turn markers).

    Raises:
        ValueError: the pieces' tokens do not add up to the whole's, so no place can be told.
    """

    def length(piece: str) -> int:
        return len(tokenise(piece.rstrip() if turns.stripped else piece))

    pieces = text.split(turns.end)
    # the marker belongs to the question that it ends, but by Vicuna's rule to the answer that follows
    if turns.markers_too:
        pieces = [pieces[0], *(turns.end + piece for piece in pieces[1:])]
    else:
        pieces = [*(piece + turns.end for piece in pieces[:-1]), pieces[-1]]
    labels, at = list(ids), 0
    for number, piece in enumerate(pieces):
        whole, first = length(piece), number == 0
        answer, asks, _ = piece.partition(turns.start)
        kept = whole if not (first or asks) else 0 if first else length(answer + (turns.start if turns.markers_too else ""))
        marker = range(length(answer), length(answer) + length(turns.start)) if first and turns.markers_too else range(0)
        for place in range(kept, whole):
            if place not in marker and at + place < len(labels):
                labels[at + place] = IGNORE
        at += whole
    if at != len(ids):
        raise ValueError(f"the turns have {at} tokens apart and {len(ids)} together, so no answer's place can be told")
    return labels


def _mistral(instruction: str, shown: str, pairs: Pairs) -> str:
    parts = [instruction] if instruction else []
    parts.append(f"[INST] {shown} [/INST]")
    for question, answer in pairs:
        parts += [f"[INST] {question} [/INST]"] if question else []
        parts.append(f"{answer} </s>")
    return " ".join(parts).strip()


def _vicuna(instruction: str, shown: str, pairs: Pairs) -> str:
    text = (f"{instruction} " if instruction else "") + f"###Human: {shown} "
    for question, answer in pairs:
        text += f"###Human: {question} " if question else ""
        text += f"###Assistant: {answer} "
    return text + "###"


def _phi(instruction: str, shown: str, pairs: Pairs) -> str:
    text = f"<|system|>\n{instruction}<|end|>\n" if instruction else ""
    for number, (question, answer) in enumerate(pairs):
        text += f"<|user|>\n{'' if number else shown + chr(10)}{question.strip()}<|end|>\n<|assistant|>\n"
        text += f"{answer.strip()}<|end|>\n"
    return text.strip()


def _with_first_question(instruction: str, question: str, training: bool) -> str:
    """Vicuna's Q-Former reads the first question too, in training and where there is an instruction."""
    return f"{instruction} {question}".strip() if instruction and training else instruction


MISTRAL = Whole(
    _mistral,
    Turns("[INST] ", " [/INST] "),
    evaluates="{system}[INST] {shown} [/INST] [INST] {system}{question} [/INST] ",
    end=" </s>",
)
VICUNA = Whole(
    _vicuna,
    Turns("###Human: ", "###Assistant: ", markers_too=True),
    evaluates="{system}###Human: {shown}\n###Human: {system}{question}\n###Assistant: ",
    end=" ###",
    reads=_with_first_question,
)
PHI = Whole(
    _phi,
    Turns("<|user|>\n", "<|end|>\n<|assistant|>\n", stripped=False),
    evaluates="{system}<|user|>\n{shown}\n{system}{question}<|end|>\n<|assistant|>\n",
    end="<|end|>",
)
