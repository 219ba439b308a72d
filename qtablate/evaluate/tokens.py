"""What the visual tokens of a trained model hold: how alike they are, how many of them it takes, who attends to them, and
where they look."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from qtablate.datatypes import Item
from qtablate.evaluate.score import score
from qtablate.model.encode import ConversationEncoder
from qtablate.model.similarity import cosine, effective_rank
from qtablate.model.video_lm import VideoLM
from qtablate.records import QueryDiversity
from qtablate.statistics.clustered import ClusteredMean, clustered_mean

SAMPLE = 25  # items a task that the curves are drawn from
LOOKED_AT = 64  # items of which attention is recorded
GROUPS = 4  # of extra tokens that are replaced by their mean, one at a time
PLACES = 4  # rows and columns that a frame is told in


@dataclass(frozen=True, slots=True)
class Held:
    """Accuracy with a part of the tokens."""

    what: str
    """`first` extra tokens kept, all others gone; or `mean`: these tokens replaced by their mean over clips."""
    tokens: tuple[int, int]
    """From this one to before that one, counted from the first base token."""
    accuracy: ClusteredMean
    change: ClusteredMean
    """Against the whole model, paired by item."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one visual token attends to and is attended from, mean over clips, layers and heads."""

    token: int
    extra: bool
    from_question: float
    """Share of the attention of a question's positions."""
    from_answer: float
    places: dict[tuple[int, int, int], float]
    """Share of its cross-attention at each (frame, row, column)."""


def query_diversity(model: VideoLM, started: Tensor, features: Tensor) -> QueryDiversity:
    """Of the extra tokens: their queries and what leaves the Q-Former for these clips (B, N, D). `started` (1, Q, D) is
    what all queries began with."""
    base = model.config.num_query_tokens
    table = model.extra_query_tokens.detach()[0]
    with torch.inference_mode():
        out = model.visual_tokens(features.to(model.device))[:, base:].float()
    moved = (model.queries().detach() - started)[0].norm(dim=-1)
    return QueryDiversity(
        effective_rank(table),
        cosine(table),
        effective_rank(out),
        cosine(out),
        float(moved[base:].mean()),
        float(moved[:base].mean()),
    )


def sample(items: Sequence[Item], each: int = SAMPLE) -> list[Item]:
    """The first items of every task."""
    taken: dict[str, int] = {}
    out = []
    for item in items:
        taken[item.task] = taken.get(item.task, 0) + 1
        if taken[item.task] <= each:
            out.append(item)
    return out


@contextmanager
def first_kept(model: VideoLM, count: int) -> Iterator[None]:
    """The model with its first extra tokens alone."""
    whole, config = model.extra_query_tokens.data, model.config
    held = config.extra_num_query_tokens
    config.extra_num_query_tokens, model.extra_query_tokens.data = count, whole[:, :count]
    try:
        yield
    finally:
        config.extra_num_query_tokens, model.extra_query_tokens.data = held, whole


@contextmanager
def replaced(model: VideoLM, start: int, end: int, mean: Tensor) -> Iterator[None]:
    """The model with some visual tokens the same for every clip: (Q, D) of their means."""

    def replace(module: torch.nn.Module, arguments: object, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, start:end] = mean[start:end].to(out.dtype)
        return out

    handle = model.projection.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def parts(base: int, extra: int) -> list[tuple[str, int, int]]:
    """Which parts of the tokens are tried: the first 0, 1, 2, 4, ... extra ones, the base ones, and groups of extra ones."""
    kept = [0, *(1 << power for power in range(extra.bit_length()) if 1 << power < extra)] if extra else []
    edges = sorted({base + round(extra * n / min(GROUPS, extra)) for n in range(min(GROUPS, extra) + 1)}) if extra else []
    groups = [(0, base), *pairwise(edges)]
    return [*(("first", base, base + count) for count in kept), *(("mean", start, end) for start, end in groups)]


def curve(
    model: VideoLM,
    encoder: ConversationEncoder,
    items: Sequence[Item],
    features: Mapping[str, Tensor],
    report: Callable[[int, int], None],
) -> list[Held]:
    """What a sample of the items is worth without some of the tokens. Nothing is trained anew: the rest was used to them."""
    clusters = [item.cluster for item in items]

    def right() -> list[float]:
        found = {one.item.id: one for group in score(model, encoder, items, features.__getitem__) for one in group}
        return [float(found[item.id].predicted == item.answer) for item in items]

    with torch.inference_mode():
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for clip in dict.fromkeys(item.clip for item in items):
            by_shape.setdefault(features[clip].shape, []).append(features[clip])
        means = [model.visual_tokens(torch.stack(some).to(model.device)).sum(0) for some in by_shape.values()]
        mean = torch.stack(means).sum(0) / sum(map(len, by_shape.values()))
    whole = right()
    out = []
    tried = parts(model.config.num_query_tokens, model.config.extra_num_query_tokens)
    for number, (what, start, end) in enumerate(tried):
        kept = end - start
        with first_kept(model, kept) if what == "first" else replaced(model, start, end, mean):
            some = right()
        change = clustered_mean([a - b for a, b in zip(some, whole, strict=True)], clusters)
        out.append(Held(what, (start, end), clustered_mean(some, clusters), change))
        report(number + 1, len(tried))
    return out


@contextmanager
def _recorded(*parts: torch.nn.Module) -> Iterator[None]:
    """Parts that give their attention weights."""
    before = [part.config._attn_implementation for part in parts]  # type: ignore[union-attr]
    for part in parts:
        part.set_attn_implementation("eager")  # type: ignore[operator]
    try:
        yield
    finally:
        for part, name in zip(parts, before, strict=True):
            part.set_attn_implementation(name)  # type: ignore[operator]


def looks(model: VideoLM, encoder: ConversationEncoder, items: Sequence[Item], features: Mapping[str, Tensor]) -> list[Look]:
    """Attention to and from every visual token, over items of one medium with their gold answers."""
    queries = model.num_visual_tokens
    asking, telling = (torch.zeros(queries, dtype=torch.float64) for _ in range(2))
    maps: Tensor | None = None
    with torch.inference_mode(), _recorded(model.qformer, model.language_model):
        for item in items:
            own = features[item.clip][None].to(model.device)
            seen = model.qformer(
                input_ids=None, query_embeds=model.queries(), encoder_hidden_states=own, output_attentions=True
            )
            crossed = torch.stack([one[0] for one in seen.cross_attentions if one is not None]).mean((0, 1))
            crossed = _in_places(crossed, model)
            maps = crossed if maps is None else maps + crossed
            visual = model.projection(seen.last_hidden_state)
            asked = encoder.encode_item(item)
            told = asked.options[item.answer]
            first, *rest = (model.embed(torch.tensor([ids])) for ids in (asked.prefix, asked.context, told))
            text = model.language_model(inputs_embeds=torch.cat([first, visual, *rest], 1), output_attentions=True)
            weights = torch.stack([one[0] for one in text.attentions]).double().mean((0, 1))  # (L, L)
            start, answer = len(asked.prefix), len(told)
            question = weights.shape[0] - answer - len(asked.context)
            asking += weights[question:-answer, start : start + queries].mean(0).cpu()
            telling += weights[-answer:, start : start + queries].mean(0).cpu()
    assert maps is not None
    places = [(frame, row, column) for frame, row, column in np.ndindex(*maps.shape[1:])]
    shares = [dict(zip(places, row, strict=True)) for row in (maps / len(items)).flatten(1).tolist()]
    base = model.config.num_query_tokens
    from_question, from_answer = ((total / len(items)).tolist() for total in (asking, telling))
    return [Look(n, n >= base, from_question[n], from_answer[n], shares[n]) for n in range(queries)]


def _in_places(attention: Tensor, model: VideoLM) -> Tensor:
    """(Q, N) over patches -> (Q, frames, rows, columns), patches summed to at most PLACES rows and columns."""
    vision = model.config.vision_config
    grid = vision.image_size // vision.patch_size
    frames = attention.shape[1] // grid**2
    out = attention.view(len(attention), frames, grid, grid)
    places = min(PLACES, grid)
    pooled: Tensor = torch.nn.functional.adaptive_avg_pool2d(out, places) * (grid / places) ** 2
    return pooled
