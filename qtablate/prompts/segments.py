"""Conversation formats whose turns are tokenized segment by segment (nano, InstructBLIP, chat models).

Each segment (a turn marker, a question, an answer) is tokenized alone, so its supervision is known from the start.
Formats that tokenize a whole string at once, as VideoChat2 does, are in videochat2.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from qtablate.prompts.mvbench import ANSWER_PREFIX, LETTERS, format_question
from qtablate.prompts.types import (
    EOS,
    IGNORE,
    BosPosition,
    EncodedConversation,
    EncodedQuestion,
    QFormerText,
    QuestionAnswers,
    Tokenize,
    instruction_only,
    split_options,
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a conversation that is tokenized alone."""

    text: str
    supervised: bool = False


@dataclass(frozen=True, slots=True)
class SegmentTemplate:
    """A format made of turn markers; implements `Format`."""

    media: Mapping[str, tuple[str, str]]
    """Texts in front of and behind the visual tokens, by medium."""
    human: str
    """Marker in front of a question."""
    assistant: str
    """Marker between a question and its answer."""
    end: str
    """Marker behind an answer; EOS for the tokenizer's own."""
    opening: str = ""
    """Text before everything."""
    first_human: str | None = None
    """Marker in front of the first question, where it differs from `human`."""
    bos: BosPosition = "none"
    joined: bool = False
    """Whether neighboring segments that are both supervised, or both not, are tokenized as one text."""
    qformer_rule: QFormerText = instruction_only

    @property
    def stop_strings(self) -> Sequence[str]:
        """Texts that end a generated answer."""
        return [self.end] if self.end != EOS else []

    @property
    def reserved_strings(self) -> Sequence[str]:
        """None: turns are never searched for in a text."""
        return ()

    def encode_conversation(
        self, medium: str, instruction: str, pairs: QuestionAnswers, tokenize: Tokenize
    ) -> EncodedConversation:
        """Encode a training conversation; answers and their end markers are supervised."""
        segments = [Segment(self.media[medium][1])]
        for number, (question, answer) in enumerate(pairs):
            segments += self._question_segments(number == 0, instruction, question)
            segments += [Segment(answer, True), Segment(self.end, True)]
        suffix: list[int] = []
        labels: list[int] = []
        for segment in self._join(segments):
            ids = list(tokenize(segment.text))
            suffix += ids
            labels += ids if segment.supervised else [IGNORE] * len(ids)
        return EncodedConversation(self._encode_prefix(medium, tokenize), suffix, labels)

    def encode_question(
        self, medium: str, instruction: str, question: str, options: Sequence[str], tokenize: Tokenize
    ) -> EncodedQuestion:
        """Encode a question alone, with the full text of every option as a possible answer."""
        context = self._join([Segment(self.media[medium][1]), *self._question_segments(True, instruction, question)])
        answers = [self._join([Segment(option, True), Segment(self.end, True)]) for option in options]
        return EncodedQuestion(
            self._encode_prefix(medium, tokenize),
            _tokenize_segments(context, tokenize),
            [_tokenize_segments(answer, tokenize) for answer in answers],
        )

    def encode_question_with_letters(
        self, medium: str, instruction: str, question: str, options: Sequence[str], tokenize: Tokenize
    ) -> EncodedQuestion:
        """Encode a question that lists its options; the possible answers are their letters."""
        context = [Segment(self.media[medium][1]), *self._question_segments(True, "", format_question(question, options))]
        suffixes = [
            _tokenize_segments(self._join([*context, Segment(ANSWER_PREFIX + letter)]), tokenize)
            for letter in LETTERS[: len(options)]
        ]
        return split_options(self._encode_prefix(medium, tokenize), suffixes)

    def qformer_text(self, instruction: str, question: str, training: bool) -> str:
        """Return the text for a text-reading Q-Former, by `qformer_rule`."""
        return self.qformer_rule(instruction, question, training)

    def _encode_prefix(self, medium: str, tokenize: Tokenize) -> list[int]:
        return _tokenize_segments([Segment(self.opening + self.media[medium][0])], tokenize)

    def _question_segments(self, first: bool, instruction: str, question: str) -> list[Segment]:
        human = self.first_human if first and self.first_human is not None else self.human
        return [Segment(human), Segment(question or instruction), Segment(self.assistant)]

    def _join(self, segments: list[Segment]) -> list[Segment]:
        """Join neighbors of equal supervision into one segment each, where the format is `joined`."""
        if not self.joined:
            return segments
        groups = groupby(segments, key=lambda segment: segment.supervised)
        return [Segment("".join(segment.text for segment in group), supervised) for supervised, group in groups]


def _tokenize_segments(segments: Iterable[Segment], tokenize: Tokenize) -> list[int]:
    return [token for segment in segments if segment.text for token in tokenize(segment.text)]
