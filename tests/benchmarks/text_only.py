"""Can a question be answered from its text? Trains a reader of texts alone and scores it on questions it has not seen.

    python tests/benchmarks/text_only.py [--train 2500] [--items 6000] [--epochs 6] [--out results/nano/text_only.csv]

Questions are drawn by the benchmark's own rules, `--train` and `--items` a task, from two splits of their own. The
reader is a small transformer that sees the question and all options in the order shown and gives each option a score.

Bound: a task holds when the reader is within 2 points of chance, or further off by less than 2.5 standard errors
(20 tasks are looked at). Whether the reader could find a leak is shown by a second one: same reader, same budget, but
with three leaks planted in the texts. A planted leak counts as found when the reader gets at least half of what it gives.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qtablate.bench.items import Item
from qtablate.bench.prompts import FORMATS
from qtablate.bench.world.benchmark import WorldBench
from qtablate.bench.world.questions import TASKS
from qtablate.bench.world.scene import COLOURS
from qtablate.model.encode import Encoder
from qtablate.model.initialise import initialise
from qtablate.model.tokenizer import build, world_words
from qtablate.pretrain import one_cycle
from qtablate.seeds import Dice, derive

SEED = 1
WIDTH, LAYERS, HEADS = 96, 3, 4
BATCH, PEAK = 128, 1.5e-3
POINTS, ERRORS = 2.0, 2.5


@dataclass(frozen=True, slots=True)
class Texts:
    """Questions with their options as arrays, a row each."""

    ids: NDArray[np.int64]
    """Tokens of the question, then of each option behind a marker; 0 behind the last."""
    parts: NDArray[np.int64]
    """Of each token: 0 in the question, n in the n-th option, -1 behind the last."""
    markers: NDArray[np.int64]
    """Places of the options' markers; -1 where a question has fewer options than others."""
    gold: NDArray[np.int64]


def encoded(encoder: Encoder, items: Sequence[Item]) -> Texts:
    rows = []
    for item in items:
        ids, markers = list(encoder.ids(item.question)), []
        parts = [0] * len(ids)
        for number, option in enumerate(item.options, start=1):
            new = [*encoder.ids("<a>"), *encoder.ids(option)]
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
    """Texts -> a score an option."""

    def __init__(self, vocabulary: int, longest: int, options: int) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(vocabulary, WIDTH), nn.Embedding(longest, WIDTH)
        self.part = nn.Embedding(options + 1, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, ids: Tensor, parts: Tensor, markers: Tensor) -> Tensor:
        x = self.word(ids) + self.place.weight[: ids.shape[1]] + self.part(parts.clamp(min=0))
        scores = self.score(self.body(x, src_key_padding_mask=parts < 0))[..., 0]
        chosen: Tensor = scores.gather(1, markers.clamp(min=0))
        return chosen.masked_fill(markers < 0, -math.inf)


def rows_of(texts: Texts, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    longest = int((texts.parts[rows] >= 0).sum(1).max())
    ids, parts = texts.ids[rows, :longest], texts.parts[rows, :longest]
    ids_t, parts_t, markers, gold = (torch.from_numpy(x) for x in (ids, parts, texts.markers[rows], texts.gold[rows]))
    return ids_t, parts_t, markers, gold


def trained(texts: Texts, vocabulary: int, epochs: int, say: Callable[[str], None]) -> Reader:
    reader = Reader(vocabulary, texts.ids.shape[1] + 8, texts.markers.shape[1])
    initialise(reader, SEED, "reader")
    optimizer = torch.optim.AdamW(reader.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
    generator = np.random.Generator(np.random.Philox(derive("text-only", SEED)))
    n = len(texts.gold)
    order = np.concatenate([generator.permutation(n) for _ in range(epochs)])
    steps, recent = len(order) // BATCH, 0.0
    for step in range(steps):
        *inputs, gold = rows_of(texts, order[step * BATCH : (step + 1) * BATCH])
        loss = nn.functional.cross_entropy(reader(*inputs), gold)
        optimizer.param_groups[0]["lr"] = one_cycle(step, steps, PEAK)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        recent += loss.item()
        if step % 200 == 199:
            say(f"step {step + 1} of {steps}, loss {recent / 200:.4f}")
            recent = 0.0
    return reader


@torch.inference_mode()
def correct(reader: Reader, texts: Texts) -> NDArray[np.bool_]:
    reader.eval()
    found = []
    for rows in np.array_split(np.arange(len(texts.gold)), len(texts.gold) // 500 + 1):
        *inputs, gold = rows_of(texts, rows)
        found.append((reader(*inputs).argmax(1) == gold).numpy())
    return np.concatenate(found)


def by_colour(item: Item) -> Item:
    """The gold option stands where the colour named in the question says."""
    colour = next(number for number, name in enumerate(COLOURS) if f" {name} " in item.question)
    return _moved(item, colour % len(item.options))


def longest(item: Item) -> Item:
    """The gold option is the longest: words are said several times."""
    dice = Dice("text-only", "longest", item.id)
    most = 2 + dice.below(2)
    times = [most if n == item.answer else 1 + dice.below(most - 1) for n in range(len(item.options))]
    return replace(item, options=tuple(" ".join([text] * k) for text, k in zip(item.options, times, strict=True)))


def often_first(item: Item) -> Item:
    """One gold option in eight is moved to the front, the others stay: a weak leak."""
    return _moved(item, 0) if Dice("text-only", "first", item.id).chance(1 / 8) else item


def _moved(item: Item, place: int) -> Item:
    options = [text for n, text in enumerate(item.options) if n != item.answer]
    options.insert(place, item.options[item.answer])
    return replace(item, options=tuple(options), answer=place)


PLANTS: dict[str, tuple[Callable[[Item], Item], float]] = {
    "action_prediction": (by_colour, 1.0),
    "moving_attribute": (longest, 1.0),
    "object_shuffle": (often_first, 1 / 8),
}
"""Task -> how its texts are spoilt, and the share of its questions that this gives away."""


def planted(items: Sequence[Item]) -> list[Item]:
    return [PLANTS[item.task][0](item) if item.task in PLANTS else item for item in items]


def entropy(items: Sequence[Item]) -> float:
    """Of the gold texts, as a share of what equally many of each text that is ever an option would have."""
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
        rows.append({
            "texts": "planted leak" if spoilt else texts, "task": task, "n": len(mine), "chance": 100 * chance.mean(),
            "reader": 100 * right[mine].mean(), "difference": difference, "se": error,
            "entropy": entropy([items[n] for n in mine]), "verdict": verdict,
        })  # fmt: skip
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame) -> str:
    cells = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in frame.itertuples(index=False)]
    rows = [list(frame.columns), ["---"] * len(frame.columns), *cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=2500)
    parser.add_argument("--items", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("results/nano/text_only.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - start:6.0f} s  {text}", flush=True)

    splits = ("textonly", "textonlyheldout")
    counts = (arguments.train, arguments.items)
    train, held_out = (WorldBench(n, split=split).items for split, n in zip(splits, counts, strict=True))
    say(f"{len(train)} questions to train on, {len(held_out)} to score")
    tokenizer = build(world_words())
    encoder = Encoder(tokenizer, FORMATS["nano"])
    frames = []
    for texts, spoil in (("as asked", list), ("planted", planted)):
        say(f"texts {texts}")
        learned, scored = encoded(encoder, spoil(train)), spoil(held_out)
        reader = trained(learned, len(tokenizer), arguments.epochs, say)
        right = correct(reader, encoded(encoder, scored))
        say(f"seen questions {100 * correct(reader, learned).mean():.1f} %, new questions {100 * right.mean():.1f} %")
        frames.append(table(texts, scored, right))
    out = pd.concat(frames, ignore_index=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    out.round(4).to_csv(arguments.out, index=False)
    arguments.out.with_suffix(".md").write_text(markdown(out))
    print(markdown(out))


if __name__ == "__main__":
    main()
