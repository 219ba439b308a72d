"""Attention maps: where in the clip each visual token looks, and how much questions and answers attend to it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qtablate.datatypes import Item
from qtablate.model.encode import ConversationEncoder
from qtablate.model.video_lm import VideoLM

MAX_ITEMS = 64
"""Items that attention is averaged over."""
MAX_REGIONS = 4
"""Rows and columns of regions in a frame at most; a map of fewer patches keeps its own."""


@dataclass(frozen=True, slots=True)
class TokenAttention:
    """Attention from and to one visual token, mean over clips, layers and heads."""

    token: int
    extra: bool
    """Whether it is one of the extra tokens."""
    from_question: float
    """Share of a question's attention."""
    from_answer: float
    """Share of an answer's attention."""
    regions: dict[tuple[int, int, int], float]
    """Share of its cross-attention at each (frame, row, column)."""


def attention_maps(
    model: VideoLM, encoder: ConversationEncoder, items: Sequence[Item], features: Mapping[str, Tensor]
) -> list[TokenAttention]:
    """Return the attention of every visual token, over items of one medium with their gold answers.

    Args:
        model: trained, in eval mode.
        encoder: of texts.
        items: whose clips have features of one shape.
        features: frozen features (N, D) by clip.
    """
    queries = model.num_visual_tokens
    from_questions, from_answers = (torch.zeros(queries, dtype=torch.float64) for _ in range(2))
    maps: list[Tensor] = []
    with torch.inference_mode(), _attention_weights(model.qformer, model.language_model):
        for item in items:
            frames = features[item.clip][None].to(model.device)
            out = model.qformer(
                input_ids=None, query_embeds=model.queries(), encoder_hidden_states=frames, output_attentions=True
            )
            # layers without cross-attention give None
            crossed = torch.stack([layer[0] for layer in out.cross_attentions if layer is not None]).mean((0, 1))  # (Q, N)
            maps.append(_pool_regions(crossed, model))
            visual = model.projection(out.last_hidden_state)
            question, answer = _text_attention(model, encoder, item, visual)
            from_questions += question
            from_answers += answer
    total = maps[0]
    for regions in maps[1:]:
        total = total + regions
    places = [(frame, row, column) for frame, row, column in np.ndindex(*total.shape[1:])]
    shares = [dict(zip(places, row, strict=True)) for row in (total / len(items)).flatten(1).tolist()]
    base = model.config.num_query_tokens
    by_question, by_answer = ((sums / len(items)).tolist() for sums in (from_questions, from_answers))
    return [TokenAttention(n, n >= base, by_question[n], by_answer[n], shares[n]) for n in range(queries)]


def _text_attention(model: VideoLM, encoder: ConversationEncoder, item: Item, visual: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean attention of an item's question, and of its gold answer, to each visual token: (Q,) each, in fp64."""
    encoded = encoder.encode_item(item)
    gold = encoded.options[item.answer]
    first, *rest = (model.embed(torch.tensor([ids])) for ids in (encoded.prefix, encoded.context, gold))
    out = model.language_model(inputs_embeds=torch.cat([first, visual, *rest], 1), output_attentions=True)
    weights = torch.stack([layer[0] for layer in out.attentions]).double().mean((0, 1))  # (L, L)
    columns = slice(len(encoded.prefix), len(encoded.prefix) + visual.shape[1])
    question = weights.shape[0] - len(gold) - len(encoded.context)
    to_visual = weights[:, columns]
    return to_visual[question : -len(gold)].mean(0).cpu(), to_visual[-len(gold) :].mean(0).cpu()


@contextmanager
def _attention_weights(*modules: torch.nn.Module) -> Iterator[None]:
    """Have modules return their attention weights (eager attention) until the block ends."""
    before = [module.config._attn_implementation for module in modules]  # type: ignore[union-attr]
    for module in modules:
        module.set_attn_implementation("eager")  # type: ignore[operator]
    try:
        yield
    finally:
        for module, name in zip(modules, before, strict=True):
            module.set_attn_implementation(name)  # type: ignore[operator]


def _pool_regions(attention: Tensor, model: VideoLM) -> Tensor:
    """Sum attention over regions: (Q, N) over patches -> (Q, frames, rows, columns), at most MAX_REGIONS rows and columns."""
    vision = model.config.vision_config
    grid = vision.image_size // vision.patch_size
    frames = attention.shape[1] // grid**2
    patches = attention.view(len(attention), frames, grid, grid)
    regions = min(MAX_REGIONS, grid)
    pooled: Tensor = torch.nn.functional.adaptive_avg_pool2d(patches, regions) * (grid / regions) ** 2
    return pooled
