"""Multiple choice by likelihood, by letter and by generation, from one visual prefix a clip.

The visual tokens of a clip and what all questions begin with pass the language model once, all questions of the clip
continue from its cache, and all options of a question, or its generated answer, from the question's. Equal to scoring each
alone, to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache

from qtablate.datatypes import IMAGE, Item, Problem
from qtablate.model.encode import ConversationEncoder
from qtablate.model.video_lm import VideoLM
from qtablate.prompts.mvbench import MAX_NEW_TOKENS, SCORERS, first_line, parse_answer
from qtablate.prompts.types import EncodedQuestion, common_context_length

LIKELIHOOD, _, GENERATE, CIRCULAR = SCORERS
CLIPS_AT_ONCE = 128
ROWS_AT_ONCE = 192
_CACHE_BYTES = 4 << 30  # of keys and values at once, reckoned at _CACHE_TOKENS a row; of longer rows there are fewer
_CACHE_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one item by one scorer: for each option its summed log-likelihood and the number of tokens in the sum."""

    item: Item
    total: tuple[float, ...]
    """Empty where an answer was generated."""
    tokens: tuple[int, ...]
    how: str = LIKELIHOOD
    text: str = ""
    """The generated answer, its first line."""
    rotated: tuple[int, ...] = ()
    """Of `circular`: the option chosen in every rotation, by its place in the item."""

    @property
    def predicted(self) -> int:
        """The likeliest option, the first of equals; -1 where a generated answer names none, or rotations disagree."""
        if self.how == GENERATE:
            return parse_answer(self.text, self.item.options)
        if self.rotated:
            return self.rotated[0] if len(set(self.rotated)) == 1 else -1
        return max(range(len(self.total)), key=lambda option: self.total[option])

    @property
    def predicted_per_token(self) -> int:
        """The likeliest option by mean log-likelihood a token: long options are not punished for their length."""
        if not self.total or self.rotated:
            return self.predicted
        return max(range(len(self.total)), key=lambda option: self.total[option] / self.tokens[option])


@dataclass(frozen=True, slots=True)
class _Cache:
    """Keys and values of each layer after some text, a row each, and how many tokens that text has."""

    layers: list[tuple[Tensor, Tensor]]
    length: int

    @classmethod
    def after(cls, cache: Any, length: int) -> Self:
        return cls([(layer.keys, layer.values) for layer in cache.layers], length)

    def rows(self, which: Sequence[int]) -> DynamicCache:
        """A copy of some rows to continue from; a row may be named several times."""
        out, index = DynamicCache(), torch.tensor(which, device=self.layers[0][0].device)
        for layer, (key, value) in enumerate(self.layers):
            out.update(key[index], value[index], layer)
        return out


@dataclass(frozen=True, slots=True)
class _View:
    """One clip with one text for the Q-Former: everything that its visual tokens depend on."""

    clip: str
    read: str
    items: list[Item]


def score(
    model: VideoLM,
    encoder: ConversationEncoder,
    items: Sequence[Item],
    features: Callable[[str], Tensor],
    how: Sequence[str] = (LIKELIHOOD,),
) -> Iterator[list[Scores]]:
    """Scores of all items by every scorer, a group of clips at a time, in the order of the items' clips."""
    model.eval()
    views: dict[tuple[str, str], _View] = {}
    for item in items:
        read = encoder.qformer_text(item)
        views.setdefault((item.clip, read), _View(item.clip, read, [])).items.append(item)
    groups: dict[tuple[str, str, torch.Size], list[_View]] = {}
    for view in views.values():
        first = view.items[0]
        groups.setdefault((first.medium, first.instruction, features(view.clip).shape), []).append(view)
    clips, rows = at_once(model)
    for group in groups.values():
        most = _fewer(clips, model.count_visual_tokens(features(group[0].clip)))
        for start in range(0, len(group), most):
            some = group[start : start + most]
            with torch.inference_mode():
                yield _score_views(model, encoder, some, torch.stack([features(view.clip) for view in some]), rows, how)


def fits(
    model: VideoLM, encoder: ConversationEncoder, items: Sequence[Item], how: Sequence[str] = (LIKELIHOOD,)
) -> tuple[list[Item], list[Problem]]:
    """The items that every scorer can ask within the language model's places, and the others by name.

    An item's length is that of its visual tokens, its prompt and its longest option, or of the most tokens that are
    generated, by the scorer that needs most. A config that names no `max_position_embeddings` sets no limit. An item whose text
    has the markers that stand around visual tokens is left out as well: where the clip goes could not be told.
    """
    places = getattr(model.language_model.config, "max_position_embeddings", None)
    out: list[Item] = []
    problems: list[Problem] = []
    for item in items:
        visual = model.num_queries if item.medium == IMAGE else model.num_visual_tokens
        try:
            prompts = [(one.how, one.asked) for one in _prompts(encoder, item, 0, how)]
        except ValueError as error:
            problems.append(Problem(item.id, "unusable text", str(error)))
            continue
        needed, text, answer = max(
            (visual + text + answer, text, answer)
            for text, answer in (
                (len(asked.prefix) + len(asked.context), MAX_NEW_TOKENS if one == GENERATE else max(map(len, asked.options)))
                for one, asked in prompts
            )
        )
        if places is None or needed <= places:
            out.append(item)
        else:
            parts = f"{visual:,} visual, {text:,} of the prompt, {answer:,} of the longest answer"
            detail = f"{needed:,} tokens ({parts}); the language model has {places:,} places"
            problems.append(Problem(item.id, "text too long", detail))
    return out, problems


def _fewer(most: int, length: int) -> int:
    """How many rows of this many tokens take the memory of `most` rows of _CACHE_TOKENS; never more than `most`."""
    return max(1, most * _CACHE_TOKENS // max(length, _CACHE_TOKENS))


def at_once(model: VideoLM) -> tuple[int, int]:
    """(clips, rows) of at most _CACHE_TOKENS tokens whose keys and values are held together."""
    text = model.language_model.config
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    a_row = 2 * text.num_hidden_layers * heads * width * model.query_tokens.element_size() * _CACHE_TOKENS
    most = max(2, int(_CACHE_BYTES / 2 / a_row))
    return min(CLIPS_AT_ONCE, most), min(ROWS_AT_ONCE, most)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One prompt: an item, or a rotation of its options, by one scorer."""

    item: Item
    view: int
    how: str
    asked: EncodedQuestion


def _prompts(encoder: ConversationEncoder, item: Item, view: int, how: Sequence[str]) -> Iterator[_Ask]:
    for one in how:
        if one != CIRCULAR:
            yield _Ask(item, view, one, encoder.encode_item(item, with_letters=one != LIKELIHOOD))
        else:
            for first in range(len(item.options)):
                turned = replace(item, options=item.options[first:] + item.options[:first])
                yield _Ask(item, view, one, encoder.encode_item(turned, with_letters=True))


def _score_views(
    model: VideoLM, encoder: ConversationEncoder, views: list[_View], features: Tensor, rows: int, how: Sequence[str]
) -> list[Scores]:
    prompts = [
        prompt for number, view in enumerate(views) for item in view.items for prompt in _prompts(encoder, item, number, how)
    ]
    contexts = [one.asked.context for one in prompts]
    # what is held for every clip of the group is bounded, however long the texts are
    most = max(0, _CACHE_TOKENS - len(prompts[0].asked.prefix) - model.count_visual_tokens(features[0]))
    common = contexts[0][: min(common_context_length(contexts), most)]
    prefix = _prefix(model, encoder, features, [view.items[0] for view in views], prompts[0].asked.prefix, common)
    by_length: dict[tuple[bool, int], list[int]] = {}  # prompts of one length together: what is cached holds no padding
    for number, one in enumerate(prompts):
        by_length.setdefault((one.how == GENERATE, len(one.asked.context) - len(common)), []).append(number)
    found: dict[int, Scores] = {}
    for (generated, length), numbers in by_length.items():
        most = _fewer(rows, prefix.length + length)
        for start in range(0, len(numbers), most):
            some = numbers[start : start + most]
            these = [prompts[n] for n in some]
            questions = [one.asked.context[len(common) :] for one in these]
            cache, first = _ask(model, prefix, questions, [one.view for one in these], length)
            scores = _generate(model, encoder, cache, first, these) if generated else _answer(model, cache, first, these, rows)
            found.update(zip(some, scores, strict=True))
    return _gathered([found[number] for number in range(len(prompts))])


def _gathered(scores: list[Scores]) -> list[Scores]:
    """The rotations of one item made one; all else as it is."""
    out: list[Scores] = []
    turns: dict[str, list[int]] = {}
    for one in scores:
        if one.how != CIRCULAR:
            out.append(one)
            continue
        said, options = turns.setdefault(one.item.id, []), len(one.item.options)
        said.append((max(range(options), key=lambda place: one.total[place]) + len(said)) % options)
        if len(said) == options:
            out.append(Scores(one.item, (), (), CIRCULAR, rotated=tuple(said)))
    return out


def _prefix(
    model: VideoLM, encoder: ConversationEncoder, features: Tensor, items: list[Item], before: list[int], common: list[int]
) -> _Cache:
    """[before, visual tokens, what all questions begin with] of each clip."""
    visual = model.visual_tokens(features.to(model.device), text=encoder.qformer_inputs(items))  # (clip, Q, D)
    first, last = (model.embed(torch.tensor([ids], dtype=torch.long)).expand(len(visual), -1, -1) for ids in (before, common))
    embeds = torch.cat([first, visual.to(first.dtype), last], dim=1)
    nowhere = torch.zeros(embeds.shape[:2], dtype=torch.bool)  # nothing is told yet
    _, cache = model.logits_at(embeds, nowhere, use_cache=True)
    return _Cache.after(cache, embeds.shape[1])


def _ask(model: VideoLM, prefix: _Cache, questions: list[list[int]], clips: list[int], length: int) -> tuple[_Cache, Tensor]:
    """Questions of one length after their clips: the cache, and (row, vocabulary) log-probabilities of the next token."""
    ids = torch.tensor(questions)
    last = torch.zeros_like(ids, dtype=torch.bool)
    last[:, -1] = True
    logits, cache = model.logits_at(model.embed(ids), last, past_key_values=prefix.rows(clips), use_cache=True)
    return _Cache.after(cache, prefix.length + length), _log_probabilities(logits)


def _generate(model: VideoLM, encoder: ConversationEncoder, cache: _Cache, first: Tensor, prompts: list[_Ask]) -> list[Scores]:
    """Greedy answers, all prompts at once, until each has ended its first line or said enough."""
    eos, stops = encoder.tokenizer.eos_token_id, ["\n", *encoder.format.stop_strings]
    kept, told = cache.rows(range(len(prompts))), first
    said: list[list[int]] = [[] for _ in prompts]
    over = [False] * len(prompts)
    for _ in range(MAX_NEW_TOKENS):
        chosen = told.argmax(-1)
        for row, token in enumerate(chosen.tolist()):
            if over[row]:
                continue
            if token == eos:
                over[row] = True
                continue
            said[row].append(token)
            text = encoder.decode(said[row])
            over[row] = any(stop in text.lstrip() for stop in stops)
        if all(over):
            break
        everywhere = torch.ones_like(chosen[:, None], dtype=torch.bool)
        told, _ = model.logits_at(model.embed(chosen[:, None]), everywhere, past_key_values=kept, use_cache=True)
    out = []
    for prompt, ids in zip(prompts, said, strict=True):
        text = encoder.decode(ids)
        for stop in encoder.format.stop_strings:
            text = text.split(stop)[0]
        out.append(Scores(prompt.item, (), (), GENERATE, first_line(text)))
    return out


def _answer(model: VideoLM, cache: _Cache, first: Tensor, prompts: list[_Ask], most: int) -> list[Scores]:
    """Scores of every option of the prompts, a row of the cache each."""
    options = [(row, ids) for row, one in enumerate(prompts) for ids in one.asked.options]
    begun = first[torch.tensor([row for row, _ in options]), torch.tensor([ids[0] for _, ids in options])]
    totals = begun.double().tolist()
    ordered = sorted(range(len(options)), key=lambda n: len(options[n][1]))  # of one length together: little padding
    end = 0
    while end < len(ordered):
        start, last = end, ordered[min(end + most, len(ordered)) - 1]
        end += _fewer(most, cache.length + len(options[last][1]))
        some = [n for n in ordered[start:end] if len(options[n][1]) > 1]
        if not some:
            continue
        longest = max(len(options[n][1]) for n in some)
        ids = torch.zeros(len(some), longest, dtype=torch.long)
        for place, n in enumerate(some):
            ids[place, : len(options[n][1])] = torch.tensor(options[n][1])
        lengths = torch.tensor([len(options[n][1]) for n in some])
        wanted = torch.arange(longest - 1)[None] < lengths[:, None] - 1  # each of these tells the token behind it
        rows = cache.rows([options[n][0] for n in some])
        logits, _ = model.logits_at(model.embed(ids[:, :-1]), wanted, past_key_values=rows, use_cache=True)
        targets = ids[:, 1:][wanted][:, None].to(logits.device)
        told = _log_probabilities(logits).gather(1, targets)[:, 0].double().cpu()
        which = torch.arange(len(some))[:, None].expand_as(wanted)[wanted]
        sums = torch.zeros(len(some), dtype=torch.float64).index_add_(0, which, told)
        for n, total in zip(some, sums, strict=True):
            totals[n] += float(total)
    out, at = [], 0
    for one in prompts:
        span = range(at, at + len(one.asked.options))
        out.append(Scores(one.item, tuple(totals[n] for n in span), tuple(len(options[n][1]) for n in span), one.how))
        at = span.stop
    return out


def _log_probabilities(logits: Tensor) -> Tensor:
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
