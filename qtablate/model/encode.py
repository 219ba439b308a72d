"""Pieces of conversation -> token ids, labels and the places of the visual tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from qtablate.bench.items import Sample
from qtablate.bench.prompts import Format, Piece, after_visual, before_visual, told

IGNORE = -100  # a position that is not supervised (torch's cross_entropy skips it)


class Encoder:
    """Tokenises pieces apart and remembers them: a benchmark asks the same few questions thousands of times."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, form: Format) -> None:
        self.tokenizer, self.form = tokenizer, form
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = list(self.tokenizer(text, add_special_tokens=False).input_ids)
        return self._known[text]

    def pieces(self, pieces: Sequence[Piece]) -> tuple[list[int], list[int]]:
        """(ids, labels) of the pieces in a row; only supervised ones are labelled."""
        ids: list[int] = []
        labels: list[int] = []
        for piece in pieces:
            new = self.ids(piece.text)
            ids += new
            labels += new if piece.supervised else [IGNORE] * len(new)
        return ids, labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded sequences: causal attention never looks at what stands behind, so no mask is needed."""

    input_ids: Tensor
    """(B, L), zero at visual places and padding."""
    labels: Tensor
    """(B, L), IGNORE where not supervised."""
    visual_at: Tensor
    """(B, L) bool: where the visual tokens go."""
    cut: int
    """Rows that were longer than allowed and lost their end."""


def batch(encoder: Encoder, samples: Sequence[Sample], visual_tokens: int, longest: int) -> Batch:
    """Conversations as one batch; a sequence beyond `longest` tokens is cut at its end."""
    rows: list[tuple[list[int], list[int], int]] = []
    cut = 0
    for sample in samples:
        start, _ = encoder.pieces(before_visual(encoder.form, sample.medium))
        tail = [*after_visual(encoder.form, sample.medium), *told(encoder.form, sample.pairs)]
        ids, labels = encoder.pieces(tail)
        head = len(start) + visual_tokens
        cut += head + len(ids) > longest
        rows.append((
            (start + [0] * visual_tokens + ids)[:longest],
            ([IGNORE] * head + labels)[:longest],
            len(start),
        ))  # fmt: skip
    length = max(len(ids) for ids, _, _ in rows)
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels_out = torch.full((len(rows), length), IGNORE, dtype=torch.long)
    visual_at = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (ids, labels, start_length) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels_out[row, : len(ids)] = torch.tensor(labels)
        visual_at[row, start_length : start_length + visual_tokens] = True
    return Batch(input_ids, labels_out, visual_at, cut)
