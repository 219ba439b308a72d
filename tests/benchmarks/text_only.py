"""Measures whether questions can be answered from their texts: trains a reader of texts and scores it on new questions.

    python tests/benchmarks/text_only.py [--train 2500] [--items 6000] [--epochs 6] [--out results/nano/text_only.csv]

Questions are drawn by the benchmark's own rules, `--train` and `--items` per task, from two splits of their own. The reader
is a small transformer that receives the question and all options in their order and scores each option.

Bound: a task passes when the reader is within 2 points or within 2.5 standard errors of chance (20 tasks are tested). A
second reader, with the same training but three leaks planted in the texts, shows whether a leak would be detected. A planted
leak counts as found when the reader gains at least half of what it reveals.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from learner import SEED, WIDTH, Say, body, clock, correct, fit, markdown, options, write
from numpy.typing import NDArray
from torch import Tensor, nn

from qtablate.datatypes import Item
from qtablate.model.encode import ConversationEncoder
from qtablate.model.initialize import initialize
from qtablate.nano.tokenizer import build, world_words
from qtablate.prompts.registry import NANO_FORMAT
from qtablate.seeds import Rng, derive
from qtablate.world.benchmark import WorldBench
from qtablate.world.questions import TASKS
from qtablate.world.scene import COLORS

POINTS, ERRORS = 2.0, 2.5


@dataclass(frozen=True, slots=True)
class Texts:
    """Questions with their options as arrays, one row per question."""

    ids: NDArray[np.int64]
    """Tokens of the question, then of each option after a marker; padded with 0."""
    parts: NDArray[np.int64]
    """Part of each token: 0 for the question, n for the n-th option, -1 for padding."""
    markers: NDArray[np.int64]
    """Positions of the options' markers; -1 for missing options."""
    gold: NDArray[np.int64]


def encoded(encoder: ConversationEncoder, items: Sequence[Item]) -> Texts:
    rows = []
    for item in items:
        ids, markers = list(encoder.token_ids(item.question)), []
        parts = [0] * len(ids)
        for number, option in enumerate(item.options, start=1):
            new = [*encoder.token_ids("<a>"), *encoder.token_ids(option)]
            markers.append(len(ids))
            ids += new
            parts += [number] * len(new)
        rows.append((ids, parts, markers))
    ids_of, parts_of, markers_of = (padded([row[n] for row in rows], fill) for n, fill in enumerate((0, -1, -1)))
    return Texts(ids_of, parts_of, markers_of, np.array([item.answer for item in items]))


def padded(rows: Sequence[Sequence[int]], fill: int) -> NDArray[np.int64]:
    out = np.full((len(rows), max(map(len, rows))), fill)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
    return out


class Reader(nn.Module):
    """Score each option from the texts alone."""

    def __init__(self, vocabulary: int, longest: int, options: int) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(vocabulary, WIDTH), nn.Embedding(longest, WIDTH)
        self.part = nn.Embedding(options + 1, WIDTH)
        self.body = body()
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, ids: Tensor, parts: Tensor, markers: Tensor) -> Tensor:
        x = self.word(ids) + self.place.weight[: ids.shape[1]] + self.part(parts.clamp(min=0))
        scores = self.score(self.body(x, src_key_padding_mask=parts < 0))[..., 0]
        chosen: Tensor = scores.gather(1, markers.clamp(min=0))
        return chosen.masked_fill(markers < 0, -math.inf)


def rows_of(texts: Texts, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    """The reader's inputs, cut to the longest row."""
    longest = int((texts.parts[rows] >= 0).sum(1).max())
    ids, parts = texts.ids[rows, :longest], texts.parts[rows, :longest]
    return torch.from_numpy(ids), torch.from_numpy(parts), torch.from_numpy(texts.markers[rows])


def trained(texts: Texts, vocabulary: int, epochs: int, say: Say) -> Reader:
    reader = Reader(vocabulary, texts.ids.shape[1] + 8, texts.markers.shape[1])
    initialize(reader, SEED, "reader")
    generator = np.random.Generator(np.random.Philox(derive("text-only", SEED)))
    order = np.concatenate([generator.permutation(len(texts.gold)) for _ in range(epochs)])

    def loss(span: slice) -> Tensor:
        rows = order[span]
        return nn.functional.cross_entropy(reader(*rows_of(texts, rows)), torch.from_numpy(texts.gold[rows]))

    fit(reader, loss, len(order), say)
    return reader


def read(reader: Reader, texts: Texts) -> NDArray[np.bool_]:
    """Whether the reader answers each question correctly."""
    return correct(reader, lambda rows: reader(*rows_of(texts, rows)), texts.gold)


def by_color(item: Item) -> Item:
    """Move the gold option to a position that depends on the color in the question."""
    color = next(number for number, name in enumerate(COLORS) if f" {name} " in item.question)
    return _moved(item, color % len(item.options))


def longest(item: Item) -> Item:
    """Make the gold option the longest by repeating words."""
    rng = Rng("text-only", "longest", item.id)
    most = 2 + rng.randrange(2)
    times = [most if n == item.answer else 1 + rng.randrange(most - 1) for n in range(len(item.options))]
    return replace(item, options=tuple(" ".join([text] * k) for text, k in zip(item.options, times, strict=True)))


def often_first(item: Item) -> Item:
    """Move one gold option in eight to the front: a weak leak."""
    return _moved(item, 0) if Rng("text-only", "first", item.id).bernoulli(1 / 8) else item


def _moved(item: Item, place: int) -> Item:
    options = [text for n, text in enumerate(item.options) if n != item.answer]
    options.insert(place, item.options[item.answer])
    return replace(item, options=tuple(options), answer=place)


PLANTS: dict[str, tuple[Callable[[Item], Item], float]] = {
    "action_prediction": (by_color, 1.0),
    "moving_attribute": (longest, 1.0),
    "object_shuffle": (often_first, 1 / 8),
}
"""Task -> (function that plants its leak, share of its questions that the leak reveals)."""


def planted(items: Sequence[Item]) -> list[Item]:
    return [PLANTS[item.task][0](item) if item.task in PLANTS else item for item in items]


def entropy(items: Sequence[Item]) -> float:
    """Entropy of the gold texts as a share of that of a uniform distribution over all texts that are options."""
    golds = Counter(item.options[item.answer] for item in items)
    shares = np.array(list(golds.values())) / len(items)
    return float(-(shares * np.log(shares)).sum() / math.log(len({text for item in items for text in item.options})))


def table(texts: str, items: Sequence[Item], right: NDArray[np.bool_]) -> pd.DataFrame:
    rows = []
    for task in TASKS:
        mine = [n for n, item in enumerate(items) if item.task == task]
        chance = np.array([1 / len(items[n].options) for n in mine])
        over = right[mine] - chance
        spoilt = texts == "planted" and task in PLANTS
        error = 100 * over.std() / math.sqrt(len(mine))
        difference = 100 * over.mean()
        gain = 100 * (PLANTS[task][1] * (1 - chance)).mean() if spoilt else 0.0
        verdict = (
            ("found" if difference > gain / 2 else "missed")
            if spoilt
            else ("held" if difference <= max(POINTS, ERRORS * error) else "LEAK")
        )
        rows.append(
            {
                "texts": "planted leak" if spoilt else texts,
                "task": task,
                "n": len(mine),
                "chance": 100 * chance.mean(),
                "reader": 100 * right[mine].mean(),
                "difference": difference,
                "stderr": error,
                "entropy": entropy([items[n] for n in mine]),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    arguments = options(__doc__, "results/nano/text_only.csv", 2500, 6000, 6).parse_args()
    say = clock()
    splits = ("textonly", "textonlyheldout")
    counts = (arguments.train, arguments.items)
    train, held_out = (WorldBench(n, split=split).items for split, n in zip(splits, counts, strict=True))
    say(f"{len(train)} questions to train on, {len(held_out)} to score")
    tokenizer = build(world_words())
    encoder = ConversationEncoder(tokenizer, NANO_FORMAT)
    frames = []
    for texts, spoil in (("as asked", list), ("planted", planted)):
        say(f"texts {texts}")
        learned, scored = encoded(encoder, spoil(train)), spoil(held_out)
        reader = trained(learned, len(tokenizer), arguments.epochs, say)
        right = read(reader, encoded(encoder, scored))
        say(f"seen questions {100 * read(reader, learned).mean():.1f} %, new questions {100 * right.mean():.1f} %")
        frames.append(table(texts, scored, right))
    out = pd.concat(frames, ignore_index=True)
    write(arguments.out, out, markdown(out, 2))


if __name__ == "__main__":
    main()
