"""Conversations -> token ids, labels, positions of the visual tokens, and the Q-Former's text.

Shapes: B conversations, L text tokens (visual positions included where said).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from qtablate.datatypes import Item, Sample
from qtablate.errors import DataError
from qtablate.prompts.types import EOS, IGNORE, EncodedConversation, EncodedQuestion, Format
from qtablate.prompts.videochat2 import timestamp_sentence, with_timestamps


class QFormerInputs(NamedTuple):
    """The text that a Q-Former reads beside its queries."""

    input_ids: Tensor
    """(B, L) token ids."""
    attention_mask: Tensor
    """(B, L) 1 for text, 0 for padding."""


@dataclass(frozen=True, slots=True)
class QFormerTokenizer:
    """The Q-Former's own tokenizer (BERT's), for models whose Q-Former reads text."""

    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    pad_left: bool
    """VideoChat2 pads on the left: positions then count the padding, so a sample's visual tokens depend on its batch.
    Padding on the right avoids that."""

    def encode(self, texts: Sequence[str]) -> QFormerInputs:
        """Tokenize and pad texts; a text that is too long loses its beginning, as in VideoChat2."""
        self.tokenizer.truncation_side = "left"
        rows = [self.tokenizer(text, truncation=True, max_length=self.max_tokens).input_ids for text in texts]
        length = max(map(len, rows), default=0)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            span = slice(length - len(tokens), length) if self.pad_left else slice(0, len(tokens))
            ids[row, span], mask[row, span] = torch.tensor(tokens), 1
        return QFormerInputs(ids, mask)


class ConversationEncoder:
    """Encodes samples and items with a model's tokenizer and conversation format.

    Tokenized texts are remembered: a benchmark repeats the same few questions thousands of times.

    Args:
        qformer_tokenizer: None where the Q-Former reads no text.
        bos_as_value: compatibility flag: feed the bos token's number in place of its embedding (VideoChat2's training).
        supervise_end: whether the end-of-text token is supervised (VideoChat2's stage 2 does not).
        tell_seconds: whether conversations state when a video's frames were sampled.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        format: Format,
        qformer_tokenizer: QFormerTokenizer | None = None,
        bos_as_value: bool = False,
        supervise_end: bool = True,
        tell_seconds: bool = False,
    ) -> None:
        self.tokenizer, self.format, self.qformer_tokenizer = tokenizer, format, qformer_tokenizer
        self.bos_as_value, self.supervise_end, self.tell_seconds = bos_as_value, supervise_end, tell_seconds
        self._token_ids: dict[str, list[int]] = {}
        self._conversations: dict[Sample, EncodedConversation] = {}

    def token_ids(self, text: str) -> list[int]:
        """Tokenize a text without special tokens; EOS gives the tokenizer's end-of-text token."""
        if text == EOS:
            return [self._special_token("eos")]
        if text not in self._token_ids:
            self._token_ids[text] = list(self.tokenizer(text, add_special_tokens=False).input_ids)
        return self._token_ids[text]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn token ids back into text."""
        return str(self.tokenizer.decode(list(ids)))

    def remember(self, samples: Iterable[Sample]) -> None:
        """Encode samples and keep the result for `encode_sample`.

        Raises:
            DataError: as encode_sample.
        """
        self._conversations |= {sample: self.encode_sample(sample) for sample in samples}

    def encode_sample(self, sample: Sample) -> EncodedConversation:
        """Encode a training sample.

        Raises:
            DataError: the sample's text cannot be split into turns; the message names the sample.
        """
        if sample in self._conversations:
            return self._conversations[sample]
        try:
            conversation = self._format_for(sample).encode_conversation(
                sample.medium, sample.instruction, sample.pairs, self.token_ids
            )
        except ValueError as error:
            raise DataError(f"sample {sample.id} ({sample.clip}): {error}") from None
        labels = conversation.labels
        if not self.supervise_end:
            labels = [IGNORE if label == self.tokenizer.eos_token_id else label for label in labels]
        start, after_visual = self._bos_ids()
        return EncodedConversation(
            start + conversation.prefix, after_visual + conversation.suffix, [IGNORE] * len(after_visual) + labels
        )

    def encode_item(self, item: Item, with_letters: bool = False) -> EncodedQuestion:
        """Encode a multiple-choice item; the answers are the options' texts, or their letters behind a listed question.

        Raises:
            ValueError: the item's text cannot be split at the visual tokens.
        """
        format = self._format_for(item)
        encode = format.encode_question_with_letters if with_letters else format.encode_question
        question = encode(item.medium, item.instruction, item.question, item.options, self.token_ids)
        start, after_visual = self._bos_ids()
        return EncodedQuestion(start + question.prefix, after_visual + question.context, question.options)

    def qformer_inputs(self, conversations: Sequence[Sample | Item]) -> QFormerInputs | None:
        """Tokenize what the Q-Former reads of each conversation; None where it reads no text."""
        if self.qformer_tokenizer is None:
            return None
        return self.qformer_tokenizer.encode([self.qformer_text(conversation) for conversation in conversations])

    def qformer_text(self, conversation: Sample | Item) -> str:
        """Return the Q-Former's text: conversations with equal text and clip have the same visual tokens."""
        if self.qformer_tokenizer is None:
            return ""
        training = isinstance(conversation, Sample)
        question = conversation.pairs[0][0] if isinstance(conversation, Sample) else conversation.question
        return self.format.qformer_text(conversation.instruction, question, training)

    def _format_for(self, conversation: Sample | Item) -> Format:
        if not (self.tell_seconds and conversation.seconds):
            return self.format
        return with_timestamps(self.format, timestamp_sentence(conversation.seconds))

    def _bos_ids(self) -> tuple[list[int], list[int]]:
        """Ids of the beginning-of-text token: (before everything, right behind the visual tokens)."""
        bos = [self._special_token("bos")] if self.format.bos != "none" else []
        return (bos, []) if self.format.bos == "start" else ([], bos)

    def _special_token(self, name: str) -> int:
        token = getattr(self.tokenizer, f"{name}_token_id")
        if token is None:
            raise DataError(f"the tokenizer has no {name} token, and this model's conversations need one")
        return int(token)


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Right-padded token sequences of a micro-batch.

    No attention mask is needed: causal attention never looks at the padding behind a position.
    """

    input_ids: Tensor
    """(B, L) token ids; 0 at visual positions and padding."""
    labels: Tensor
    """(B, L) labels; IGNORE where not supervised."""
    visual_mask: Tensor
    """(B, L) bool: positions of the visual tokens."""
    qformer_inputs: QFormerInputs | None
    first_embedding_value: float | None
    """Value of every component of the first token's embedding, where the model is trained as VideoChat2 was, which feeds the
    number of the bos token there; None: the token's own embedding."""
    lengths: list[int]
    """Tokens of each row, visual positions included."""
    truncated: int
    """Number of rows that were too long and lost their end."""


def collate(
    encoder: ConversationEncoder, samples: Sequence[Sample], visual_counts: Sequence[int], max_tokens: int
) -> TextBatch:
    """Encode samples and pad them to one batch.

    Args:
        visual_counts: number of visual tokens of each sample.
        max_tokens: maximum number of text tokens (VideoChat2's max_txt_len); longer sequences are cut at the end.
    """
    rows: list[tuple[list[int], list[int], int]] = []  # ids, labels, start of the visual tokens
    truncated = 0
    for sample, count in zip(samples, visual_counts, strict=True):
        conversation, limit = encoder.encode_sample(sample), max_tokens + count
        ids = conversation.prefix + [0] * count + conversation.suffix
        truncated += len(ids) > limit
        labels = [IGNORE] * (len(conversation.prefix) + count) + conversation.labels
        rows.append((ids[:limit], labels[:limit], len(conversation.prefix)))
    lengths = [len(ids) for ids, _, _ in rows]
    shape = len(rows), max(lengths, default=0)
    input_ids, padded_labels, visual_mask = np.zeros(shape, int), np.full(shape, IGNORE), np.zeros(shape, bool)
    for row, ((tokens, own_labels, start), count) in enumerate(zip(rows, visual_counts, strict=True)):
        input_ids[row, : len(tokens)], padded_labels[row, : len(tokens)] = tokens, own_labels
        visual_mask[row, start : min(start + count, len(tokens))] = True
    as_value = encoder.bos_as_value and encoder.format.bos == "start"
    first = float(encoder.tokenizer.bos_token_id) if as_value else None
    told, wanted, seen = map(torch.from_numpy, (input_ids, padded_labels, visual_mask))
    return TextBatch(told, wanted, seen, encoder.qformer_inputs(samples), first, lengths, truncated)
