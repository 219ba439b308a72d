"""What a conversation format is: the protocol, the token ids that it makes, and what all formats share.

Shapes: token ids are flat lists; a conversation is `prefix + [visual tokens] + suffix`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Protocol

Tokenize = Callable[[str], Sequence[int]]
"""Turns a text into token ids without adding special tokens; EOS becomes the tokenizer's own end-of-text token."""
QuestionAnswers = Sequence[tuple[str, str]]
"""(question, answer) pairs of one conversation; the question of a caption is empty, since the instruction asks for it."""
BosPosition = Literal["none", "start", "after_visual"]
"""Where the tokenizer's beginning-of-text token goes: nowhere, before everything, or right behind the visual tokens."""

IGNORE = -100
"""Label of a position that is not supervised (the default `ignore_index` of torch's cross_entropy)."""
EOS = "\0eos"
"""Stands for the tokenizer's own end-of-text token in templates, whatever its text is."""
CAPTION_QUESTION = "What happens?"
"""The question whose answer is a caption."""


@dataclass(frozen=True, slots=True)
class EncodedConversation:
    """Token ids of a conversation around its visual tokens, with training labels."""

    prefix: list[int]
    """Ids in front of the visual tokens; never supervised."""
    suffix: list[int]
    """Ids behind the visual tokens."""
    labels: list[int]
    """Labels of `suffix`: the id itself where it is supervised, else IGNORE."""


@dataclass(frozen=True, slots=True)
class EncodedQuestion:
    """Token ids of a multiple-choice question around its visual tokens, with every answer to choose from."""

    prefix: list[int]
    """Ids in front of the visual tokens."""
    context: list[int]
    """Ids behind the visual tokens, up to where an answer begins."""
    options: list[list[int]]
    """Ids of each answer, its end marker included."""


class Format(Protocol):
    """How one kind of model writes a conversation."""

    @property
    def bos(self) -> BosPosition:
        """Where the tokenizer's beginning-of-text token goes."""
        ...

    @property
    def stop_strings(self) -> Sequence[str]:
        """Texts that end a generated answer."""
        ...

    @property
    def reserved_strings(self) -> Sequence[str]:
        """Texts that no question or answer may contain, because turns and visual tokens are located by them."""
        ...

    def encode_conversation(
        self, medium: str, instruction: str, pairs: QuestionAnswers, tokenize: Tokenize
    ) -> EncodedConversation:
        """Encode a training conversation.

        Raises:
            ValueError: the text cannot be split into turns.
        """
        ...

    def encode_question(
        self, medium: str, instruction: str, question: str, options: Sequence[str], tokenize: Tokenize
    ) -> EncodedQuestion:
        """Encode a question alone, with the full text of every option as a possible answer.

        Raises:
            ValueError: the text cannot be split at the visual tokens.
        """
        ...

    def encode_question_with_letters(
        self, medium: str, instruction: str, question: str, options: Sequence[str], tokenize: Tokenize
    ) -> EncodedQuestion:
        """Encode a question that lists its options; the possible answers are their letters (prompts/mvbench.py).

        Raises:
            ValueError: the text cannot be split at the visual tokens.
        """
        ...

    def qformer_text(self, instruction: str, question: str, training: bool) -> str:
        """Return the text that a text-reading Q-Former gets with a conversation that starts with `question`."""
        ...


QFormerText = Callable[[str, str, bool], str]
"""(instruction, first question, training) -> the text for the Q-Former."""


def instruction_only(instruction: str, question: str, training: bool) -> str:
    """Give the Q-Former the instruction, so that visual tokens are computed once per clip, not once per question."""
    return instruction


def question_only(instruction: str, question: str, training: bool) -> str:
    """Give the Q-Former the question, or the instruction where there is no question (InstructBLIP)."""
    return question or instruction


def common_prefix_length(sequences: Sequence[list[int]]) -> int:
    """Count the leading tokens that all sequences share."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*sequences, strict=False)))


def common_context_length(sequences: Sequence[list[int]]) -> int:
    """Count the leading tokens that all sequences share, leaving at least one token to each sequence."""
    return min(common_prefix_length(sequences), *(len(ids) - 1 for ids in sequences))


def split_options(prefix: list[int], suffixes: Sequence[list[int]]) -> EncodedQuestion:
    """Make a question of full suffixes, one per option: what all share is the context, the rest of each is an option."""
    start = common_context_length(suffixes)
    return EncodedQuestion(prefix, suffixes[0][:start], [ids[start:] for ids in suffixes])
