"""The prompts of an item: one per scorer, and for `circular` one per rotation of its options."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qtablate.datatypes import Item
from qtablate.model.encode import ConversationEncoder
from qtablate.prompts.mvbench import SCORERS
from qtablate.prompts.types import EncodedQuestion

LIKELIHOOD, LETTER, GENERATE, CIRCULAR = SCORERS


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of the language model: an item, or a rotation of its options, for one scorer."""

    item: Item
    """The item as it is, whatever the rotation."""
    context: int
    """Number of its clip in the group that is scored together."""
    scorer: str
    question: EncodedQuestion


def build_prompts(encoder: ConversationEncoder, item: Item, context: int, scorers: Sequence[str]) -> Iterator[Prompt]:
    """Yield an item's prompts, in the order of the scorers.

    Raises:
        ValueError: the text cannot be put around the visual tokens.
    """
    for scorer in scorers:
        if scorer != CIRCULAR:
            yield Prompt(item, context, scorer, encoder.encode_item(item, with_letters=scorer != LIKELIHOOD))
        else:
            for first in range(len(item.options)):
                rotated = replace(item, options=item.options[first:] + item.options[:first])
                yield Prompt(item, context, scorer, encoder.encode_item(rotated, with_letters=True))
