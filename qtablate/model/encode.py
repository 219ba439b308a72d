"""Conversations -> token ids, labels, the places of the visual tokens, and what the Q-Former reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from qtablate.datatypes import Item, Sample
from qtablate.errors import DataError
from qtablate.prompts.segments import EOS, IGNORE, Asked, Format, Told
from qtablate.prompts.videochat2 import noted, seconds_told

Text = tuple[Tensor, Tensor]
"""(B, L) ids and (B, L) mask of what the Q-Former reads."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The Q-Former's own tokenizer (BERT's), where it reads text."""

    tokenizer: PreTrainedTokenizerBase
    longest: int
    padded_left: bool
    """As the original pads: positions then count the padding, so a sample's visual tokens depend on its batch. On the
    right they do not."""

    def read(self, texts: Sequence[str]) -> Text:
        """A text that is too long loses its beginning, as in the original."""
        self.tokenizer.truncation_side = "left"
        rows = [self.tokenizer(text, truncation=True, max_length=self.longest).input_ids for text in texts]
        length = max(map(len, rows), default=0)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(rows):
            span = slice(length - len(own), length) if self.padded_left else slice(0, len(own))
            ids[row, span], mask[row, span] = torch.tensor(own), 1
        return ids, mask


class Encoder:
    """Tokenises texts and remembers them: a benchmark asks the same few questions thousands of times."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        form: Format,
        reader: Reader | None = None,
        bos_as_value: bool = False,
        supervise_end: bool = True,
        tell_seconds: bool = False,
    ) -> None:
        self.tokenizer, self.form, self.reader = tokenizer, form, reader
        self.bos_as_value, self.supervise_end, self.tell_seconds = bos_as_value, supervise_end, tell_seconds
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text == EOS:
            return [self._special("eos")]
        if text not in self._known:
            self._known[text] = list(self.tokenizer(text, add_special_tokens=False).input_ids)
        return self._known[text]

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids)))

    def told(self, sample: Sample) -> Told:
        """Raises DataError naming a sample whose turns cannot be told apart."""
        try:
            found = self._form(sample).told(sample.medium, sample.instruction, sample.pairs, self.ids)
        except ValueError as error:
            raise DataError(f"sample {sample.id} ({sample.clip}): {error}") from None
        labels = found.labels
        if not self.supervise_end:
            labels = [IGNORE if label == self.tokenizer.eos_token_id else label for label in labels]
        front, behind = self._bos()
        return Told(front + found.before, behind + found.behind, [IGNORE] * len(behind) + labels)

    def asked(self, item: Item, lettered: bool = False) -> Asked:
        """With the options' texts to choose from, or listed and by their letters."""
        form = self._form(item)
        ask = form.lettered if lettered else form.asked
        found = ask(item.medium, item.instruction, item.question, item.options, self.ids)
        front, behind = self._bos()
        return Asked(front + found.before, behind + found.context, found.options)

    def read(self, conversations: Sequence[Sample | Item]) -> Text | None:
        """What the Q-Former reads of each; None where it reads nothing."""
        return self.reader.read([self.reads(one) for one in conversations]) if self.reader else None

    def reads(self, one: Sample | Item) -> str:
        """The Q-Former's text: the visual tokens of one clip are the same wherever this is."""
        if not self.reader:
            return ""
        training = isinstance(one, Sample)
        return self.form.qformer(one.instruction, one.pairs[0][0] if isinstance(one, Sample) else one.question, training)

    def _form(self, one: Sample | Item) -> Format:
        return noted(self.form, seconds_told(one.seconds)) if self.tell_seconds and one.seconds else self.form

    def _bos(self) -> tuple[list[int], list[int]]:
        bos = [self._special("bos")] if self.form.bos else []
        return (bos, []) if self.form.bos == "front" else ([], bos)

    def _special(self, name: str) -> int:
        found = getattr(self.tokenizer, f"{name}_token_id")
        if found is None:
            raise DataError(f"the tokenizer has no {name} token, and this model's conversations need one")
        return int(found)


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded sequences: causal attention never looks at what stands behind, so no mask is needed."""

    input_ids: Tensor
    """(B, L), zero at visual places and padding."""
    labels: Tensor
    """(B, L), IGNORE where not supervised."""
    visual_at: Tensor
    """(B, L) bool: where the visual tokens go."""
    read: Text | None
    """What the Q-Former reads."""
    first: float | None
    """What stands in place of the first token's embedding, in every component: the original's training feeds the number
    of its bos token there."""
    cut: int
    """Rows that were longer than allowed and lost their end."""


def batch(encoder: Encoder, samples: Sequence[Sample], visual: Sequence[int], longest: int) -> Batch:
    """Conversations as one batch.

    Args:
        visual: how many visual tokens each sample has.
        longest: tokens of text at most (the original's max_txt_len); what is beyond is cut off at the end.
    """
    rows: list[tuple[list[int], list[int], int]] = []
    cut = 0
    for sample, count in zip(samples, visual, strict=True):
        found, most = encoder.told(sample), longest + count
        ids = found.before + [0] * count + found.behind
        cut += len(ids) > most
        labels = [IGNORE] * (len(found.before) + count) + found.labels
        rows.append((ids[:most], labels[:most], len(found.before)))
    length = max((len(ids) for ids, _, _ in rows), default=0)
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels_out = torch.full((len(rows), length), IGNORE, dtype=torch.long)
    visual_at = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, ((ids, labels, start), count) in enumerate(zip(rows, visual, strict=True)):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels_out[row, : len(ids)] = torch.tensor(labels)
        visual_at[row, start : min(start + count, len(ids))] = True
    first = float(encoder.tokenizer.bos_token_id) if encoder.bos_as_value and encoder.form.bos == "front" else None
    return Batch(input_ids, labels_out, visual_at, encoder.read(samples), first, cut)
