"""What a scorer finds for an item, and the option that it predicts."""

from collections.abc import Sequence
from dataclasses import dataclass

from qtablate.datatypes import Item
from qtablate.evaluate.prompt import CIRCULAR, GENERATE, LIKELIHOOD
from qtablate.prompts.mvbench import parse_answer


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one item by one scorer."""

    item: Item
    log_likelihoods: tuple[float, ...]
    """Summed log-likelihood of each option; empty where an answer was generated."""
    token_counts: tuple[int, ...]
    """Number of tokens in each sum."""
    scorer: str = LIKELIHOOD
    text: str = ""
    """The generated answer, its first line."""
    rotation_choices: tuple[int, ...] = ()
    """Of `circular`: the option chosen in every rotation, by its place in the item."""

    @property
    def predicted(self) -> int:
        """The likeliest option, the first of equals; -1 where a generated answer names none, or rotations disagree."""
        if self.scorer == GENERATE:
            return parse_answer(self.text, self.item.options)
        if self.rotation_choices:
            return self.rotation_choices[0] if len(set(self.rotation_choices)) == 1 else -1
        return max(range(len(self.log_likelihoods)), key=lambda option: self.log_likelihoods[option])

    @property
    def predicted_per_token(self) -> int:
        """The likeliest option by mean log-likelihood per token, which does not favor short options."""
        if not self.log_likelihoods or self.rotation_choices:
            return self.predicted
        means = [total / count for total, count in zip(self.log_likelihoods, self.token_counts, strict=True)]
        return max(range(len(means)), key=lambda option: means[option])


def merge_rotations(scores: Sequence[Scores]) -> list[Scores]:
    """Replace the rotations of each `circular` item by one record; all other scores stay."""
    merged: list[Scores] = []
    choices_of: dict[str, list[int]] = {}
    for one in scores:
        if one.scorer != CIRCULAR:
            merged.append(one)
            continue
        choices, options = choices_of.setdefault(one.item.id, []), len(one.item.options)
        likeliest = max(range(options), key=lambda option: one.log_likelihoods[option])
        choices.append((likeliest + len(choices)) % options)  # the nth rotation begins with option n
        if len(choices) == options:
            merged.append(Scores(one.item, (), (), CIRCULAR, rotation_choices=tuple(choices)))
    return merged
