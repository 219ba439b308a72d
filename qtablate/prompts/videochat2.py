"""VideoChat2's conversation formats: one string in front of the visual tokens and one behind, each tokenized at once.

Supervised tokens are located by counting: the string behind the visual tokens is split at its turn markers, every piece is
tokenized alone, and the lengths of the pieces say where each lies in the tokenized whole. The answers, with the end marker
behind each, are supervised. Source of the three formats and rules: OpenGVLab/Ask-Anything video_chat2
(`dataset/it_dataset*.py`, `models/videochat_*/videochat2_it_*.py`; facts only); golden labels of the Mistral format are in
tests/golden.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from qtablate.datatypes import IMAGE, VIDEO
from qtablate.prompts.mvbench import ANSWER_PREFIX, LETTERS, format_question
from qtablate.prompts.segments import SegmentTemplate
from qtablate.prompts.types import (
    IGNORE,
    BosPosition,
    EncodedConversation,
    EncodedQuestion,
    Format,
    QFormerText,
    QuestionAnswers,
    Tokenize,
    common_prefix_length,
    instruction_only,
    split_options,
)

MEDIUM_TAGS = {VIDEO: ("<Video>", "</Video>"), IMAGE: ("<Image>", "</Image>")}
"""Texts around the visual tokens, by medium; plain text, not special tokens."""

WriteConversation = Callable[[str, str, QuestionAnswers], str]
"""(instruction, medium tags, pairs) -> the full text of a training conversation."""


@dataclass(frozen=True, slots=True)
class TurnMarkers:
    """The markers that delimit the human's turns in a text."""

    start: str
    """Begins a human's turn."""
    end: str
    """Ends a human's turn; an answer begins behind it."""
    stripped: bool = True
    """Whether pieces are tokenized without their trailing spaces when they are counted."""
    supervise_markers: bool = False
    """Vicuna's rule: the marker of a human's turn is supervised when it follows an answer or is the first one; so is the
    assistant's marker."""


@dataclass(frozen=True, slots=True)
class StringTemplate:
    """A format that tokenizes whole strings; implements `Format`."""

    write: WriteConversation
    """Writes a training conversation."""
    turns: TurnMarkers
    evaluation_prompt: str
    """One evaluation question as VideoChat2's notebooks write it, up to where the answer begins: the instruction stands
    before everything and again before the question."""
    end: str
    """Marker behind an answer."""
    media: Mapping[str, tuple[str, str]] = field(default_factory=lambda: MEDIUM_TAGS)
    qformer_rule: QFormerText = instruction_only
    bos: BosPosition = "start"
    medium_note: str = ""
    """Text right behind the medium's tags, such as `timestamp_sentence`."""

    @property
    def stop_strings(self) -> Sequence[str]:
        """Texts that end a generated answer."""
        return [self.end.strip()]

    @property
    def reserved_strings(self) -> Sequence[str]:
        """Turn markers and medium tags: a text that contains one would be split in the wrong place."""
        return [self.turns.start.strip(), self.turns.end.strip(), *map("".join, self.media.values())]

    def encode_conversation(
        self, medium: str, instruction: str, pairs: QuestionAnswers, tokenize: Tokenize
    ) -> EncodedConversation:
        """Encode a training conversation.

        Raises:
            ValueError: the text cannot be split into turns.
        """
        text = self.conversation_text(medium, instruction, pairs)
        return tokenize_and_mask(text, self.media[medium], self.turns, tokenize)

    def encode_question(
        self, medium: str, instruction: str, question: str, options: Sequence[str], tokenize: Tokenize
    ) -> EncodedQuestion:
        """Encode a question alone, with the full text of every option as a possible answer.

        Raises:
            ValueError: the text holds the medium's tags more than once.
        """
        prefix, prompt = self._prompt(medium, instruction, question, "")
        start = len(tokenize(prompt.rstrip() if self.turns.stripped else prompt))
        texts = [self._prompt(medium, instruction, question, f"{option}{self.end}")[1] for option in options]
        suffixes = [list(tokenize(text)) for text in texts]
        start = min(start, common_prefix_length(suffixes))  # a token may span the end of the prompt and the answer's start
        return EncodedQuestion(list(tokenize(prefix)), suffixes[0][:start], [ids[start:] for ids in suffixes])

    def encode_question_with_letters(
        self, medium: str, instruction: str, question: str, options: Sequence[str], tokenize: Tokenize
    ) -> EncodedQuestion:
        """Encode a question that lists its options; the possible answers are their letters.

        Raises:
            ValueError: the text holds the medium's tags more than once.
        """
        text = format_question(question, options)
        prompts = [self._prompt(medium, instruction, text, ANSWER_PREFIX + letter) for letter in LETTERS[: len(options)]]
        return split_options(list(tokenize(prompts[0][0])), [list(tokenize(suffix)) for _, suffix in prompts])

    def conversation_text(self, medium: str, instruction: str, pairs: QuestionAnswers) -> str:
        """Write a training conversation."""
        return self.write(instruction, self._tagged_medium(medium), pairs)

    def qformer_text(self, instruction: str, question: str, training: bool) -> str:
        """Return the text for a text-reading Q-Former, by `qformer_rule`."""
        return self.qformer_rule(instruction, question, training)

    def _prompt(self, medium: str, instruction: str, question: str, answer: str) -> tuple[str, str]:
        """Write an evaluation question and the start of its answer: (text before, text behind) the visual tokens."""
        shown = self._tagged_medium(medium)
        text = self.evaluation_prompt.format(system=instruction, shown=shown, question=question) + answer
        return split_at_media(text, self.media[medium])

    def _tagged_medium(self, medium: str) -> str:
        return "".join(self.media[medium]) + f" {self.medium_note}".rstrip()


def timestamp_sentence(seconds: Sequence[float]) -> str:
    """Write when the frames were sampled, as VideoChat2's `add_second_msg` does; one decimal, as its golden texts have."""
    return f"The video contains {len(seconds)} frames sampled at {', '.join(f'{time:.1f}' for time in seconds)} seconds."


def with_timestamps(template: Format, sentence: str) -> Format:
    """Return the format with a sentence right behind the medium's tags.

    Raises:
        ValueError: the format has no place for it.
    """
    if not isinstance(template, StringTemplate):
        raise ValueError("only VideoChat2's conversations have a place for timestamps, right behind the medium")
    return replace(template, medium_note=sentence)


def split_at_media(text: str, tags: tuple[str, str]) -> tuple[str, str]:
    """Split a text between the medium's opening and closing tag, where the visual tokens go.

    Raises:
        ValueError: the two tags do not stand next to each other exactly once.
    """
    opening, closing = tags
    parts = text.split(opening + closing)
    if len(parts) != 2:
        raise ValueError(f"expected {opening}{closing} once in the conversation, found it {len(parts) - 1} times")
    return parts[0] + opening, closing + parts[1]


def tokenize_and_mask(text: str, tags: tuple[str, str], turns: TurnMarkers, tokenize: Tokenize) -> EncodedConversation:
    """Encode a full conversation text that has one place for visual tokens.

    Raises:
        ValueError: the text cannot be split at the visual tokens or into turns.
    """
    prefix, suffix = split_at_media(text, tags)
    ids = list(tokenize(suffix))
    return EncodedConversation(list(tokenize(prefix)), ids, answer_labels(ids, suffix, turns, tokenize))


def answer_labels(ids: Sequence[int], text: str, turns: TurnMarkers, tokenize: Tokenize) -> list[int]:
    """Return labels for the ids of a text: answers are supervised (and, by Vicuna's rule, turn markers), the rest is IGNORE.

    Args:
        ids: the token ids of `text`, tokenized at once.
        text: the text behind the visual tokens.

    Raises:
        ValueError: the token counts of the pieces do not add up to that of the whole, so no answer can be located.
    """

    def length(piece: str) -> int:
        return len(tokenize(piece.rstrip() if turns.stripped else piece))

    pieces = text.split(turns.end)
    # the marker belongs to the question that it ends, but by Vicuna's rule to the answer that follows
    if turns.supervise_markers:
        pieces = [pieces[0], *(turns.end + piece for piece in pieces[1:])]
    else:
        pieces = [*(piece + turns.end for piece in pieces[:-1]), pieces[-1]]
    labels, start = list(ids), 0
    for number, piece in enumerate(pieces):
        size, first = length(piece), number == 0
        answer, has_question, _ = piece.partition(turns.start)
        if first:
            supervised = 0
        elif has_question:
            supervised = length(answer + (turns.start if turns.supervise_markers else ""))
        else:
            supervised = size
        marker = range(length(answer), length(answer) + length(turns.start)) if first and turns.supervise_markers else range(0)
        for offset in range(supervised, size):
            if offset not in marker and start + offset < len(labels):
                labels[start + offset] = IGNORE
        start += size
    if start != len(ids):
        raise ValueError(f"the turns have {start} tokens apart and {len(ids)} together, so no answer can be located")
    return labels


def _write_mistral(instruction: str, shown: str, pairs: QuestionAnswers) -> str:
    parts = [instruction] if instruction else []
    parts.append(f"[INST] {shown} [/INST]")
    for question, answer in pairs:
        parts += [f"[INST] {question} [/INST]"] if question else []
        parts.append(f"{answer} </s>")
    return " ".join(parts).strip()


def _write_vicuna(instruction: str, shown: str, pairs: QuestionAnswers) -> str:
    text = (f"{instruction} " if instruction else "") + f"###Human: {shown} "
    for question, answer in pairs:
        text += f"###Human: {question} " if question else ""
        text += f"###Assistant: {answer} "
    return text + "###"


def _write_phi(instruction: str, shown: str, pairs: QuestionAnswers) -> str:
    text = f"<|system|>\n{instruction}<|end|>\n" if instruction else ""
    for number, (question, answer) in enumerate(pairs):
        text += f"<|user|>\n{'' if number else shown + chr(10)}{question.strip()}<|end|>\n<|assistant|>\n"
        text += f"{answer.strip()}<|end|>\n"
    return text.strip()


def _instruction_and_question(instruction: str, question: str, training: bool) -> str:
    """Vicuna's rule: in training, where there is an instruction, the Q-Former reads the first question too."""
    return f"{instruction} {question}".strip() if instruction and training else instruction


MISTRAL = StringTemplate(
    _write_mistral,
    TurnMarkers("[INST] ", " [/INST] "),
    evaluation_prompt="{system}[INST] {shown} [/INST] [INST] {system}{question} [/INST] ",
    end=" </s>",
)
VICUNA = StringTemplate(
    _write_vicuna,
    TurnMarkers("###Human: ", "###Assistant: ", supervise_markers=True),
    evaluation_prompt="{system}###Human: {shown}\n###Human: {system}{question}\n###Assistant: ",
    end=" ###",
    qformer_rule=_instruction_and_question,
)
PHI = StringTemplate(
    _write_phi,
    TurnMarkers("<|user|>\n", "<|end|>\n<|assistant|>\n", stripped=False),
    evaluation_prompt="{system}<|user|>\n{shown}\n{system}{question}<|end|>\n<|assistant|>\n",
    end="<|end|>",
)
MISTRAL_CAPTION = SegmentTemplate(
    MEDIUM_TAGS, human=" ", assistant=" [/INST]", end="</s>", opening="[INST] ", bos="start", joined=True
)
"""Stage 2 of VideoChat2 (captions), where prompt and caption are tokenized apart."""
